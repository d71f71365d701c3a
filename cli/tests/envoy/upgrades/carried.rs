//! What WebSockets are carried over: their bytes in the counters, while they move, and TLS on both sides.

use bench::certificates::Certificates;
use bench::peer::Admin;
use serde_json::Value;
use serde_json::json;

use super::Script;
use super::both_listeners;
use super::listener;
use super::peers_are_there;
use super::see_with;
use crate::breakers::entries;
use crate::breakers::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::typed;
use crate::setting::Weir;
use crate::setting::until;

/// From whom, and whether with the mask of a client.
const COUNTERS: [(&str, bool); 4] = [
    ("http.on.downstream_cx_rx_bytes_total", true),
    ("cluster.c.upstream_cx_tx_bytes_total", true),
    ("cluster.c.upstream_cx_rx_bytes_total", false),
    ("http.on.downstream_cx_tx_bytes_total", false),
];

/// Copied, and spliced.
const MESSAGES: [u64; 4] = [10, 1_000, 60_000, 1_000_000];

/// Bytes of a frame with so much in it (RFC 6455 section 5.2).
fn frame(payload: u64, is_masked: bool) -> u64 {
    let length = match payload {
        ..126 => 0,
        126..65_536 => 2,
        _ => 8,
    };
    2 + length + if is_masked { 4 } else { 0 } + payload
}

async fn numbers(admin: &Admin) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (name, _) in COUNTERS {
        let number = admin.stat(name).await.expect("it answers");
        numbers.push(number.unwrap_or(0));
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_counted_while_they_move() {
    if !peers_are_there() {
        return;
    }
    let (_server, server) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports(2);
    let text = both_listeners(&ports, &folder.path().join("log"), server);
    let look = |admin: Admin| {
        let port = ports[0].number().to_string();
        async move {
            let mut client = Script::start("client.py", &[&port, "count"]);
            client.say("1");
            assert_eq!(client.line(), "echoed"); // the heads are counted, too
            let admin = &admin;
            let settled = until(|| async move {
                let (first, second) = (numbers(admin).await, numbers(admin).await);
                let is_still = first == second && first.iter().all(|number| *number > 0);
                is_still.then_some(()).ok_or_else(|| format!("{first:?}"))
            });
            settled.await.expect("it is counted");
            let mut wanted = numbers(admin).await;
            for message in MESSAGES {
                client.say(&message.to_string());
                assert_eq!(client.line(), "echoed");
                let more = COUNTERS.map(|(_, is_masked)| frame(message, is_masked));
                let both = wanted.iter_mut().zip(more);
                both.for_each(|(number, more)| *number += more);
                let wanted = &wanted;
                let counted = until(|| async move {
                    let now = numbers(admin).await;
                    let is_it = now == *wanted;
                    is_it
                        .then_some(())
                        .ok_or_else(|| format!("{now:?}, not {wanted:?}"))
                });
                counted.await.expect("it is counted while it moves");
            }
        }
    };
    Box::pin(of_both(&text, &ports, look)).await;
}

/// A listener and a cluster that speak TLS.
fn over_tls(folder: &std::path::Path, port: u16, server: u16) -> String {
    let file = |name: &str| json!({"filename": folder.join(name)});
    let allowed = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let mut listener = listener(port, "on", &folder.join("log"), &allowed);
    let socket = |kind: &str, context: Value| {
        let kind = format!("extensions.transport_sockets.tls.v3.{kind}");
        json!({"name": "tls", "typed_config": typed(&kind, context)})
    };
    let own = json!([{"certificate_chain": file("server.pem"), "private_key": file("server.key")}]);
    let context = json!({"common_tls_context": {"tls_certificates": own}});
    listener["filter_chains"][0]["transport_socket"] = socket("DownstreamTlsContext", context);
    let mut cluster = cluster("c", server);
    let context = json!({
        "sni": bench::certificates::SERVER_NAME,
        "common_tls_context": {"validation_context": {"trusted_ca": file("ca.pem")}},
    });
    cluster["transport_socket"] = socket("UpstreamTlsContext", context);
    bootstrap(&[listener], &[cluster])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_and_end_alike_over_tls() {
    if !peers_are_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::new().expect("keys can be made");
    certificates
        .write_to(folder.path())
        .expect("it is writable");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (mut server, number) = Script::server(&[&path("server.pem"), &path("server.key")]);
    let ports = free_ports(1);
    let text = over_tls(folder.path(), ports[0].number(), number);
    let port = ports[0].number().to_string();
    let look = |_| {
        let (port, ca, log) = (&port, path("ca.pem"), folder.path().join("log"));
        async move {
            let mut seen = Vec::new();
            for what in ["echo", "server-closes", "server-aborts", "abort"] {
                seen.push(format!("{what}: {}", see_with(&[port, what, "/", &ca])));
            }
            (seen, entries(&log, 4).await)
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(
        weir.0.join("\n").replace(" weir", " envoy"),
        envoy.0.join("\n")
    );
    assert_eq!(weir.1, envoy.1);
    for _ in 0..8 {
        server.line(); // how those have ended
    }

    let weir = Weir::start(&text).await;
    let mut client = Script::start("client.py", &[&port, "wait", "/", &path("ca.pem")]);
    assert_eq!(client.line(), "here");
    weir.stop().await;
    assert_eq!(client.line(), "closed 1001  websocket weir");
    assert_eq!(server.line(), "ended 1001");
}
