//! The programs.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

/// Set to 1 where a missing program is a failure.
const REQUIRE_PEERS: &str = "WEIR_REQUIRE_PEERS";

/// A directory in which everything runs.
pub(crate) struct Place(TempDir);

impl Place {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With an authority of `mesh.example` in `ca`.
    pub(crate) fn with_authority() -> Self {
        let place = Self::new();
        place.ok("ca init --dir ca --trust-domain mesh.example");
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    pub(crate) fn weir(&self, arguments: &str) -> Output {
        self.run(Command::new(env!("CARGO_BIN_EXE_weir")), arguments)
    }

    pub(crate) fn openssl(&self, arguments: &str) -> Output {
        self.run(Command::new("openssl"), arguments)
    }

    fn run(&self, mut command: Command, arguments: &str) -> Output {
        let command = command.args(arguments.split_whitespace());
        let command = command.current_dir(self.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// What `weir` prints.
    pub(crate) fn ok(&self, arguments: &str) -> String {
        succeeded(arguments, &self.weir(arguments))
    }

    /// What `weir` prints as JSON.
    pub(crate) fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{arguments} --json"))).unwrap()
    }

    /// What `openssl` prints.
    pub(crate) fn openssl_ok(&self, arguments: &str) -> String {
        succeeded(arguments, &self.openssl(arguments))
    }
}

fn succeeded(arguments: &str, output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program is there; see [`is_missing`].
pub(crate) fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    let command = command
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    !is_missing(
        program,
        command.status().is_ok_and(|status| status.success()),
    )
}

/// Whether a test must be skipped. Says so, past the test harness's capture.
pub(crate) fn is_missing(program: &str, is_there: bool) -> bool {
    if is_there {
        return false;
    }
    let required = std::env::var_os(REQUIRE_PEERS).is_some_and(|value| value == "1");
    assert!(
        !required,
        "{REQUIRE_PEERS} is set, and {program} is missing"
    );
    // The macros would be captured, and a skipped test must not look like a passed one.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
    true
}
