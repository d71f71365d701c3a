//! How long the client of a connection that has said its last is waited for: `delayed_close_timeout`; and one
//! that was told that its connection ends, and does not answer: `drain_timeout`.

use std::time::Duration;

use bench::peer::Admin;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::breakers::of_both;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// What a listener says, and whether its connections have ended by themselves and were cut then.
const PATIENCE: [(&str, bool, u64); 3] = [("0s", true, 0), ("0.05s", true, 1), ("600s", false, 0)];

/// A request that is answered before all of it has come, so that more may be on its way.
const HTTP1: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";

/// The preface, no settings, and the head of `GET /` for `a` (RFC 7541). It is the only request that is taken, so the
/// connection ends after its answer.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

/// A PING and the answer to one, without what is in them (RFC 9113 section 6.7).
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0";
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0";

/// Named by how long it waits.
fn listener(port: u16, patience: &str) -> Value {
    let answer = json!({"status": 200, "body": {"inline_string": "early"}});
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": answer}]);
    let more = json!({
        "stat_prefix": patience,
        "delayed_close_timeout": patience,
        "common_http_protocol_options": {"max_requests_per_connection": 1},
    });
    json!({
        "name": patience,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager(&routes, &more)}]}],
    })
}

/// Asks, reads the answer, and stays whatever comes: it only answers the PING by which it is asked whether it has
/// heard that the connection ends.
async fn ask(port: u16, request: &[u8]) -> JoinSet<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = stream.expect("it listens");
    stream.write_all(request).await.expect("it reads");
    let mut came = Vec::new();
    while find(&came, b"early").is_none() {
        let read = stream.read_buf(&mut came).await.expect("it answers");
        assert!(read > 0, "an end after {came:?}");
    }
    let mut staying = JoinSet::new();
    staying.spawn(async move {
        let mut is_owed = true;
        loop {
            let ping = find(&came, PING).and_then(|at| came.get(at + PING.len()..)?.get(..8));
            if let Some(payload) = ping.filter(|_| is_owed) {
                let pong = [PONG, payload].concat();
                let _ = stream.write_all(&pong).await; // it may be gone
                is_owed = false;
            }
            match stream.read_buf(&mut came).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => std::future::pending().await,
            }
        }
    });
    staying
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window == wanted)
}

async fn number(admin: &Admin, name: &str, what: &str) -> u64 {
    let value = admin
        .stat(&format!("http.{name}.downstream_cx_{what}"))
        .await;
    value.expect("it answers").unwrap_or(0)
}

async fn active_is(admin: &Admin, name: &str, wanted: u64) {
    let active = || async {
        match number(admin, name, "active").await {
            active if active == wanted => Ok(()),
            active => Err(format!("{active} connections of {name}, not {wanted}")),
        }
    };
    until(active).await.expect("connections end");
}

/// The number of connections that were cut.
async fn see(admin: &Admin, ports: &[u16], request: &[u8]) -> Vec<u64> {
    let mut clients = Vec::new();
    for port in ports {
        clients.push(ask(*port, request).await);
    }
    for (_, (patience, ends, _)) in ports.iter().zip(PATIENCE) {
        // Those that are waited for are looked at after the others have gone.
        active_is(admin, patience, u64::from(!ends)).await;
    }
    drop(clients);
    let mut cut = Vec::new();
    for (patience, _, _) in PATIENCE {
        active_is(admin, patience, 0).await;
        cut.push(number(admin, patience, "delayed_close_timeout").await);
    }
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_waited_for_alike() {
    if !envoy_is_there() {
        return;
    }
    let ports = free_ports(PATIENCE.len());
    let numbers: Vec<u16> = ports.iter().map(|port| port.number()).collect();
    let listeners = numbers.iter().zip(PATIENCE);
    let listeners: Vec<Value> = listeners
        .map(|(port, (patience, _, _))| listener(*port, patience))
        .collect();
    let text = bootstrap(&listeners, &[]);
    let look = |admin: Admin| {
        let numbers = &numbers;
        async move {
            let first = see(&admin, numbers, HTTP1).await;
            // Not the last: an Envoy that waits for a client of HTTP/2 does not see it leave.
            let second = see(&admin, &numbers[..2], HTTP2).await;
            [first, second]
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    let once = PATIENCE.map(|(_, _, cut)| cut).to_vec();
    let twice = once.iter().map(|cut| 2 * cut).collect();
    assert_eq!(envoy, [once, twice]);
    assert_eq!(weir, envoy);
}

/// The first word of a connection's end (RFC 9113 section 6.8), without the stream in it.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0";

/// How long the connection of a client that asks once and answers nothing lasts, and whether it was told.
async fn unheard(port: u16) -> (Duration, bool) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = stream.expect("it listens");
    let began = Instant::now();
    stream.write_all(HTTP2).await.expect("it reads");
    let mut came = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut came).await {}
    assert!(find(&came, b"early").is_some(), "{came:?}");
    (began.elapsed(), find(&came, GOAWAY).is_some())
}

/// A connection of HTTP/2 that does nothing for 0.2 s ends, whether its client answers or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_answer_are_left_alike() {
    if !envoy_is_there() {
        return;
    }
    let ports = free_ports(2);
    let drain = ["0.4s", "1.5s"];
    let listeners = ports.iter().zip(drain).map(|(port, drain)| {
        let mut listener = listener(port.number(), drain);
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager["drain_timeout"] = drain.into();
        manager["delayed_close_timeout"] = "0.1s".into();
        manager["common_http_protocol_options"] = json!({"idle_timeout": "0.2s"});
        listener
    });
    let text = bootstrap(&listeners.collect::<Vec<_>>(), &[]);
    let look = |_| async {
        let clients = (unheard(ports[0].number()), unheard(ports[1].number()));
        let (first, second) = tokio::join!(clients.0, clients.1);
        [first, second]
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    for (who, seen) in [("Envoy", envoy), ("Weir", weir)] {
        assert!(seen.iter().all(|(_, is_told)| *is_told), "{who}: {seen:?}");
        let lasted: Vec<_> = seen
            .iter()
            .map(|(lasted, _)| lasted.as_secs_f64())
            .collect();
        // Not before their time, and not much after it beside a busy machine.
        assert!((0.55..1.6).contains(&lasted[0]), "{who}: {lasted:?}");
        assert!((1.65..2.7).contains(&lasted[1]), "{who}: {lasted:?}");
    }
}
