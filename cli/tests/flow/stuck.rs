//! A worker that does not come to an end of what it does is told of, and so is that it goes on. A debugger
//! holds its thread: Python, by `ptrace`, as there is nothing in a proxy to make it do so.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child as Script;
use std::process::Command;
use std::process::Stdio;

use bench::origin::Origin;
use bench::peer::Admin;
use bench::ports::ReservedPort;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::until;

/// Holds the thread named by its argument until its input ends.
const HOLD: &str = "\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long
ATTACH, DETACH, ALL_THREADS = 16, 17, 0x40000000
thread = int(sys.argv[1])
if libc.ptrace(ATTACH, thread, 0, 0) < 0:
    print(os.strerror(ctypes.get_errno()), flush=True)
    sys.exit(1)
os.waitpid(thread, ALL_THREADS)
print('held', flush=True)
sys.stdin.read()
libc.ptrace(DETACH, thread, 0, 0)
";

/// Whoever holds a thread, and what it said about it.
struct Holder(Script, String);

impl Holder {
    fn of(thread: u64) -> Option<Self> {
        let mut python = Command::new("python3");
        python.args(["-c", HOLD]).arg(thread.to_string());
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = python.spawn().ok()?;
        let output = script.stdout.take().expect("it is a pipe");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it is text");
        Some(Self(script, line.trim().to_owned()))
    }

    /// Lets it go on.
    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends");
    }
}

/// The thread of a worker, once there is one that has its name.
fn worker(process: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let paths: Vec<PathBuf> = threads.flatten().map(|entry| entry.path()).collect();
    let found = paths.iter().find(|path| {
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        name.starts_with("weir-worker")
    });
    found.and_then(|path| path.file_name()?.to_str()?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_answer_is_told_of() {
    let origin = Origin::start("origin").expect("a free port");
    let admin = ReservedPort::new().expect("a free port");
    let text = |port| {
        let own = format!("port_value: {}", admin.number());
        bootstrap::fixed(port, origin.addr(), false).replacen("port_value: 0", &own, 1)
    };
    let child = Child::start(weir(), text).await;
    let thread = until("a worker", async || worker(child.process.pid())).await;
    let holder = tokio::task::block_in_place(|| Holder::of(thread));
    let held = holder.as_ref().map_or("no Python", |holder| &holder.1);
    if held != "held" {
        let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{held}");
        let _ = writeln!(std::io::stderr(), "SKIPPED: no thread can be held: {held}");
        return;
    }
    let admin = Admin::new(admin.addr());
    let misses = async || {
        let found = admin.stat("server.watchdog_miss").await;
        found.expect("it answers").unwrap_or_default()
    };
    assert_eq!(misses().await, 0);
    until("the miss", async || (misses().await == 1).then_some(())).await;
    let says = async |what: &str| {
        let said = async || {
            let said = child.process.whole_output();
            said.contains(what).then_some(())
        };
        until(what, said).await;
    };
    says("a worker does not answer").await;
    if let Some(holder) = holder {
        tokio::task::block_in_place(|| holder.release());
    }
    says("the worker answers again").await;
    assert_eq!(misses().await, 1);
}
