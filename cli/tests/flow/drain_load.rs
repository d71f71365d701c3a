//! SIGTERM under an open loop of keep-alive HTTP/1.1, HTTP/2 and gRPC clients at once loses no request, nor
//! one of curl, or of Envoy with HTTP/2: each client ends with its connection, and what falls due after that
//! is not sent.
//!
//! Requests come at 600 per second; with `WEIR_FULL=1`, which wants `WEIR_BIN` to name a release build, at
//! 5,000.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bench::load::Load;
use bench::load::Pace;
use bench::load::Plan;
use bench::load::Protocol;
use bench::load::RequestShape;
use bench::load::Transport;
use bench::origin::FixedOptions;
use bench::origin::FixedOrigin;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::curl;
use crate::support::until;

/// What the proxy has to be gone after its signal: `--drain-timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What the load is looked at for.
const WINDOW: Duration = Duration::from_millis(500);

/// Kinds of clients, their connections, and their part of the rate. Each connection of HTTP/1.1 is used
/// many times a second.
const KINDS: [(Protocol, usize, f64); 3] = [
    (Protocol::Http1, 24, 0.4),
    (Protocol::Http2 { streams: 16 }, 4, 0.4),
    (Protocol::GrpcUnary { streams: 16 }, 4, 0.2),
];

/// What curl says of a request when nobody listens any more, and of one that its proxy could not send on.
const REFUSED: [&str; 2] = ["000 7", "503 22"];

/// What Envoy counts of requests that were lost with their connection.
const LOST: [&str; 3] = [
    "upstream_rq_rx_reset",
    "upstream_rq_retry",
    "upstream_cx_destroy_remote_with_active_rq",
];

fn rate() -> f64 {
    if std::env::var_os("WEIR_FULL").is_some() {
        5_000.0
    } else {
        600.0
    }
}

async fn start(target: SocketAddr, (protocol, connections, part): (Protocol, usize, f64)) -> Load {
    let plan = Plan {
        target,
        protocol,
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections,
        pace: Pace::Open {
            rate: rate() * part,
            seed: 7,
        },
    };
    Load::start(plan).await.expect("it listens")
}

/// Requests of curl on one connection, until one fails; a line for each.
fn curl(target: SocketAddr) -> JoinHandle<String> {
    let url = format!("http://{target}/[1-1000000]");
    tokio::spawn(async move {
        let told = ["-w", "%{http_code} %{exitcode}\n", "-o", "/dev/null", "-s"];
        let asked = ["--fail", "--fail-early", "--rate", "100/s", &url];
        curl::run(&[&told[..], &asked].concat()).await
    })
}

/// An Envoy that sends all it gets to `upstream` by HTTP/2.
async fn envoy(port: u16, upstream: SocketAddr) -> Envoy {
    let text = bootstrap::fixed(port, upstream, true);
    let text: Vec<&str> = text.lines().skip(1).collect(); // its admin interface is elsewhere
    let envoy = Envoy::start(&text.join("\n")).await;
    let envoy = envoy.expect("it takes the bootstrap");
    let listens = async || TcpStream::connect(("127.0.0.1", port)).await.ok();
    until("Envoy's listener", listens).await;
    envoy
}

/// Says, past the capture of output, what is missing.
fn peers_are_there() -> bool {
    let Err(error) = Envoy::locate() else {
        return curl::is_there();
    };
    let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{error}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_any_client_is_lost_when_the_proxy_stops() {
    if !peers_are_there() {
        return;
    }
    let options = FixedOptions {
        body_bytes: 100,
        ..FixedOptions::default()
    };
    let origin = FixedOrigin::start(&options).expect("a free port");
    let mut child = Child::proxy(origin.addr(), true).await;
    let mut loads = Vec::new();
    for kind in KINDS {
        loads.push(start(child.addr(), kind).await);
    }
    let port = ReservedPort::new().expect("a free port");
    let envoy = envoy(port.number(), child.addr()).await;
    let curls = [child.addr(), port.addr()].map(curl);
    until("a load that is kept up with", async || {
        let before = origin.requests();
        tokio::time::sleep(WINDOW).await;
        let answered = (origin.requests() - before) as f64;
        (answered >= 0.95 * rate() * WINDOW.as_secs_f64()).then_some(())
    })
    .await;

    loads.iter().for_each(Load::retire);
    let told = Instant::now();
    child.process.signal(Signal::TERM).expect("it runs");
    let status = child.ended().await;
    assert_eq!(status.code(), Some(0), "{}", child.process.whole_output());
    assert!(told.elapsed() < DRAIN_TIMEOUT, "{:?}", told.elapsed());
    let said = child.process.whole_output();
    assert!(!said.contains("are cut"), "{said}");
    for (mut load, kind) in loads.into_iter().zip(KINDS) {
        until("the clients' end", async || {
            (!load.is_running()).then_some(())
        })
        .await;
        let counters = load.counters();
        let failure = load.first_failure();
        let told = format!("{kind:?}: {failure:?}, {counters:?}");
        assert!(counters.completed > 0, "{told}");
        assert_eq!((counters.failed, counters.refused), (0, 0), "{told}");
    }
    for (lines, refused) in curls.into_iter().zip(REFUSED) {
        let lines = lines.await.expect("no panic");
        let mut lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.pop(), Some(refused), "{lines:?}");
        assert!(lines.len() > 1, "{lines:?}");
        assert!(lines.iter().all(|line| *line == "200 0"), "{lines:?}");
    }
    for name in LOST {
        let lost = envoy.admin().stat(&format!("cluster.origin.{name}")).await;
        assert_eq!(lost.expect("it answers"), Some(0), "{name}");
    }
}
