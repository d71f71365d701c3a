//! Every member fails: retries must not make it worse. One hop adds at most 20 % to what is offered,
//! two hops 44 %.

use std::net::SocketAddr;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::origin::Origin;
use super::origin::Step;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::open;
use crate::setting::Weir;

/// Percent of what is in flight, retries among it: `b` of it add at most `b / (1 - b)`, which is a fifth,
/// and come that close when attempts take much longer than the waits between them.
const BUDGET: u32 = 16;

/// Enough for a budget of several retries at a time.
const CLIENTS: usize = 40;
const REQUESTS: usize = 25;
const OFFERED: usize = CLIENTS * REQUESTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r06_a_storm_stays_within_its_budget() {
    let origin = Origin::start(&[Step::Answer(503, &[])]).await;
    let ports = free_ports(2);
    let (outer, inner) = (&ports[0], &ports[1]);
    let of_inner = Weir::start(&configuration(inner, origin.address)).await;
    open(&ports[1..]).await;
    offer(inner).await;
    let seen = origin.take_seen().len();
    assert!(seen > OFFERED, "nothing was tried again");
    assert!(seen <= OFFERED * 12 / 10, "{seen} of {OFFERED}");

    let of_outer = Weir::start(&configuration(outer, inner.addr())).await;
    open(&ports[..1]).await;
    offer(outer).await;
    let seen = origin.take_seen().len();
    assert!(seen > OFFERED, "nothing was tried again");
    assert!(seen <= OFFERED * 144 / 100, "{seen} of {OFFERED}");
    of_outer.stop().await;
    of_inner.stop().await;
}

fn configuration(port: &ReservedPort, target: SocketAddr) -> String {
    let policy = json!({"retry_on": "5xx,reset,connect-failure", "num_retries": 3});
    let routes = json!([{
        "match": {"prefix": "/"},
        "route": {"cluster": "target", "retry_policy": policy},
    }]);
    let mut cluster = cluster("target", target.port());
    let budget = json!({"budget_percent": {"value": BUDGET}, "min_retry_concurrency": 1});
    cluster["circuit_breakers"] = json!({"thresholds": [{"retry_budget": budget}]});
    bootstrap(&[listener(port, &manager(&routes, &json!({})))], &[cluster])
}

pub(super) fn listener(port: &ReservedPort, filter: &Value) -> Value {
    json!({
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port.number()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": filter}]}],
    })
}

/// All clients at once, each one request after the other.
async fn offer(port: &ReservedPort) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(ask_again_and_again(port.addr())))
        .collect();
    for client in clients {
        client.await.expect("every request is answered");
    }
}

async fn ask_again_and_again(target: SocketAddr) {
    let mut stream = TcpStream::connect(target).await.expect("it listens");
    for _ in 0..REQUESTS {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.expect("it is open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut answer).await.expect("it is open");
            assert!(read > 0, "closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 503"), "{answer:?}");
    }
}
