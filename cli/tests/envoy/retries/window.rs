//! A retry budget that is a share of what has begun within a window: as many retries as with Envoy, however
//! many requests are in progress.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::storm::listener;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// Requests that fail all at once.
const FAILING: usize = 10;

/// How long the origin takes to fail: all of them are in progress before the first one has failed.
const FAILS_AFTER: Duration = Duration::from_millis(600);

/// How long slow requests last: longer than all the others.
const SLOW: Duration = Duration::from_secs(3);

/// A window, what goes before (requests that are over, requests that go on), how long that is ago, and how
/// many of the failing requests are tried again with a budget of 20 %.
type Case = (&'static str, (usize, usize), Duration, usize);

const MOMENT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1200);

const CASES: [Case; 4] = [
    // A fifth of the ten themselves.
    ("5s", (0, 0), MOMENT, 2),
    // A fifth of fifty, though forty of them are over.
    ("5s", (40, 0), MOMENT, FAILING),
    // Those before are forgotten.
    ("1.5s", (40, 0), LONG, 2),
    // Nobody has begun for as long as it takes to fail, though forty go on.
    ("0.2s", (0, 40), LONG, 0),
];

/// Fails, or answers at once or late, by the path; counts what it fails.
async fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let failed = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&failed);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&count)));
        }
    });
    (address, failed)
}

async fn serve(mut stream: TcpStream, failed: Arc<AtomicUsize>) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let status = if head.starts_with(b"GET /bad") {
            failed.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(FAILS_AFTER).await;
            "503 x"
        } else {
            if head.starts_with(b"GET /slow") {
                tokio::time::sleep(SLOW).await;
            }
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn ask(proxy: SocketAddr, path: &'static str) {
    let mut stream = TcpStream::connect(proxy).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = stream.read_buf(&mut answer).await.expect("it is open");
        assert!(read > 0, "closed");
    }
}

fn all_at_once(count: usize, proxy: SocketAddr, path: &'static str) -> JoinSet<()> {
    (0..count).map(|_| ask(proxy, path)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_may_be_a_share_of_what_has_begun() {
    if !envoy_is_there() {
        return;
    }
    let (address, failed) = origin().await;
    for (window, (over, going_on), ago, retries) in CASES {
        let ports = free_ports(1);
        let policy = json!({"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}});
        let routes = json!([{
            "match": {"prefix": "/"},
            "route": {"cluster": "c", "timeout": "0s", "retry_policy": policy},
        }]);
        let mut cluster = cluster("c", address.port());
        let budget = json!({
            "budget_percent": {"value": 20.0},
            "min_retry_concurrency": 0,
            "budget_interval": window,
        });
        cluster["circuit_breakers"] = json!({"thresholds": [{"retry_budget": budget}]});
        let listener = listener(&ports[0], &manager(&routes, &json!({})));
        let text = bootstrap(&[listener], &[cluster]);
        let proxy = ports[0].addr();
        let look = || async {
            let before = failed.load(Ordering::SeqCst);
            all_at_once(over, proxy, "/good").join_all().await;
            let slow = all_at_once(going_on, proxy, "/slow");
            tokio::time::sleep(ago).await;
            all_at_once(FAILING, proxy, "/bad").join_all().await;
            slow.join_all().await;
            failed.load(Ordering::SeqCst) - before - FAILING
        };
        let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
        let case = (window, over, going_on);
        assert_eq!((envoy, weir), (retries, retries), "{case:?}");
    }
}
