//! A network namespace of the comparison's own, with cubic for everybody.
//!
//! A proxy's sockets take their congestion control from the namespace, and only the first one may
//! make an algorithm the default that is not on its allowed list; so cubic joins that list for the
//! moment in which the new namespace is set up. The namespace also has its own port range, and no
//! other process's connections.

use std::fs;
use std::io;
use std::process::{Command, ExitStatus};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, sleep};

/// Set for the program that runs inside.
const INSIDE: &str = "WEIR_BENCH_NAMESPACE";

const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// Run inside the new namespace: loopback up, cubic, room for 60,000 connections.
const SETUP: &str = "ip link set lo up && cd /proc/sys/net/ipv4 \
    && echo cubic > tcp_congestion_control && echo 1024 65000 > ip_local_port_range \
    && echo 1 > tcp_tw_reuse";

/// Between two looks at the program inside.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The name of the namespace this program runs in, when it made one.
pub(crate) fn inside() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Whether making a namespace can succeed at all.
pub(crate) fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
}

/// A namespace that goes when this value does.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> io::Result<Self> {
        let name = format!("weir-bench-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        let before = fs::read_to_string(ALLOWED)?;
        fs::write(ALLOWED, format!("{} cubic", before.trim()))?;
        let prepared = ip(&["netns", "exec", &namespace.name, "sh", "-c", SETUP]);
        fs::write(ALLOWED, before)?;
        prepared.map(|()| namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _left_behind = ip(&["netns", "delete", &self.name]);
    }
}

/// Runs this same program with the same arguments inside a new namespace.
///
/// # Errors
/// When the namespace cannot be made; the caller then stays where it is and says so.
pub(crate) async fn run_inside() -> io::Result<ExitStatus> {
    let namespace = Namespace::new()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = Command::new("ip")
        .args(["netns", "exec", &namespace.name])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, &namespace.name)
        .spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => continue,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // The program inside ends what it started, then itself.
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
    }
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!(
        "ip {}: {reason}",
        arguments.join(" ")
    )))
}
