//! A real nginx.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::{PeerError, READY_LIMIT, StartOptions, locate};
use crate::process::Process;

/// A running nginx: master and workers, all counted.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    _directory: TempDir,
}

impl Nginx {
    /// The program: `NGINX_BIN`, or the one on the `PATH`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] with what to do about it.
    pub fn locate() -> Result<PathBuf, PeerError> {
        locate::program("nginx", "NGINX_BIN", None)
    }

    /// Its version.
    #[must_use]
    pub fn version() -> Option<String> {
        let line = locate::version_line(&Self::locate().ok()?, &["-v"])?;
        // "nginx version: nginx/NUMBER"
        line.split('/').nth(1).map(str::to_owned)
    }

    /// Starts it on this configuration, which must say `daemon off`, and waits until it listens on
    /// `addr`. Relative paths in it lie in a directory of its own.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration or does not listen.
    pub async fn start(
        config: &str,
        addr: SocketAddr,
        options: &StartOptions,
    ) -> Result<Self, PeerError> {
        let mut started = Self::spawn(config, options)?;
        started.process.wait_for_port(addr, READY_LIMIT).await?;
        Ok(started)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When it is not installed or its configuration cannot be written.
    pub fn spawn(config: &str, options: &StartOptions) -> Result<Self, PeerError> {
        let program = options.program.clone().map_or_else(Self::locate, Ok)?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(program);
        command
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file);
        command.args(&options.arguments);
        let process = Process::start("nginx", command, options.core)?;
        Ok(Self {
            process,
            _directory: directory,
        })
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
}
