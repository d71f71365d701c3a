//! Where the peers' programs are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PeerError;

/// What to do about a peer that is not there.
pub(super) const INSTALL_HINT: &str = "run bench/peers/install";

/// Debian keeps daemons where a user's `PATH` may not look.
const EXTRA_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Looks at `variable` of the environment, then in the installer's folder, then on the `PATH`.
pub(super) fn program(
    name: &'static str,
    variable: &str,
    installed: Option<&str>,
) -> Result<PathBuf, PeerError> {
    if let Some(named) = env::var_os(variable) {
        let named = PathBuf::from(named);
        let hint = "the environment names a program that is not there";
        return if named.is_file() {
            Ok(named)
        } else {
            Err(PeerError::Missing { name, hint })
        };
    }
    let from_installer = installed.map(|path| target_directory().join(path));
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = EXTRA_DIRECTORIES.map(PathBuf::from);
    let on_path = env::split_paths(&path)
        .chain(extra)
        .map(|directory| directory.join(name));
    from_installer
        .into_iter()
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .ok_or(PeerError::Missing {
            name,
            hint: INSTALL_HINT,
        })
}

/// Cargo's target directory: the one in the environment, else the workspace's.
pub(super) fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// The first line that `program` prints for `arguments`, on either output.
pub(super) fn version_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}
