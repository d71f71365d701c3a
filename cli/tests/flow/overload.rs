//! A proxy that runs short of something says so, refuses what its configuration tells it to refuse,
//! and keeps its admin interface.

use bench::client;
use bench::origin::Origin;
use bench::origin::Reply;
use bench::ports::ReservedPort;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::bootstrap;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// A proxy that has more than the one byte it may have, and does `action` about it.
async fn overloaded(action: &str, origin: &Origin, port: &ReservedPort) -> Proxy {
    let manager = format!(
        "\
overload_manager:
  refresh_interval: 0.01s
  resource_monitors:
  - name: heap
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig
      max_heap_size_bytes: 1
  actions:
  - name: envoy.overload_actions.{action}
    triggers: [{{name: heap, threshold: {{value: 0.95}}}}]
"
    );
    let text = bootstrap::fixed(port.number(), origin.addr(), false);
    let proxy = Proxy::start(&format!("{text}{manager}")).await;
    proxy.listens("main").await;
    until("overload", async || {
        let stats = get(&proxy, &format!("/stats?filter={action}")).await;
        stats.contains("active: 1").then_some(())
    })
    .await;
    proxy
}

async fn get(proxy: &Proxy, path: &str) -> String {
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).expect("valid");
    let answer = client::http1(proxy.admin(), request).await;
    answer.expect("an answer").text()
}

fn origin() -> (Origin, ReservedPort) {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("whole"));
    (origin, ReservedPort::new().expect("a free port"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_refused_and_told_when_to_come_again() {
    let (origin, port) = origin();
    let proxy = overloaded("stop_accepting_requests", &origin, &port).await;
    for (content, status, grpc) in [
        ("text/plain", 503, None),
        ("application/grpc", 200, Some("14")),
    ] {
        let request = Request::post("/").header("content-type", content);
        let request = request.body(Empty::<Bytes>::new()).expect("valid");
        let answer = client::http2(port.addr(), request)
            .await
            .expect("an answer");
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["retry-after"], "1");
        let told = answer.headers.get("grpc-status");
        assert_eq!(told.and_then(|value| value.to_str().ok()), grpc);
    }
    assert!(origin.seen().is_empty());
    let stats = get(&proxy, "/stats").await;
    assert!(stats.contains("downstream_rq_overload_close: 2"), "{stats}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_say_that_their_connection_ends() {
    let (origin, port) = origin();
    let proxy = overloaded("disable_http_keepalive", &origin, &port).await;
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let request = b"GET / HTTP/1.1\r\nhost: flow\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    soon("the end", read).await.expect("an end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_closed_at_once() {
    let (origin, port) = origin();
    let proxy = overloaded("reject_incoming_connections", &origin, &port).await;
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let mut answer = Vec::new();
    let read = soon("the end", stream.read_to_end(&mut answer)).await;
    assert!(read.is_err() || answer.is_empty(), "{answer:?}");
    let stats = get(&proxy, "/stats").await;
    assert!(
        !stats.contains("downstream_cx_overload_reject: 0"),
        "{stats}"
    );
    proxy.stop().await;
}

/// Until this is read to its end it is held somewhere.
const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_does_not_take_is_counted_and_given_up_when_memory_runs_short() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body(vec![b'x'; LARGE]));
    let port = ReservedPort::new().expect("a free port");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("pressure");
    std::fs::write(&file, "0").expect("a writable directory");
    let manager = format!(
        "\
overload_manager:
  refresh_interval: 0.01s
  buffer_factory_config: {{minimum_account_to_track_power_of_two: 10}}
  resource_monitors:
  - name: file
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig
      filename: {}
  actions:
  - name: envoy.overload_actions.reset_high_memory_stream
    triggers: [{{name: file, threshold: {{value: 0.95}}}}]
",
        file.display()
    );
    let text = bootstrap::fixed(port.number(), origin.addr(), false);
    let proxy = Proxy::start(&format!("{text}{manager}")).await;
    proxy.listens("main").await;
    let held = async || {
        let stats = get(&proxy, "/stats?filter=held_bytes$").await;
        let value = |name: &str| {
            let mut values = stats.lines().filter_map(|line| line.split_once(": "));
            let value = values.find(|(known, _)| known.ends_with(name));
            value.map_or(0, |(_, value)| value.parse::<u64>().expect("a number"))
        };
        (value(".downstream_held_bytes"), value("server.held_bytes"))
    };
    assert_eq!(held().await.0, 0);
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let request = b"GET / HTTP/1.1\r\nhost: flow\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    until("something is held", async || {
        let (listener, process) = held().await;
        (listener > 0 && process >= listener).then_some(())
    })
    .await;
    assert!(held().await.0 <= 1024 * 1024, "a piece, not the whole");

    std::fs::write(&file, "1").expect("a writable directory");
    until("nothing is held", async || {
        (held().await.0 == 0).then_some(())
    })
    .await;
    let mut taken = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut taken)).await; // cut, with or without a reset
    assert!(taken.len() < LARGE);
    let stats = get(&proxy, "/stats?filter=reset_high_memory_stream.count").await;
    assert!(stats.trim_end().ends_with(": 1"), "{stats}");
    let flags = get(&proxy, "/stats/prometheus?filter=downstream_rq_flag").await;
    assert!(flags.contains("response_flag=\"OM\""), "{flags}");
    proxy.stop().await;
}
