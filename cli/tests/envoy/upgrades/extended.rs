//! Upgrades towards servers of HTTP/2, of clients of both versions: Envoy and Weir ask by the same extended
//! CONNECT, and streams end alike, whoever ends them and however.

use std::path::Path;

use bench::peer::Admin;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::Script;
use super::listener;
use super::peers;
use super::peers::Act;
use super::peers::Server;
use super::peers_are_there;
use super::see;
use super::streams::allowed;
use super::streams::envoy;
use super::streams::front;
use crate::breakers::entries;
use crate::breakers::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::open;
use crate::identity::typed;
use crate::setting::Weir;
use crate::setting::envoy_is_there;

const NUMBERS: [&str; 5] = [
    "cluster.c.upstream_rq_rx_reset",
    "cluster.c.upstream_rq_tx_reset",
    "cluster.c.upstream_rq_total",
    "http.on.downstream_cx_upgrades_active",
    "http.on.downstream_cx_upgrades_total",
];

/// A cluster of one server of HTTP/2.
pub(super) fn http2_cluster(name: &str, port: u16, options: &Value) -> Value {
    let mut cluster = cluster(name, port);
    let kind = "extensions.upstreams.http.v3.HttpProtocolOptions";
    let explicit = json!({"http2_protocol_options": options});
    let options = typed(kind, json!({ "explicit_http_config": explicit }));
    cluster["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
    cluster
}

/// One listener before a server of HTTP/2.
fn before(port: &ReservedPort, file: &Path, server: u16) -> String {
    let mut more = allowed();
    more["upgrade_configs"] = json!([{"upgrade_type": "websocket"}, {"upgrade_type": "other"}]);
    let listener = listener(port.number(), "on", file, &more);
    // Envoy asks whether this is allowed or not.
    let cluster = http2_cluster("c", server, &json!({"allow_connect": false}));
    bootstrap(&[listener], &[cluster])
}

/// What a client of HTTP/1.1 sees that asks for `kind` and does this: status, whether its key is accepted, what
/// came, and the end.
async fn see_http1(proxy: &ReservedPort, path: &str, kind: &str, act: Act) -> String {
    let mut client = TcpStream::connect(proxy.addr()).await.expect("it listens");
    let ask =
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {kind}\r\n\r\n");
    client.write_all(ask.as_bytes()).await.expect("it is open");
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let byte = client.read_u8().await.expect("a head");
        read.push(byte);
    }
    let head = String::from_utf8(read).expect("it is text");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    match act {
        Act::End => client.shutdown().await.expect("it is open"),
        Act::Leave | Act::Reset => return format!("{status} left"),
        Act::Say(word) => {
            let _ = client.write_all(word).await; // an answer may have been refused
        }
    }
    let mut rest = String::new();
    let end = client.read_to_string(&mut rest).await;
    let is_other = head.contains("upgrade: other\r\n");
    format!("{status} {is_other} {rest:?} {}", end.is_ok())
}

