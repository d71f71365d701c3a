//! Files of people: bounded when read, closed to others when they hold a key.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use control_plane::ca::authority::Leaf;

use super::Failed;

/// A chain of a dozen certificates with the largest keys has about 64 KiB.
pub(super) const BYTES_MAX: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(failed(path, "read", &error)),
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, Failed> {
    let text = String::from_utf8(read(path)?);
    text.map_err(|_| Failed::Other(format!("{}: this is not text", path.display())))
}

/// Writes `OUT.pem`, and `OUT.key` first if there is a key.
pub(super) fn write_leaf(out: &Path, leaf: &Leaf) -> Result<Vec<PathBuf>, Failed> {
    let mut written = Vec::new();
    if let Some(key) = &leaf.key {
        let path = with_ending(out, "key");
        write(&path, key.expose(), 0o600)?;
        written.push(path);
    }
    let path = with_ending(out, "pem");
    write(&path, &leaf.chain, 0o644)?;
    written.insert(0, path);
    Ok(written)
}

/// Appends, because a name such as `v1.2` has a dot of its own.
fn with_ending(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Written aside and renamed, so that a server that reads at any time finds a whole file.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failed> {
    let aside = with_ending(path, "new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(&aside);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&aside, path));
    renamed.map_err(|error| failed(path, "write", &error))
}

fn failed(path: &Path, action: &str, error: &io::Error) -> Failed {
    Failed::Other(format!("{}: cannot {action} it: {error}", path.display()))
}
