//! `weir` as child processes, each of which ends with the value that holds it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::process::ExitStatus;

use bench::ports::ReservedPort;
use bench::process::Process;
use bench::process::ProcessError;
use rustix::process::Signal;
use tempfile::TempDir;
use xds_proto::Pool;
use xds_proto::dump;
use xds_proto::pb::google::protobuf::Any;

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
        let text = |port| bootstrap::fixed(port, origin, is_http2_up);
        Self::start(weir(), text).await
    }

    /// The same with a bootstrap that listens on the given port, and a command that becomes `weir`.
    pub(crate) async fn start(mut command: Command, text: impl FnOnce(u16) -> String) -> Self {
        let port = ReservedPort::new().expect("a free port");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(BOOTSTRAP);
        std::fs::write(&file, text(port.number())).expect("a writable directory");
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

/// `weir control-plane` with a directory of its own.
pub(crate) struct ControlPlaneChild {
    process: Process,
    port: ReservedPort,
    api: ReservedPort,
    directory: TempDir,
    state: TempDir,
}

impl ControlPlaneChild {
    /// Serves `resources`; returns when it listens.
    pub(crate) async fn start(resources: &[Any]) -> Self {
        let port = ReservedPort::new().expect("a free port");
        let directory = tempfile::tempdir().expect("a directory");
        save(directory.path(), resources);
        let api = ReservedPort::new().expect("a free port");
        let state = tempfile::tempdir().expect("a directory");
        let process = serve([directory.path(), state.path()], [&port, &api]).await;
        Self {
            process,
            port,
            api,
            directory,
            state,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Where its API is.
    pub(crate) fn api(&self) -> &ReservedPort {
        &self.api
    }

    /// Its directory holds other resources from now on.
    pub(crate) fn save(&self, resources: &[Any]) {
        save(self.directory.path(), resources);
    }

    /// Ends it without a word to its clients.
    pub(crate) async fn kill(&mut self) {
        self.process.signal(Signal::KILL).expect("it runs");
        until("the control plane's end", async || {
            self.process.check_running().err()
        })
        .await;
    }

    /// Starts it again, with its directory, on its port.
    pub(crate) async fn restart(&mut self) {
        let directories = [self.directory.path(), self.state.path()];
        self.process = serve(directories, [&self.port, &self.api]).await;
    }
}

async fn serve([directory, state]: [&Path; 2], [port, api]: [&ReservedPort; 2]) -> Process {
    let mut command = weir();
    command.arg("control-plane").arg("--resources");
    command.arg(directory).arg("--listen");
    command.arg(port.addr().to_string()).arg("--api");
    command.arg(api.addr().to_string()).arg("--state-dir");
    command.arg(state);
    let mut process = Process::start("weir", command, None).expect("it was built");
    process
        .wait_for_port(port.addr(), PATIENCE)
        .await
        .expect("it starts");
    process
}

/// One file, replaced as a whole.
fn save(directory: &Path, resources: &[Any]) {
    let pool = Pool::new();
    let list: Vec<_> = resources
        .iter()
        .map(|resource| dump::any_to_json(&pool, resource))
        .collect();
    let text = serde_json::json!({ "resources": list }).to_string();
    let hidden = directory.join(".new");
    std::fs::write(&hidden, text).expect("a writable directory");
    std::fs::rename(hidden, directory.join("all.json")).expect("the same directory");
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
