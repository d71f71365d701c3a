//! The program's exit codes and its sentences.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// One short row without anything that must be installed.
const SHORT: [&str; 6] = [
    "compare",
    "--quick",
    "--accept-disturbed",
    "--no-namespace",
    "--only",
    "http1-1000rps",
];

fn weir_bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    command
        .args(arguments)
        .output()
        .expect("the program was built with this test")
}

fn check(arguments: &[&str], code: i32, sentence: &str) {
    let output = weir_bench(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(sentence), "{arguments:?}: {text}");
}

#[test]
fn wrong_usage_is_one_sentence_and_code_2() {
    check(
        &["compare", "--only", "http9"],
        2,
        "there is no scenario \"http9\"",
    );
    check(&["compare", "--peers", "squid"], 2, "invalid value 'squid'");
    check(&["measure"], 2, "unrecognized subcommand");
    check(&["compare", "--fast"], 2, "unexpected argument '--fast'");
    check(
        &["curve", "--scenario", "start"],
        2,
        "\"start\" has no rate; choose a row with requests",
    );
}

#[test]
fn a_busy_port_of_the_relay_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    check(
        &["relay", "--listen", &port, "--target", "127.0.0.1:1"],
        1,
        "in use",
    );
}

/// Rows of others are still measured; the program says at its end who failed, and how.
#[test]
fn a_proxy_that_dies_is_one_sentence_and_code_1() {
    let mut arguments = SHORT.to_vec();
    arguments.extend(["--peers", "floor,weir", "--weir", "/bin/false"]);
    check(
        &arguments,
        1,
        "weir-bench: weir failed in http1-1000rps: ended with exit status: 1",
    );
}

#[test]
fn a_result_that_cannot_be_written_is_told() {
    let mut arguments = SHORT.to_vec();
    arguments.extend(["--peers", "floor", "--json", "/nonexistent/result.json"]);
    check(&arguments, 1, "cannot write /nonexistent/result.json");
}

/// Children of a process, by its main thread.
fn children(of: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    let numbers = text.unwrap_or_default();
    numbers
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn is_running(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name in parentheses; a zombie has ended.
    let state = state.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

/// Waits for the first child of a process whose standard error says that it works.
fn first_child(process: &mut Child, stderr: &mut impl BufRead) -> i32 {
    let mut progress = String::new();
    stderr.read_line(&mut progress).expect("a line");
    assert!(progress.contains("http1-small"), "{progress}");
    loop {
        assert!(
            process.try_wait().expect("its state").is_none(),
            "it has ended"
        );
        if let Some(pid) = children(process.id()).first() {
            return *pid;
        }
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupted_run_ends_what_it_started() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
        .args(["compare", "--only", "http1-small", "--peers", "floor"])
        .args(["--quick", "--no-namespace", "--accept-disturbed"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built with this test");
    let mut stderr = BufReader::new(process.stderr.take().expect("it is piped"));
    let child = first_child(&mut process, &mut stderr);
    let pid = Pid::from_child(&process);
    kill_process(pid, Signal::TERM).expect("it runs");
    let status = process.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let mut told = String::new();
    stderr.read_to_string(&mut told).expect("text");
    assert!(
        told.contains("interrupted; every process it started has ended"),
        "{told}"
    );
    assert!(!is_running(child), "{child} was left behind");
}

#[test]
fn the_scenarios_are_listed() {
    let text = weir_bench(&["scenarios"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("http1-small"));
}

/// A Weir that does not exist is a hole with its reason, next to the floor, and the file is written.
#[test]
fn a_missing_weir_is_a_visible_hole() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("result.json");
    let arguments = ["compare", "--quick", "--accept-disturbed", "--no-namespace"];
    let output = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
        .args(arguments)
        .args([
            "--only",
            "start,http1-1000rps",
            "--peers",
            "weir,floor",
            "--json",
        ])
        .arg(&file)
        .env("WEIR_BIN", "/nonexistent/weir-proxy")
        .output()
        .expect("the program was built with this test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("weir     -- weir is not installed"), "{text}");
    assert!(
        text.contains("goals: 0 met, 0 missed, 2 not measured"),
        "{text}"
    );
    let json = fs::read_to_string(&file).expect("the file was written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let floor = json
        .pointer("/outcomes/1/records/floor/open/0/0/cpu_us")
        .expect("measured");
    assert!(floor.as_f64().is_some_and(|cpu_us| cpu_us > 0.0), "{floor}");
}
