//! `weir` as a child process, which ends with the value that holds it.

use std::net::SocketAddr;
use std::process::Command;
use std::process::ExitStatus;

use bench::ports::ReservedPort;
use bench::process::Process;
use bench::process::ProcessError;
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::bootstrap;
use crate::support::until;

const BOOTSTRAP: &str = "bootstrap.yaml";

/// `weir proxy` with one listener in front of one origin.
pub(crate) struct Child {
    pub(crate) process: Process,
    port: ReservedPort,
    directory: TempDir,
}

impl Child {
    /// Waits until it accepts connections.
    pub(crate) async fn proxy(origin: SocketAddr, is_http2_up: bool) -> Self {
        let port = ReservedPort::new().expect("a free port");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(BOOTSTRAP);
        let text = bootstrap::fixed(port.number(), origin, is_http2_up);
        std::fs::write(&file, text).expect("a writable directory");
        let mut command = weir();
        command
            .arg("proxy")
            .arg("-c")
            .arg(&file)
            .args(["--workers", "2"]);
        let mut process = Process::start("weir", command, None).expect("it was built");
        process
            .wait_for_port(port.addr(), PATIENCE)
            .await
            .expect("it starts");
        Self {
            process,
            port,
            directory,
        }
    }

    /// Its bootstrap file from now on; it does not know before it is told.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.directory.path().join(BOOTSTRAP), text).expect("a writable directory");
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        until("the child's end", async || {
            match self.process.check_running() {
                Err(ProcessError::Ended { status, .. }) => Some(status),
                _ => None,
            }
        })
        .await
    }
}

/// The program: `WEIR_BIN`, or the one built with this test.
pub(crate) fn weir() -> Command {
    let program = std::env::var_os("WEIR_BIN");
    let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into()));
    command
        .env_remove("WEIR_LOG_LEVEL")
        .env_remove("WEIR_LOG_FORMAT");
    command
}
