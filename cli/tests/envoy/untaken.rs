//! Clients that ask and take nothing of the answer: they are left after the same time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bench::origin::Origin;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::overload::inject;
use crate::overload::reducing;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;

/// As the manager says, when nothing else does.
const IDLE: &str = "0.8s";

/// Paths, each with a timeout of its own or none, and after how many seconds a stream is reset there, without
/// and with a flush timeout of the manager's.
const PATHS: [(&str, Option<&str>, [f64; 2]); 3] = [
    ("/direct", None, [0.8, 2.0]),
    ("/sent", None, [0.8, 2.0]),
    ("/route", Some("3.2s"), [3.2, 3.2]),
];

/// Timers are that coarse.
const EARLY: f64 = 0.02;

/// How late it may be beside a busy machine, which is less than what lies between two of them.
const LATE: f64 = 1.1;

/// The preface, and settings by which no stream may send a byte.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
    \0\0\0\x04\x01\0\0\0\0";

/// `RST_STREAM` and `INTERNAL_ERROR` (RFC 9113 sections 6.4 and 7).
const RESET: (u8, &[u8]) = (3, &[0, 0, 0, 2]);

fn listener(port: u16, flush: Option<&str>) -> Value {
    let direct = json!({"status": 200, "body": {"inline_string": "hello"}});
    let route = |path: &str, flush: Option<&str>| {
        let mut route = json!({"cluster": "c", "timeout": "0s"});
        if let Some(flush) = flush {
            route["flush_timeout"] = flush.into();
        }
        json!({"match": {"path": path}, "route": route})
    };
    let mut routes = vec![json!({"match": {"path": "/direct"}, "direct_response": direct})];
    routes.extend(
        PATHS
            .iter()
            .skip(1)
            .map(|(path, flush, _)| route(path, *flush)),
    );
    let mut more = json!({"stream_idle_timeout": IDLE});
    if let Some(flush) = flush {
        more["stream_flush_timeout"] = flush.into();
    }
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "http", "typed_config": manager(&routes.into(), &more),
        }]}],
    })
}

/// The head of a request that ends with it.
fn head(path: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a short path");
    let path = path.as_bytes();
    let block = [b"\x82\x86\x41\x01a\x04", &[length(path)][..], path].concat();
    [&[0, 0, length(&block), 1, 5, 0, 0, 0, 1][..], &block].concat()
}

