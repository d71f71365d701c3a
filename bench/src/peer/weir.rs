//! Weir itself, as one more process under test.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::envoy::{wait_ready, with_admin};
use super::{Admin, PeerError, StartOptions, locate};
use crate::ports::ReservedPort;
use crate::process::Process;

/// The program of many commands, of which `proxy` is `weir-proxy`.
const CLI: &str = "weir";

/// A running `weir-proxy`.
#[derive(Debug)]
pub struct Weir {
    process: Process,
    admin: Admin,
    _admin_port: ReservedPort,
    _directory: TempDir,
}

impl Weir {
    /// The program: `WEIR_BIN`, or the best build in the target directory.
    ///
    /// # Errors
    /// [`PeerError::Missing`] with what to do about it.
    pub fn locate() -> Result<PathBuf, PeerError> {
        let hint = "build it with `cargo build --release -p weir-proxy`, or set WEIR_BIN";
        if std::env::var_os("WEIR_BIN").is_some() {
            return locate::program("weir", "WEIR_BIN", None);
        }
        ["release", "quick"]
            .map(|profile| locate::target_directory().join(profile).join("weir-proxy"))
            .into_iter()
            .find(|candidate| candidate.is_file())
            .ok_or(PeerError::Missing { name: "weir", hint })
    }

    /// The program `weir`, which has the control plane: beside `proxy` or the usual `weir-proxy`, or
    /// the best build in the target directory.
    ///
    /// # Errors
    /// [`PeerError::Missing`] with what to do about it.
    pub fn locate_cli(proxy: Option<&Path>) -> Result<PathBuf, PeerError> {
        let hint = "build it with `cargo build --release`";
        let proxy = proxy.map(Path::to_path_buf).or_else(|| Self::locate().ok());
        let beside = proxy.map(|proxy| proxy.with_file_name(CLI));
        let built = ["release", "quick", "debug"]
            .map(|profile| locate::target_directory().join(profile).join(CLI));
        beside
            .into_iter()
            .chain(built)
            .find(|candidate| candidate.is_file())
            .ok_or(PeerError::Missing { name: CLI, hint })
    }

    /// What `program`, or the usual one, says about its version.
    #[must_use]
    pub fn version(program: Option<&Path>) -> Option<String> {
        let program = program
            .map(Path::to_path_buf)
            .or_else(|| Self::locate().ok())?;
        locate::version_line(&program, &["--version"])
    }

    /// Starts it on this bootstrap (Envoy's format, without an `admin` section) and waits until
    /// `/ready` answers.
    ///
    /// # Errors
    /// When there is no program, or it refuses the bootstrap or does not get ready.
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
        let file = directory.path().join("weir.yaml");
        std::fs::write(&file, with_admin(bootstrap, port.addr()))?;
        let mut command = wrapped(Self::command(&program), &options.wrapper);
        command.arg("-c").arg(&file);
        command.args(&options.arguments);
        let process = Process::start("weir", command, options.core)?;
        let admin = Admin::new(port.addr());
        Ok(Self {
            process,
            admin,
            _admin_port: port,
            _directory: directory,
        })
    }

    /// How the data plane of `program` is called, which is `weir-proxy` or `weir`.
    #[must_use]
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new(program);
        if program.file_name().is_some_and(|name| name == CLI) {
            command.arg("proxy");
        }
        command
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

/// The command as arguments of another program.
fn wrapped(command: Command, wrapper: &[OsString]) -> Command {
    let [program, arguments @ ..] = wrapper else {
        return command;
    };
    let mut outer = Command::new(program);
    outer.args(arguments);
    outer.arg(command.get_program()).args(command.get_args());
    outer
}
