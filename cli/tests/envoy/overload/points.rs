//! Where load is shed: every point of both proxies, at a connection that was there before, at a new one, and
//! at one of HTTP/2.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bench::origin::Origin;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::inject;
use super::watching;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// Each with how many lines are logged of it while load is shed there, and before.
const POINTS: [(&str, usize); 8] = [
    ("tcp_listener_accept", 2),
    ("hcm_ondata_creating_codec", 2),
    ("http1_server_abort_dispatch", 4),
    ("http2_server_go_away_and_close_on_dispatch", 1),
    ("http2_server_go_away_on_dispatch", 4),
    ("http_connection_manager_decode_headers", 4),
    ("http_downstream_filter_check", 4),
    ("connection_pool_new_connection", 3),
];

/// After so long without a byte nothing more comes, once an answer has come.
const SILENCE: Duration = Duration::from_millis(250);

/// Pressure is looked at much more often, beside a busy machine, too.
const NOTICED: Duration = Duration::from_millis(700);

/// A connection of HTTP/2 that brings a request for `/`: preface, SETTINGS, HEADERS of stream 1.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\0\x04\0\0\0\0\0\
    \0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a";

/// What came, and whether the connection has ended. It does not go on without an answer or an end.
async fn rest(stream: &mut TcpStream, is_answer: impl Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
    let mut come = Vec::new();
    loop {
        let patience = if is_answer(&come) { SILENCE } else { PATIENCE };
        match timeout(patience, stream.read_buf(&mut come)).await {
            Err(_) => return (come, false),
            Ok(Ok(0) | Err(_)) => return (come, true),
            Ok(Ok(_)) => {}
        }
    }
}

/// Kinds of frames (RFC 9113 section 6).
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

/// Whether a frame of this kind has begun.
fn has_frame(mut come: &[u8], wanted: u8) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = come {
        if *kind == wanted {
            return true;
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        come = after.get(length..).unwrap_or_default();
    }
    false
}

/// The status of the answer, and whether it says that it is the last; nothing but the end is an end.
async fn ask(stream: &mut TcpStream) -> String {
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    if asked.is_err() {
        return "closed".to_owned();
    }
    let (come, has_ended) = rest(stream, |come| !come.is_empty()).await;
    let come = String::from_utf8_lossy(&come).to_lowercase();
    let status = come.split(' ').nth(1).unwrap_or("nothing");
    let is_last = has_ended || come.contains("\r\nconnection: close");
    let end = if is_last { "last" } else { "open" };
    format!("{status} {end}")
}

/// Whether there is an answer on the stream, whether there is a GOAWAY, and whether the connection ends.
async fn ask_http2(address: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return "refused".to_owned();
    };
    if stream.write_all(HTTP2).await.is_err() {
        return "closed".to_owned();
    }
    let (come, has_ended) = rest(&mut stream, |come| has_frame(come, HEADERS)).await;
    let (answered, told) = (has_frame(&come, HEADERS), has_frame(&come, GOAWAY));
    format!("answered {answered}, told {told}, ended {has_ended}")
}

/// A listener that tells what became of each request, and where it went.
fn listener(port: u16, log: &Path) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]);
    let format =
        "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %PROTOCOL% %UPSTREAM_HOST%\n";
    let file = json!({
        "path": log,
        "log_format": {"text_format_source": {"inline_string": format}},
    });
    let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
    let log = json!({"access_log": [{"name": "file", "typed_config": file}]});
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "http", "typed_config": manager(&routes, &log),
        }]}],
    })
}

/// What is seen of one point, and what is logged.
async fn look(
    address: SocketAddr,
    (directory, log): (&Path, &Path),
    (has_pool, lines): (bool, usize),
) -> Vec<String> {
    inject(directory, "0");
    let mut old = TcpStream::connect(address).await.expect("it is open");
    let mut seen = Vec::new();
    if has_pool {
        seen.push(format!("before: {}", ask(&mut old).await));
    }
    inject(directory, "1");
    tokio::time::sleep(NOTICED).await;
    seen.push(format!("old: {}", ask(&mut old).await));
    let new = match TcpStream::connect(address).await {
        Ok(mut stream) => ask(&mut stream).await,
        Err(_) => "closed".to_owned(),
    };
    // How a connection that is closed at once looks depends on who was faster.
    let new = new.replace("nothing last", "closed");
    seen.push(format!("new: {new}"));
    let http2 = ask_http2(address).await;
    let http2 = http2.replace("answered false, told false, ended true", "closed");
    seen.push(format!("HTTP/2: {http2}"));
    let logged = until(|| async {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let is_whole = text.lines().count() >= lines;
        is_whole.then_some(()).ok_or(text)
    });
    logged.await.expect("it is logged");
    let text = std::fs::read_to_string(log).expect("it is there");
    seen.extend(text.lines().map(str::to_owned));
    inject(directory, "0");
    let again = until(|| async {
        let mut stream = TcpStream::connect(address).await;
        let answer = match &mut stream {
            Ok(stream) => ask(stream).await,
            Err(error) => error.to_string(),
        };
        let is_well = answer == "200 open";
        is_well.then_some(()).ok_or(answer)
    });
    again.await.expect("it goes by itself");
    let _ = std::fs::remove_file(log); // the next proxy makes its own
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_shed_alike_at_every_point() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    for (point, lines) in POINTS {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        let log = directory.join("log");
        inject(directory, "0");
        let ports = free_ports(1);
        let statics = bootstrap(
            &[listener(ports[0].number(), &log)],
            &[cluster("c", origin.addr().port())],
        );
        let mut overload = watching(directory);
        overload["loadshed_points"] = json!([{
            "name": format!("envoy.load_shed_points.{point}"),
            "triggers": [{"name": "file", "threshold": {"value": 0.5}}],
        }]);
        let text = format!("{statics}overload_manager: {overload}\n");
        let has_pool = point != "connection_pool_new_connection";
        let look = || look(ports[0].addr(), (directory, &log), (has_pool, lines));
        let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
        assert_eq!(envoy, weir, "{point}");
    }
}
