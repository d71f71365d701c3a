//! The library that breaks calls, and the file by which it is told which.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
const LIBRARY: &str = "shim.so";
const CONTROL: &str = "control";

/// Set to 1 where what a test needs must be there.
const REQUIRE_PEERS: &str = "WEIR_REQUIRE_PEERS";

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// It fails, and its socket is of no use from then on.
    Fails = 1,
    /// It moves one byte.
    Short = 2,
    /// The other side has ended.
    Ends = 3,
    /// There is nothing to do at the moment.
    Again = 4,
}

pub(crate) const BREAKS: [Break; 4] = [Break::Fails, Break::Short, Break::Ends, Break::Again];

/// The library, built, and what it is told.
pub(crate) struct Shim {
    library: PathBuf,
    path: PathBuf,
    control: File,
}

impl Shim {
    /// Builds it; none where that is not possible.
    pub(crate) fn build(directory: &Path) -> Option<Self> {
        let library = directory.join(LIBRARY);
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(SOURCE)
            .output();
        match built {
            Ok(output) if output.status.success() => {}
            Ok(output) => return missing(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => return missing(&error.to_string()),
        }
        let path = directory.join(CONTROL);
        std::fs::write(&path, [0; 40]).expect("a writable directory");
        let control = File::options().read(true).write(true).open(&path);
        Some(Self {
            library,
            path,
            control: control.expect("it was just written"),
        })
    }

    /// A process of this command is one whose calls break.
    pub(crate) fn load(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("WEIR_FAULTS", &self.path);
    }

    /// Breaks that call, counted from now on.
    pub(crate) fn arm(&self, at: u64, what: Break) {
        self.write(1, what as u64);
        self.write(2, 0);
        self.write(3, 0);
        self.write(0, at);
    }

    /// Breaks nothing any more.
    pub(crate) fn disarm(&self) -> Done {
        self.write(0, 0);
        Done {
            reached: self.read(3) > 0,
            broken: self.read(3) == 1,
            call: self.read(4),
        }
    }

    fn write(&self, place: u64, value: u64) {
        let written = self.control.write_at(&value.to_ne_bytes(), place * 8);
        assert_eq!(written.expect("it is ours"), 8);
    }

    fn read(&self, place: u64) -> u64 {
        let mut value = [0; 8];
        let read = self.control.read_exact_at(&mut value, place * 8);
        read.expect("it has that much");
        u64::from_ne_bytes(value)
    }
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// There was such a call.
    pub(crate) reached: bool,
    /// It is one that can be broken like that.
    pub(crate) broken: bool,
    /// The number in the system's table.
    pub(crate) call: u64,
}

fn missing<T>(why: &str) -> Option<T> {
    let required = std::env::var_os(REQUIRE_PEERS).is_some_and(|value| value == "1");
    assert!(
        !required,
        "{REQUIRE_PEERS} is set, and the library cannot be built: {why}"
    );
    // The macros would be captured, and a skipped test must not look like a passed one.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no library for faults: {why}");
    None
}