async fn numbers(admin: &Admin) -> Vec<(&'static str, Option<u64>)> {
    let mut numbers = Vec::new();
    for name in NUMBERS {
        let number = admin.stat(name).await.expect("it answers");
        numbers.push((name, Some(number.unwrap_or(0))));
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_server_of_http2_end_alike() {
    if !envoy_is_there() {
        return;
    }
    let server = Server::start(true).await;
    let port = server.port;
    let server = tokio::sync::Mutex::new(server);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(1);
    let text = before(&ports[0], &file, port);
    let look = |admin: Admin| {
        let (ports, file, server) = (&ports, &file, &server);
        async move {
            let (mut seen, mut counted) = (Vec::new(), Vec::new());
            for act in [
                Act::Say(b"END"),
                Act::Say(b"CANCEL"),
                Act::Say(b"INTERNAL"),
                Act::Say(b"LOSE"),
                Act::End,
                Act::Reset,
                Act::Leave,
                // What Envoy does not count as resets comes behind.
                Act::Say(b"CONNECT"),
                Act::Say(b"REFUSE"),
                Act::Say(b"PROTOCOL"),
            ] {
                if let Act::Say(b"CONNECT") = act {
                    counted = numbers(&admin).await;
                }
                let told = see_http1(&ports[0], "/", "other", act).await;
                seen.push(format!("1: {told}, {}", server.lock().await.saw().await));
                let told = peers::see(ports[0].addr(), "/", "other", act).await;
                seen.push(format!("2: {told}, {}", server.lock().await.saw().await));
            }
            for path in ["/404", "/201"] {
                seen.push(see_http1(&ports[0], path, "other", Act::Say(b"")).await);
                let act = Act::Say(b"");
                seen.push(peers::see(ports[0].addr(), path, "websocket", act).await);
                for _ in 0..2 {
                    let saw = server.lock().await.saw().await;
                    seen.push(saw.split(':').next().unwrap_or_default().to_owned());
                }
            }
            (seen.join("\n"), entries(file, 24).await, counted)
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(weir.0, envoy.0);
    assert_eq!(weir.1, envoy.1);
    assert_eq!(weir.2, envoy.2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_know_of_it_is_a_bad_gateway_alike() {
    if !envoy_is_there() {
        return;
    }
    let server = Server::start(false).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(1);
    let text = before(&ports[0], &file, server.port);
    let look = |_| {
        let (port, file) = (&ports[0], &file);
        async move {
            let mut seen = Vec::new();
            for kind in ["websocket", "other"] {
                seen.push(see_http1(port, "/", kind, Act::Say(b"")).await);
                seen.push(peers::see(port.addr(), "/", kind, Act::Say(b"")).await);
            }
            (seen, entries(file, 4).await)
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert!(envoy.0[0].starts_with("502 "), "{:?}", envoy.0);
    assert_eq!(weir.0, envoy.0);
    assert_eq!(weir.1, envoy.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_and_end_alike_to_a_server_of_http2() {
    if !peers_are_there() {
        return;
    }
    let (mut server, number) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(3);
    let _behind = envoy(&ports[1], &allowed(), cluster("c", number)).await;
    let _front = front(&ports[2], ports[0].number()).await;
    let text = before(&ports[0], &file, ports[1].number());
    let look = |admin: Admin| {
        let (ports, file) = (&ports, &file);
        async move {
            let mut seen = Vec::new();
            let (own, front) = (ports[0].number(), ports[2].number());
            for (port, what, path) in [
                (own, "echo", "/"),
                (own, "server-closes", "/"),
                (own, "server-aborts", "/"),
                (own, "silence", "/silent"),
                (own, "echo", "/off"),
                (own, "echo", "/deny"),
                (own, "end", "/"),
                (own, "abort", "/"),
                (front, "echo", "/"),
                (front, "server-closes", "/"),
                (front, "silence", "/silent"),
                (front, "abort", "/"),
            ] {
                seen.push(format!("{what} {path}: {}", see(port, what, path)));
            }
            (
                seen.join("\n"),
                entries(file, 12).await,
                numbers(&admin).await,
            )
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports[..1], look)).await;
    assert_eq!(weir.0.replace(" weir", " envoy"), envoy.0);
    assert_eq!(weir.1, envoy.1);
    assert_eq!(weir.2, envoy.2);
    for _ in 0..20 {
        server.line(); // how those have ended that were let in
    }

    for port in [ports[0].number(), ports[2].number()] {
        let weir = Weir::start(&text).await;
        open(&ports[..1]).await;
        let mut client = Script::start("client.py", &[&port.to_string(), "wait"]);
        assert_eq!(client.line(), "here");
        weir.stop().await;
        let told = client.line();
        assert!(told.starts_with("closed 1001"), "{told}");
        assert_eq!(server.line(), "ended 1001");
    }
}

/// A server of HTTP/1.1 that accepts with `accept`, or whatever fits the key.
async fn accepts(listening: &TcpListener, accept: Option<&str>) -> String {
    let (mut server, _) = listening.accept().await.expect("it connects");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(server.read_buf(&mut head).await.expect("a head") > 0);
    }
    let head = String::from_utf8(head).expect("it is text");
    let accept = accept.map_or_else(String::new, |accept| {
        format!("sec-websocket-accept: {accept}\r\n")
    });
    let answer =
        format!("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n{accept}\r\nhi");
    server
        .write_all(answer.as_bytes())
        .await
        .expect("it is open");
    head
}

/// An Envoy makes no key for a client of HTTP/2, and servers want one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_for_a_server_and_must_be_what_is_accepted() {
    if !peers_are_there() {
        return;
    }
    let listening = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let number = listening.local_addr().expect("it is bound").port();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), "on", &file, &allowed());
    let weir = Weir::start(&bootstrap(&[listener], &[cluster("c", number)])).await;
    // That of the key in RFC 6455, which is none of ours.
    for accept in [None, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")] {
        let seen = peers::see(ports[0].addr(), "/", "websocket", Act::Say(b""));
        let (seen, head) = tokio::join!(seen, accepts(&listening, accept));
        assert!(head.contains("\r\nsec-websocket-key: "), "{head}");
        assert!(seen.starts_with("502 false "), "{seen}");
    }
    for entry in entries(&file, 2).await {
        assert!(entry.contains("\"UPE\""), "{entry}");
        assert!(entry.contains("{protocol_error}"), "{entry}");
    }
    weir.stop().await;

    // A server that others wrote accepts ours, and nobody else is told.
    let (_server, number) = Script::server(&[]);
    let listener = super::listener(ports[0].number(), "on", &file, &allowed());
    let weir = Weir::start(&bootstrap(&[listener], &[cluster("c", number)])).await;
    let close = Act::Say(&[0x88, 0x80, 1, 2, 3, 4]);
    let seen = peers::see(ports[0].addr(), "/", "websocket", close).await;
    assert!(seen.starts_with("200 false "), "{seen}");
    weir.stop().await;
}

/// An Envoy does not: its clients of HTTP/1.1 need a server of HTTP/2 that looks at their keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_accepted_for_a_server_of_http2() {
    if !peers_are_there() {
        return;
    }
    let server = Server::start(true).await;
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports(1);
    let text = before(&ports[0], &folder.path().join("log"), server.port);
    let weir = Weir::start(&text).await;
    let seen = see(ports[0].number(), "abort", "/");
    assert!(seen.ends_with("websocket weir"), "{seen}");
    weir.stop().await;
}
