//! Bodies that may have to be sent again take a bounded part of memory, however many there are.

use std::process::Command;

use bench::process::Process;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::origin::Origin;
use super::origin::Step;
use super::storm::listener;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::PATIENCE;
use crate::setting::until;

const REQUESTS: usize = 1000;

/// All of them would be 256 MB.
const BODY_BYTES: usize = 256 * 1024;

/// The bound of the process, and 48 KiB for each of the requests' two connections.
const RESIDENT_MAX: u64 = 64 * 1024 * 1024 + (REQUESTS as u64) * 2 * 48 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_bodies_are_bounded() {
    let origin = Origin::start(&[Step::Hang]).await;
    let ports = free_ports(1);
    let policy = json!({"retry_on": "5xx", "num_retries": 3});
    let routes = json!([{
        "match": {"prefix": "/"},
        "route": {"cluster": "origin", "retry_policy": policy, "timeout": "0s"},
    }]);
    let mut cluster = cluster("origin", origin.address.port());
    let most =
        json!({"max_connections": 10_000, "max_requests": 10_000, "max_pending_requests": 10_000});
    cluster["circuit_breakers"] = json!({"thresholds": [most]});
    let text = bootstrap(
        &[listener(&ports[0], &manager(&routes, &json!({})))],
        &[cluster],
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bootstrap.yaml");
    std::fs::write(&file, text).expect("a writable directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("proxy").arg("-c").arg(&file);
    command.args(["--workers", "1"]);
    let mut process = Process::start("weir", command, None).expect("it was built");
    let listening = process.wait_for_port(ports[0].addr(), PATIENCE).await;
    listening.expect("it starts");
    let before = process.memory().expect("it runs").rss;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let request = [head.as_bytes(), &vec![b'b'; BODY_BYTES]].concat();
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        let mut stream = TcpStream::connect(ports[0].addr())
            .await
            .expect("it listens");
        stream.write_all(&request).await.expect("it is open");
        clients.push(stream);
    }
    let mut arrived = 0;
    let all = until(|| {
        arrived += origin.take_seen().len();
        let all = (arrived == REQUESTS).then_some(());
        std::future::ready(all.ok_or_else(|| format!("{arrived} arrived")))
    });
    all.await.expect("every request arrives");
    let grown = process
        .memory()
        .expect("it runs")
        .rss
        .saturating_sub(before);
    assert!(grown <= RESIDENT_MAX, "{grown}");
    // Otherwise nothing was kept at all.
    assert!(grown > 32 * 1024 * 1024, "{grown}");
}
