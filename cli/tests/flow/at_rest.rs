//! A proxy that does nothing holds little memory: one worker, 100 clusters.

use std::fmt::Write;

use bench::ports::ReservedPort;
use bench::process::Process;

use crate::support::PATIENCE;
use crate::support::bootstrap;
use crate::support::child::weir;
use crate::support::until;

const CLUSTERS: u16 = 100;

const MB: u64 = 1_000_000;

/// The promise is about a release build; an unoptimized one has three times the text and data.
fn resident_max() -> u64 {
    if std::env::var_os("WEIR_FULL").is_some() {
        12 * MB
    } else {
        36 * MB
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_with_100_clusters_little_is_resident() {
    let port = ReservedPort::new().expect("a free port");
    let mut text = bootstrap::fixed(port.number(), port.addr(), false);
    for number in 0..CLUSTERS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  - {{name: c{number}, load_assignment: {{cluster_name: c{number}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}}}",
            20_000 + number
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bootstrap.yaml");
    std::fs::write(&file, text).expect("a writable directory");
    let mut command = weir();
    command.arg("proxy").arg("-c").arg(&file);
    command.args(["--workers", "1"]);
    let mut process = Process::start("weir", command, None).expect("it was built");
    process
        .wait_for_port(port.addr(), PATIENCE)
        .await
        .expect("it starts");
    // What only the start needed is given back a second after it.
    until("little resident memory", async || {
        let memory = process.memory().expect("it runs");
        (memory.rss <= resident_max()).then_some(())
    })
    .await;
}
