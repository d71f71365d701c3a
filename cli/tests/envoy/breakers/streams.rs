//! One TCP stream too many.

use std::net::SocketAddr;

use bench::origin::TcpBehavior;
use bench::origin::TcpOrigin;
use bench::peer::Admin;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::become_so;
use super::entries;
use super::log;
use super::numbers;
use super::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::typed;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;

const COMMANDS: [&str; 6] = [
    "BYTES_SENT",
    "RESPONSE_FLAGS",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
];

/// Limits of streams, and how many are let in.
fn cases() -> Vec<(&'static str, Value, usize)> {
    vec![
        ("connections", json!({"max_connections": 2}), 2),
        ("requests", json!({"max_requests": 1}), 3),
    ]
}

/// What comes back of a stream that said something, and the stream.
async fn talk(proxy: SocketAddr) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(proxy).await.expect("it listens");
    let _ = stream.write_all(b"hello").await; // it may have been refused
    let mut answer = [0; 5];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
    let text = match read.expect("an answer or an end") {
        Ok(count) => String::from_utf8_lossy(&answer[..count]).into_owned(),
        Err(_) => String::new(), // bytes nobody read turn an end into a reset
    };
    (text, stream)
}

async fn see(
    proxy: SocketAddr,
    admin: &Admin,
    (name, _, most): &(&str, Value, usize),
) -> Vec<String> {
    let mut all = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (text, stream) = talk(proxy).await;
        all.push(format!("{name}: {text:?}"));
        kept.push(stream);
    }
    become_so(admin, name, &[("upstream_cx_active", *most as u64)]).await;
    all.push(format!("{name}, full: {:?}", numbers(admin, name).await));
    drop(kept);
    become_so(admin, name, &[("upstream_cx_active", 0)]).await;
    all.push(format!("{name}, after: {:?}", numbers(admin, name).await));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_too_many_is_refused_alike() {
    if !envoy_is_there() {
        return;
    }
    let cases = cases();
    let origin = TcpOrigin::start(TcpBehavior::Echo).expect("a free port");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("access.log");
    let ports = free_ports(cases.len() + 1);
    let (ready, others) = ports.split_last().expect("there are some");
    let listener = |name: &str, port: u16, log: Value| {
        let proxy = json!({"stat_prefix": "tcp", "cluster": name, "access_log": log});
        let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
        json!({
            "name": port.to_string(),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
        })
    };
    let (mut clusters, mut listeners) = (vec![cluster("ready", origin.addr().port())], Vec::new());
    for ((name, limits, _), port) in cases.iter().zip(others) {
        let mut cluster = cluster(name, origin.addr().port());
        cluster["circuit_breakers"] = json!({"thresholds": [limits]});
        clusters.push(cluster);
        listeners.push(listener(name, port.number(), log(&file, &COMMANDS)));
    }
    // Whether it is open is found out by a connection, so at one that is not logged.
    listeners.push(listener("ready", ready.number(), json!([])));
    let look = |admin: Admin| {
        let (cases, file) = (&cases, &file);
        async move {
            let mut all = Vec::new();
            for (case, port) in cases.iter().zip(others) {
                all.extend(Box::pin(see(port.addr(), &admin, case)).await);
            }
            all.extend(entries(file, 3 * cases.len()).await);
            all
        }
    };
    let bootstrap = bootstrap(&listeners, &clusters);
    let (envoy, weir) = Box::pin(of_both(&bootstrap, std::slice::from_ref(ready), look)).await;
    let different: Vec<_> = envoy
        .iter()
        .zip(&weir)
        .filter(|(envoy, weir)| envoy != weir)
        .collect();
    assert!(different.is_empty(), "Envoy and Weir: {different:#?}");
    assert!(
        weir.iter()
            .any(|one| one.contains("\"RESPONSE_FLAGS\":\"UO\""))
    );
}
