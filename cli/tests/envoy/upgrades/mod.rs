//! WebSockets: a client and a server that others wrote, through Envoy and through Weir, to the same ends and
//! the same entries of the log; and what Weir alone does, who tells both ends that it goes away.
//!
//! `client.py` and `server.py` use the package `websockets`, which `bench/peers/install` fetches.
//!
//! | file | holds |
//! |---|---|
//! | `carried` | TLS on both sides, and bytes that are counted while they move |
//! | `extended` | servers of HTTP/2, which are asked by extended CONNECT |
//! | `peers` | a client and a server of HTTP/2 that end streams in every way |
//! | `streams` | clients of HTTP/2, which ask by extended CONNECT |

mod carried;
mod extended;
mod peers;
mod streams;

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use bench::client;
use bench::peer::Admin;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::breakers::entries;
use crate::breakers::log;
use crate::breakers::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::is_there;

const COMMANDS: [&str; 6] = [
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "PROTOCOL",
];

const NUMBERS: [&str; 3] = [
    "downstream_cx_upgrades_active",
    "downstream_cx_upgrades_total",
    "downstream_rq_ws_on_non_ws_route",
];

/// Where the package is.
fn packages() -> PathBuf {
    let envoy = Envoy::locate().expect("it is there");
    let peers = envoy.parent().and_then(Path::parent);
    peers.expect("two folders").join("websockets")
}

/// Envoy, and the package.
fn peers_are_there() -> bool {
    let imports = || {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", packages());
        python.args(["-c", "import websockets"]);
        python.stderr(Stdio::null());
        let status = python.status().map_err(|error| error.to_string())?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| "no such package".to_owned())
    };
    let missing = "the Python package websockets is not installed; run bench/peers/install";
    envoy_is_there() && is_there(imports(), missing)
}

fn python(script: &str, arguments: &[&str]) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/envoy/upgrades");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages());
    python.arg(folder.join(script)).args(arguments);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    python
}

/// A running script, ended when dropped, line by line.
struct Script {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Script {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = python(script, arguments).spawn().expect("python3 runs");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Self { child, lines }
    }

    /// Says a line to it.
    fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it is a pipe");
        writeln!(input, "{line}").expect("it reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::task::block_in_place(|| self.lines.read_line(&mut line)).expect("it is text");
        line.trim_end().to_owned()
    }

