//! `weir check` names each kind of mistake by a code, and can be told to leave one out.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use serde_json::json;

use crate::support::child::weir;

/// A misspelled field, a value the proxy refuses, and a field without effect.
const FILES: [(&str, &str); 2] = [
    (
        "misspelled.yaml",
        "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n  nam: r\n",
    ),
    (
        "routes.yaml",
        "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n  name: r\n  \
         virtual_hosts:\n  - {name: v, domains: [], include_request_attempt_count: true}\n",
    ),
];

#[test]
fn each_kind_of_mistake_has_a_code() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in FILES {
        std::fs::write(directory.path().join(name), text).expect("a writable directory");
    }
    let (status, all) = check(directory.path(), &[]);
    assert_eq!(status, Some(1));
    assert_eq!(all, ["W1007", "W1102"]);
    let (status, rest) = check(directory.path(), &["--allow", "W1007"]);
    assert_eq!(
        (status, rest.as_slice()),
        (Some(1), &["W1102".to_owned()][..])
    );
    let (status, rest) = check(directory.path(), &["--allow", "W1007", "--allow", "w1102"]);
    assert_eq!((status, rest.len()), (Some(0), 0));
}

#[test]
fn codes_are_explained() {
    let output = run(&["explain", "W1007"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("W1007: unknown field\n"), "{text}");
    assert_eq!(run(&["explain", "W9999"]).status.code(), Some(2));
}

/// Exit status, and the codes found in the order of files and lines.
fn check(directory: &Path, flags: &[&str]) -> (Option<i32>, Vec<String>) {
    let path = directory.to_string_lossy().into_owned();
    let arguments = [&["check", "--output", "json", path.as_str()], flags].concat();
    let output = run(&arguments);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or(json!([]));
    let codes = findings.as_array().cloned().unwrap_or_default();
    let codes = codes.iter().filter_map(|finding| finding["code"].as_str());
    (output.status.code(), codes.map(str::to_owned).collect())
}

fn run(arguments: &[&str]) -> Output {
    weir().args(arguments).output().expect("it was built")
}
