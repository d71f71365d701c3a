//! A child process that never outlives the value that holds it.
//!
//! Ends only what it started, by its own process id. Output goes to a temporary file, whose end is
//! part of every error, because "it did not start" alone helps nobody.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::usage::{self, CpuTime, Memory};

/// Between two looks at a process that is starting or ending.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How much of a process's output an error carries.
const OUTPUT_TAIL_BYTES: u64 = 2_048;

/// How long [`Process::stop`] waits before it kills.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a process is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program cannot be run.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// What was to be started.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended with {status} before it answered: {output}")]
    Ended {
        /// Which process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// It runs and does not answer.
    #[error("{name} did not answer on {addr} within {waited:?}: {output}")]
    Silent {
        /// Which process.
        name: String,
        /// Where an answer was expected.
        addr: SocketAddr,
        /// For how long.
        waited: Duration,
        /// The end of its output.
        output: String,
    },
    /// The system refused something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: File,
}

impl Process {
    /// Starts `command`, on `core` alone when given, without a standard input.
    ///
    /// # Errors
    /// When the program does not exist or the core is not ours.
    pub fn start(
        name: &str,
        mut command: Command,
        core: Option<usize>,
    ) -> Result<Self, ProcessError> {
        let output = tempfile::tempfile()?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        let spawned = match core {
            None => command.spawn(),
            Some(core) => spawn_on(core, &mut command),
        };
        let child = spawned.map_err(|source| ProcessError::Spawn {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it wrote to its standard output and error.
    #[must_use]
    pub fn output(&self) -> String {
        self.read_output(OUTPUT_TAIL_BYTES).unwrap_or_default()
    }

    /// Everything it wrote to its standard output and error.
    #[must_use]
    pub fn whole_output(&self) -> String {
        self.read_output(u64::MAX).unwrap_or_default()
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] with the end of its output.
    pub fn check_running(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(ProcessError::Ended {
                name: self.name.clone(),
                status,
                output: self.output(),
            }),
        }
    }

    /// Waits until something accepts connections on `addr`.
    ///
    /// # Errors
    /// When the process ends or `limit` passes first.
    pub async fn wait_for_port(
        &mut self,
        addr: SocketAddr,
        limit: Duration,
    ) -> Result<(), ProcessError> {
        let began = Instant::now();
        while TcpStream::connect(addr).await.is_err() {
            self.keep_waiting(addr, began, limit).await?;
        }
        Ok(())
    }

    /// One step of a wait: fails when the process ended or the time is over, else waits a little.
    pub(crate) async fn keep_waiting(
        &mut self,
        addr: SocketAddr,
        began: Instant,
        limit: Duration,
    ) -> Result<(), ProcessError> {
        self.check_running()?;
        if began.elapsed() > limit {
            return Err(ProcessError::Silent {
                name: self.name.clone(),
                addr,
                waited: limit,
                output: self.output(),
            });
        }
        sleep(POLL_INTERVAL).await;
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        send(self.pid(), signal)
    }

    /// Asks it to end (SIGTERM), waits, and kills it when it does not.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < STOP_GRACE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(POLL_INTERVAL).await;
        }
        for pid in usage::tree(self.pid())? {
            let _gone = send(pid, Signal::KILL);
        }
        self.child.wait()
    }

    /// CPU time of the process and its children.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        usage::cpu_time(self.pid())
    }

    /// Memory of the process and its children.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> io::Result<Memory> {
        usage::memory(self.pid())
    }

    fn read_output(&self, bytes_max: u64) -> io::Result<String> {
        // An own description, so that the child's write position stays where it is.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.output);
        let mut file = File::open(format!("/proc/self/fd/{fd}"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Workers of its own (nginx) would outlive a killed parent.
            for pid in usage::tree(self.pid()).unwrap_or_default() {
                let _gone = send(pid, Signal::KILL);
            }
        }
        let _reaped = self.child.wait();
    }
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, signal)?)
}

/// A child inherits the affinity of the thread that spawns it, so it never runs elsewhere, not even
/// while it starts its threads.
fn spawn_on(core: usize, command: &mut Command) -> io::Result<Child> {
    let before = sched_getaffinity(None)?;
    pin_thread(core)?;
    let spawned = command.spawn();
    sched_setaffinity(None, &before)?;
    spawned
}

/// Pins the calling thread, and every thread it starts later, to one core.
///
/// # Errors
/// When there is no such core for this process.
pub fn pin_thread(core: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}

/// The cores this process may use.
///
/// # Errors
/// The system's.
pub fn cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{Process, ProcessError, cores};
    use crate::ports::ReservedPort;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn children_of_a_dropped_process_are_gone_too() {
        let script = "sleep 600 & echo child $!; wait";
        let process = Process::start("parent", shell(script), None).expect("started");
        let printed = async {
            loop {
                let output = process.whole_output();
                if let Some(pid) = output.strip_prefix("child ") {
                    return pid.to_owned();
                }
                tokio::task::yield_now().await;
            }
        };
        let child = tokio::time::timeout(Duration::from_secs(10), printed)
            .await
            .expect("printed");
        drop(process);
        // Orphans are reaped by somebody else, so a dead one may still be listed as a zombie.
        let stat = format!("/proc/{child}/stat");
        let gone = async {
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("the child was killed");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = Process::start("sleep", shell("exec sleep 600"), None).expect("started");
        let pid = process.pid();
        assert!(process.cpu_time().is_ok());
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_output() {
        let port = ReservedPort::new().expect("a free port");
        let mut process = Process::start("broken", shell("echo no such field >&2; exit 3"), None)
            .expect("started");
        let error = process
            .wait_for_port(port.addr(), Duration::from_secs(10))
            .await;
        let Err(ProcessError::Ended { output, status, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!((output.as_str(), status.code()), ("no such field", Some(3)));
    }

    #[tokio::test]
    async fn silence_and_a_missing_program_are_told_apart() {
        let port = ReservedPort::new().expect("a free port");
        let mut process = Process::start("deaf", shell("exec sleep 600"), None).expect("started");
        let error = process
            .wait_for_port(port.addr(), Duration::from_millis(20))
            .await;
        assert!(
            matches!(error, Err(ProcessError::Silent { .. })),
            "{error:?}"
        );
        assert!(process.stop().await.expect("reaped").code().is_none());
        let missing = Process::start("none", Command::new("/nonexistent/program"), None);
        assert!(matches!(missing, Err(ProcessError::Spawn { .. })));
    }

    #[test]
    fn a_child_starts_on_its_core_and_we_stay_on_ours() {
        let ours = cores().expect("an affinity");
        let core = *ours.last().expect("at least one core");
        let process =
            Process::start("sleep", shell("exec sleep 600"), Some(core)).expect("started");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
        let status = status.expect("the child lives");
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(
            allowed.expect("a field of every kernel").trim(),
            core.to_string()
        );
        assert_eq!(cores().expect("an affinity"), ours);
    }
}