    /// The server, and its port.
    fn server(arguments: &[&str]) -> (Self, u16) {
        let mut server = Self::start("server.py", arguments);
        let line = server.line();
        let port = line
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        (server, port.expect("its first line"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// What the client says that it saw.
fn see(port: u16, what: &str, path: &str) -> String {
    see_with(&[&port.to_string(), what, path])
}

fn see_with(arguments: &[&str]) -> String {
    let mut client = python("client.py", arguments);
    let output = tokio::task::block_in_place(|| client.output());
    let said = String::from_utf8(output.expect("python3 runs").stdout);
    said.expect("it is text").trim_end().to_owned()
}

fn listener(port: u16, name: &str, file: &Path, more: &Value) -> Value {
    let routes = json!([
        {"match": {"prefix": "/off"}, "route": {
            "cluster": "c", "upgrade_configs": [{"upgrade_type": "WebSocket", "enabled": false}],
        }},
        {"match": {"prefix": "/silent"}, "route": {
            "cluster": "c", "timeout": "0.1s", "idle_timeout": "0.4s",
        }},
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "hi"}}},
        {"match": {"prefix": "/on"}, "route": {
            "cluster": "c", "timeout": "0.2s", "upgrade_configs": [{"upgrade_type": "websocket"}],
        }},
        {"match": {"prefix": "/"}, "route": {"cluster": "c"}},
    ]);
    let mut manager = manager(&routes, more);
    manager["stat_prefix"] = name.into();
    manager["access_log"] = log(file, &COMMANDS);
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}

/// Listeners with WebSockets and without, before a server.
fn both_listeners(ports: &[ReservedPort], file: &Path, server: u16) -> String {
    let allowed = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let listeners = [
        listener(ports[0].number(), "on", file, &allowed),
        listener(ports[1].number(), "off", file, &json!({})),
    ];
    bootstrap(&listeners, &[cluster("c", server)])
}

/// Status and body of a request that asks for `kind`.
async fn asks(port: &ReservedPort, kind: &str, path: &str) -> (u16, String, bool) {
    let request = Request::get(path)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", kind)
        .body(Empty::<Bytes>::new())
        .expect("valid");
    let answer = client::http1(port.addr(), request)
        .await
        .expect("an answer");
    let close = answer.headers.get("connection");
    let is_last = close.is_some_and(|value| value == "close");
    (answer.status.as_u16(), answer.text(), is_last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_and_end_alike() {
    if !peers_are_there() {
        return;
    }
    let (_server, server) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(2);
    let text = both_listeners(&ports, &file, server);
    let look = |admin: Admin| {
        let (ports, file) = (&ports, &file);
        async move {
            let mut seen = Vec::new();
            let [on, off] = [0, 1].map(|place| ports[place].number());
            for (port, what, path) in [
                (on, "echo", "/"),
                (on, "server-closes", "/"),
                (on, "server-aborts", "/"),
                (on, "silence", "/silent"),
                (on, "echo", "/off"),
                (on, "echo", "/deny"),
                (off, "echo", "/"),
                (off, "echo", "/on"),
                (on, "end", "/"),
                (on, "abort", "/"),
            ] {
                seen.push(format!("{what} {path}: {}", see(port, what, path)));
            }
            for (kind, path) in [
                ("other", "/"),
                ("other", "/direct"),
                ("websocket", "/direct"),
                ("h2c", "/direct"),
            ] {
                seen.push(format!(
                    "{kind} {path}: {:?}",
                    asks(&ports[0], kind, path).await
                ));
            }
            let logged = entries(file, 14).await;
            let mut numbers = Vec::new();
            for (name, listener) in NUMBERS
                .into_iter()
                .flat_map(|name| [(name, "on"), (name, "off")])
            {
                let full = format!("http.{listener}.{name}");
                numbers.push((full.clone(), admin.stat(&full).await.expect("it answers")));
            }
            (seen, logged, numbers)
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    let plain = |seen: Vec<String>| seen.join("\n").replace(" weir", " envoy");
    assert_eq!(plain(weir.0), plain(envoy.0));
    assert_eq!(weir.1, envoy.1);
    assert_eq!(weir.2, envoy.2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_are_told_when_the_proxy_goes() {
    if !peers_are_there() {
        return;
    }
    let (mut server, port) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports(2);
    let file = folder.path().join("log");
    let weir = Weir::start(&both_listeners(&ports, &file, port)).await;
    let mut client = Script::start("client.py", &[&ports[0].number().to_string(), "wait"]);
    assert_eq!(client.line(), "here");
    weir.stop().await;
    assert_eq!(client.line(), "closed 1001  websocket weir");
    assert_eq!(server.line(), "ended 1001");
    let entry = entries(&file, 1).await.remove(0);
    assert!(entry.contains("\"weir_drained\""), "{entry}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_are_told_when_the_host_goes() {
    if !peers_are_there() {
        return;
    }
    let (mut server, port) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports(2);
    let file = folder.path().join("log");
    let text = both_listeners(&ports, &file, port);
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let text = format!("{text}admin: {}\n", json!({ "address": address }));
    let weir = Weir::start_with(&text, Duration::from_millis(100)).await;
    let mut client = Script::start("client.py", &[&ports[0].number().to_string(), "wait"]);
    assert_eq!(client.line(), "here");
    let admin = weir.live().admin_address().expect("it was asked for");
    let path = format!("/drain_endpoint?cluster=c&address=127.0.0.1:{port}");
    let request = Request::post(path)
        .body(Empty::<Bytes>::new())
        .expect("valid");
    let answer = client::http1(admin, request).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert_eq!(client.line(), "closed 1001  websocket weir");
    assert_eq!(server.line(), "ended 1001");
    let entry = entries(&file, 1).await.remove(0);
    assert!(entry.contains("\"upstream_host_left\""), "{entry}");
    weir.stop().await;
}

/// Bytes a client sends ahead go nowhere while nobody has agreed (security case S14).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s14_what_is_sent_ahead_waits_for_the_101() {
    if !peers_are_there() {
        return;
    }
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let upstream = listening.local_addr().expect("it is bound");
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports(2);
    let text = both_listeners(&ports, &folder.path().join("log"), upstream.port());
    let weir = Weir::start(&text).await;
    let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nAHEAD";
    for is_agreed in [true, false] {
        let mut client = TcpStream::connect(ports[0].addr())
            .await
            .expect("it listens");
        client.write_all(ask.as_bytes()).await.expect("it is open");
        let (mut server, _) = listening.accept().await.expect("it connects");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(server.read_buf(&mut head).await.expect("a head") > 0);
        }
        let text = String::from_utf8(head).expect("it is text");
        assert!(
            text.contains("upgrade: websocket\r\n") && text.contains("connection: upgrade\r\n"),
            "{text}"
        );
        let (answer, wanted) = if is_agreed {
            (
                "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nTOO",
                "AHEAD",
            )
        } else {
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "")
        };
        server
            .write_all(answer.as_bytes())
            .await
            .expect("it is open");
        let mut came = vec![0; wanted.len()];
        server.read_exact(&mut came).await.expect("it comes");
        assert_eq!(came, wanted.as_bytes());
        drop_and_read(server, client, is_agreed).await;
    }
    weir.stop().await;
}

/// Nothing else comes to the server; the client gets what was said, and the end.
async fn drop_and_read(mut server: TcpStream, mut client: TcpStream, is_agreed: bool) {
    if is_agreed {
        server.shutdown().await.expect("it is open");
    }
    let (mut rest, mut answer) = (Vec::new(), String::new());
    server.read_to_end(&mut rest).await.expect("an end");
    assert!(rest.is_empty(), "{rest:?}");
    client.read_to_string(&mut answer).await.expect("an end");
    let (status, end) = if is_agreed {
        ("101", "TOO")
    } else {
        ("200", "no")
    };
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    assert!(
        answer.ends_with(end) && !answer.contains("content-length: 0"),
        "{answer}"
    );
    assert_eq!(answer.contains("connection: close"), !is_agreed, "{answer}");
}
