//! What signs is in the memory of a running control plane; its text is not, and no core file is made.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::os::unix::fs::FileExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::Instant;

use crate::support::Place;

/// Longest wait for the first certificate; a busy machine needs a part of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read of a process at a time.
const STEP: usize = 1 << 20;

/// What is looked at whether it was touched.
const PAGE: usize = 4096;

/// A started control plane, ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_text_of_a_key_that_signs_stays_in_memory() {
    let place = Place::with_authority();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["control-plane", "--listen", "127.0.0.1:0", "--ca", "ca"]);
    command.args(["--tls-identity", "spiffe://mesh.example/control-plane"]);
    let command = command.current_dir(place.path()).stdin(Stdio::null());
    let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while !place.file("ca/issued.log").exists() {
        assert!(began.elapsed() < PATIENCE, "it issues nothing");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let pid = running.0.id();
    let memory = match File::open(format!("/proc/{pid}/mem")) {
        Ok(memory) => memory,
        // Nobody but root may look, not even its own user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
        Err(error) => panic!("{error}"),
    };
    let written = written(pid, &memory);
    let has = |wanted: &[u8]| contains(&written, wanted);
    let state = place.read("ca/state");
    let line = state.split("\\n").find(|line| line.len() == 64).unwrap();
    assert!(has(line.as_bytes()), "what is public is found");
    for id in ["root-1", "intermediate-2"] {
        let text = place.read(&format!("ca/{id}.key"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(!has(lines[2].as_bytes()), "the text of {id}");
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
        let der = der.secret_der();
        let place = der.windows(2).position(|two| two == [4, 32]).unwrap();
        assert!(!has(&der[place..place + 34]), "the document of {id}");
    }
    let tokens = place.read("ca/tokens.key");
    assert!(!has(tokens.trim().as_bytes()), "what signs join tokens");
}

/// What the process has written to its memory. Most of what it may write to is untouched.
fn written(pid: u32, memory: &File) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    let ranges = writable.filter_map(|line| {
        let (from, rest) = line.split_once('-')?;
        let (until, _) = rest.split_once(' ')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some((number(from)?, number(until)?))
    });
    let (mut buffer, mut all) = (vec![0; STEP], Vec::new());
    for (from, until) in ranges {
        for at in (from..until).step_by(STEP) {
            let len = usize::try_from(until - at).unwrap().min(STEP);
            // What was given back meanwhile cannot be read.
            let len = memory.read_at(&mut buffer[..len], at).unwrap_or(0);
            let pages = buffer[..len].chunks(PAGE);
            pages
                .filter(|page| **page != [0; PAGE][..page.len()])
                .for_each(|page| all.extend_from_slice(page));
        }
    }
    all
}

fn contains(mut bytes: &[u8], wanted: &[u8]) -> bool {
    let (first, rest) = wanted.split_first().unwrap();
    // Reading from memory does not fail.
    while bytes.skip_until(*first).unwrap() > 0 {
        if bytes.starts_with(rest) {
            return true;
        }
    }
    false
}
