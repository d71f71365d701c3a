//! A real Envoy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use tempfile::TempDir;
use tokio::time::Instant;

use super::{Admin, PeerError, READY_LIMIT, StartOptions, locate};
use crate::ports::ReservedPort;
use crate::process::Process;

/// A running Envoy with one worker.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: Admin,
    _admin_port: ReservedPort,
    _directory: TempDir,
}

impl Envoy {
    /// The program: `ENVOY_BIN`, the installer's, or the one on the `PATH`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] with what to do about it.
    pub fn locate() -> Result<PathBuf, PeerError> {
        locate::program("envoy", "ENVOY_BIN", Some("peers/envoy/envoy"))
    }

    /// What the program says about its version.
    #[must_use]
    pub fn version() -> Option<String> {
        let line = locate::version_line(&Self::locate().ok()?, &["--version"])?;
        // "PATH version: HASH/NUMBER/..."
        line.split('/').rev().nth(3).map(str::to_owned)
    }

    /// Starts it on this bootstrap and waits until `/ready` answers.
    ///
    /// The bootstrap is YAML in block style without an `admin` section: that one is added, on a
    /// free port.
    ///
    /// # Errors
    /// When it is not installed, refuses the bootstrap or does not get ready.
    pub async fn start(bootstrap: &str) -> Result<Self, PeerError> {
        Self::start_with(bootstrap, &StartOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(bootstrap: &str, options: &StartOptions) -> Result<Self, PeerError> {
        let mut started = Self::spawn(bootstrap, options)?;
        started.ready().await?;
        Ok(started)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When there is no program or its configuration cannot be written.
    pub fn spawn(bootstrap: &str, options: &StartOptions) -> Result<Self, PeerError> {
        let program = options.program.clone().map_or_else(Self::locate, Ok)?;
        let port = ReservedPort::new()?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("envoy.yaml");
        std::fs::write(&file, with_admin(bootstrap, port.addr()))?;
        let mut command = Command::new(program);
        command.arg("--config-path").arg(&file).args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]);
        command.args(&options.arguments);
        let process = Process::start("envoy", command, options.core)?;
        let admin = Admin::new(port.addr());
        Ok(Self {
            process,
            admin,
            _admin_port: port,
            _directory: directory,
        })
    }

    /// Its admin interface.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Its process.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks it to end, kills it after five seconds, and tells how it ended.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub async fn stop(self) -> io::Result<ExitStatus> {
        self.process.stop().await
    }

    /// Waits until `/ready` answers 200; for one that was only spawned.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn ready(&mut self) -> Result<(), PeerError> {
        wait_ready(&mut self.process, &self.admin).await
    }
}

/// `bootstrap` with an `admin` section, unless it has one.
pub(super) fn with_admin(bootstrap: &str, addr: SocketAddr) -> String {
    if bootstrap.lines().any(|line| line.starts_with("admin:")) {
        return bootstrap.to_owned();
    }
    let (address, port) = (addr.ip(), addr.port());
    format!(
        "{bootstrap}\nadmin:\n  address:\n    socket_address: {{ address: {address}, port_value: {port} }}\n"
    )
}

/// Waits until `/ready` answers 200.
pub(super) async fn wait_ready(process: &mut Process, admin: &Admin) -> Result<(), PeerError> {
    let began = Instant::now();
    while !admin.is_ready().await {
        process
            .keep_waiting(admin.addr(), began, READY_LIMIT)
            .await?;
    }
    Ok(())
}
