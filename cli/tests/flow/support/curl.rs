//! curl, as a client that others wrote.

use std::io::Write;
use std::process::Command;

use crate::support::soon;

/// Says, past the capture of output, that curl is missing.
pub(crate) fn is_there() -> bool {
    let Err(error) = Command::new("curl").arg("--version").output() else {
        return true;
    };
    let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "curl: {error}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: curl: {error}");
    false
}

/// What it prints with these arguments.
pub(crate) async fn run(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(arguments);
    let output = tokio::task::spawn_blocking(move || curl.output());
    let output = soon("curl", output).await.expect("no panic");
    String::from_utf8(output.expect("it was there just now").stdout).expect("it is text")
}