/// How long it takes until the stream is reset, of which nothing was sent; and how it is.
async fn until_reset(target: SocketAddr, path: &str) -> (f64, bool) {
    let mut stream = TcpStream::connect(target).await.expect("it listens");
    let began = Instant::now();
    let asked = [BEGIN, &head(path)].concat();
    stream.write_all(&asked).await.expect("it reads");
    let mut came = Vec::new();
    loop {
        let read = timeout(PATIENCE, stream.read_buf(&mut came)).await;
        assert!(
            matches!(read, Ok(Ok(1..))),
            "{path}: {read:?} after {came:?}"
        );
        let mut left = came.as_slice();
        while let [a, b, c, kind, _, _, _, _, _, after @ ..] = left {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some((payload, rest)) = after.split_at_checked(length) else {
                break;
            };
            assert!(*kind != 0, "{path}: data, though there is no window");
            if *kind == RESET.0 {
                return (began.elapsed().as_secs_f64(), payload == RESET.1);
            }
            left = rest;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_nothing_is_reset_alike() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    let ports = free_ports(2);
    let listeners = [
        listener(ports[0].number(), None),
        listener(ports[1].number(), Some("2s")),
    ];
    let text = bootstrap(&listeners, &[cluster("c", origin.addr().port())]);
    let look = || async {
        let [plain, flush] = [0, 1].map(|place: usize| ports[place].addr());
        let of = |path: usize| {
            let path = PATHS[path].0;
            async move { tokio::join!(until_reset(plain, path), until_reset(flush, path)) }
        };
        let (direct, sent, route) = tokio::join!(of(0), of(1), of(2));
        [direct, sent, route]
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    for (who, seen) in [("Envoy", envoy), ("Weir", weir)] {
        for ((path, _, wanted), (plain, flush)) in PATHS.into_iter().zip(seen) {
            for (wanted, (took, is_internal)) in wanted.into_iter().zip([plain, flush]) {
                let is_in_time = (wanted - EARLY..wanted + LATE).contains(&took);
                assert!(
                    is_in_time && is_internal,
                    "{who}: {path} after {took} of {wanted}"
                );
            }
        }
    }
}

/// Half of the flush timeout is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_nothing_is_reset_sooner_under_load() {
    if !envoy_is_there() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    inject(directory, "1");
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), Some("3.2s"));
    let text = bootstrap(&[listener], &[cluster("c", 1)]);
    let timer = json!({"timer": "HTTP_DOWNSTREAM_STREAM_FLUSH", "min_scale": {"value": 50.0}});
    let at = json!({"threshold": {"value": 0.5}});
    let manager = reducing(directory, &json!([timer]), &at);
    let text = format!("{text}overload_manager: {manager}\n");
    let look = || async {
        tokio::time::sleep(Duration::from_millis(700)).await; // the file is read by then
        until_reset(ports[0].addr(), "/direct").await
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    for (who, (took, _)) in [("Envoy", envoy), ("Weir", weir)] {
        assert!((1.6 - EARLY..1.6 + LATE).contains(&took), "{who}: {took}");
    }
}

/// Paths of routes over HTTP/1.1, what they say, and when their upstream is left, whose answer never ends.
const ENDLESS: [(&str, &str, Option<f64>); 4] = [
    ("/idle", "", Some(0.8)),
    ("/later", "2s", Some(2.0)),
    ("/timed", "timeout", Some(1.4)),
    ("/kept", "0s", None),
];

/// How long is waited for an end that does not come.
const KEPT: Duration = Duration::from_secs(4);

fn endless_listener(port: u16) -> Value {
    let routes = ENDLESS.map(|(path, says, _)| {
        let mut route = json!({"cluster": "c", "timeout": "0s"});
        match says {
            "" => {}
            "timeout" => {
                route["timeout"] = "1.4s".into();
                route["idle_timeout"] = "0s".into();
            }
            idle => route["idle_timeout"] = idle.into(),
        }
        json!({"match": {"path": path}, "route": route})
    });
    let more = json!({"stream_idle_timeout": IDLE});
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "http", "typed_config": manager(&json!(routes), &more),
        }]}],
    })
}

/// Answers without end, and tells by path how long somebody took something of it, or at least had the
/// connection open.
async fn endless() -> (u16, mpsc::Receiver<(String, f64)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (told, tells) = mpsc::channel(ENDLESS.len() * 4);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                        return;
                    }
                }
                let began = Instant::now();
                let answer = b"HTTP/1.1 200 OK\r\n\r\n";
                let mut sent = stream.write_all(answer).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b'x'; 64 * 1024]).await;
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let took = began.elapsed().as_secs_f64();
                let _ = told.send((path, took)).await; // the test may be over
            });
        }
    });
    (port, tells)
}

/// Over HTTP/1.1 a client that reads nothing has as long as the route gives it, not more nor less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_nothing_has_the_time_of_its_route() {
    if !envoy_is_there() {
        return;
    }
    let (origin, tells) = endless().await;
    let tells = Mutex::new(tells);
    let ports = free_ports(1);
    let text = bootstrap(
        &[endless_listener(ports[0].number())],
        &[cluster("c", origin)],
    );
    let look = || async {
        let mut clients = Vec::new();
        for (path, ..) in ENDLESS {
            let stream = TcpStream::connect(ports[0].addr()).await;
            let mut stream = stream.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            stream
                .write_all(request.as_bytes())
                .await
                .expect("it reads");
            clients.push(stream);
        }
        tokio::time::sleep(KEPT).await;
        let mut seen = BTreeMap::new();
        let mut tells = tells.lock().await;
        while let Ok((path, after)) = tells.try_recv() {
            seen.insert(path, after);
        }
        drop(clients);
        let _kept = tells.recv().await; // it ends now, and is told of
        seen
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    for (who, seen) in [("Envoy", envoy), ("Weir", weir)] {
        for (path, _, wanted) in ENDLESS {
            let after = seen.get(path).copied();
            let is_right = match (wanted, after) {
                (Some(wanted), Some(after)) => (wanted - EARLY..wanted + LATE).contains(&after),
                (None, None) => true,
                _ => false,
            };
            assert!(is_right, "{who}: {path} after {after:?} of {wanted:?}");
        }
    }
}
