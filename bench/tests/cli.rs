//! The program's exit codes and its sentences.

use std::process::{Command, Output};

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
    let json = std::fs::read_to_string(&file).expect("the file was written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let floor = json
        .pointer("/outcomes/1/records/floor/open/0/0/cpu_us")
        .expect("measured");
    assert!(floor.as_f64().is_some_and(|cpu_us| cpu_us > 0.0), "{floor}");
}
