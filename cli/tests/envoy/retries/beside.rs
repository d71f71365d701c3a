//! Another attempt beside one that is slower than most (`weir.route.v1.HedgeAfterLatency`), which Envoy does
//! not have: the second answers instead, and there are never more of them than their share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::ask;
use super::storm::listener;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::open;
use crate::setting::Weir;

/// Requests that are answered at once, from which the proxy learns.
const QUICK: usize = 100;

/// A member that answers, until it is told to hang.
struct Member {
    address: SocketAddr,
    hangs: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Member {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (hangs, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (told, count) = (Arc::clone(&hangs), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&told), Arc::clone(&count)));
            }
        });
        Self {
            address,
            hangs,
            seen,
            task,
        }
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    fn seen(&self) -> usize {
        self.seen.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, hangs: Arc<AtomicBool>, seen: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        seen.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if !hangs.load(Ordering::SeqCst) && stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn configuration(port: &ReservedPort, members: &[&Member], policy: &Value) -> String {
    let mut typed = policy.clone();
    typed["@type"] = "type.googleapis.com/weir.route.v1.HedgeAfterLatency".into();
    let host = json!({
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "both", "timeout": "0.3s"}}],
        "typed_per_filter_config": {"hedge": typed},
        "include_attempt_count_in_response": true,
    });
    let mut cluster = cluster("both", 1);
    let member = |member: &&Member| {
        let address = json!({"address": "127.0.0.1", "port_value": member.address.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    };
    let members: Vec<Value> = members.iter().map(member).collect();
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = members.into();
    let manager = manager(
        &json!([]),
        &json!({"route_config": {"virtual_hosts": [host]}}),
    );
    bootstrap(&[listener(port, &manager)], &[cluster])
}

fn get() -> String {
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_attempt_is_answered_by_another_within_the_budget() {
    let (first, second) = (Member::start().await, Member::start().await);
    let ports = free_ports(1);
    let policy = json!({"min_samples": 50, "min_delay": "0.02s", "budget_percent": 10});
    let text = configuration(&ports[0], &[&first, &second], &policy);
    let weir = Weir::start(&text).await;
    open(&ports).await;
    for _ in 0..QUICK {
        assert!(ask(&ports[0], &get()).await.starts_with("200"));
    }
    first.seen();
    second.seen();

    // Of two members one hangs: half of the requests come to it, and each is answered by the other one
    // while hedges last, which 100 requests have paid 10 of.
    first.hang(true);
    let mut second_attempts = 0;
    while second_attempts < 5 {
        let answer = ask(&ports[0], &get()).await;
        assert!(answer.starts_with("200"), "{answer}");
        second_attempts += usize::from(answer.starts_with("200 2"));
    }
    assert!(first.seen() >= 5);

    // Both hang: no more than a share of what comes is sent twice.
    second.hang(true);
    second.seen();
    let requests = 30;
    for _ in 0..requests {
        assert!(ask(&ports[0], &get()).await.starts_with("504"));
    }
    let sent = first.seen() + second.seen();
    let paid = QUICK / 10 + requests / 10 + 2;
    assert!(sent > requests && sent <= requests + paid, "{sent}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_effects_is_sent_once() {
    let (first, second) = (Member::start().await, Member::start().await);
    let ports = free_ports(1);
    let policy = json!({"min_samples": 50, "min_delay": "0.02s", "budget_percent": 50});
    let text = configuration(&ports[0], &[&first, &second], &policy);
    let weir = Weir::start(&text).await;
    open(&ports).await;
    for _ in 0..QUICK {
        assert!(ask(&ports[0], &get()).await.starts_with("200"));
    }
    first.hang(true);
    second.hang(true);
    first.seen();
    second.seen();
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..4 {
        assert!(ask(&ports[0], post).await.starts_with("504"));
    }
    assert_eq!(first.seen() + second.seen(), 4);
    assert!(ask(&ports[0], &get()).await.starts_with("504"));
    assert_eq!(first.seen() + second.seen(), 2);
    weir.stop().await;
}
