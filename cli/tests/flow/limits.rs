//! No more connections than there may be: in the process, at a listener, at a filter chain, and with
//! the descriptors there are. Who is one too many is told at once, and the others do not notice.

use std::net::SocketAddr;
use std::process::Command;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// Whether a new connection is served: a TCP proxy in front of an origin that echoes one byte.
async fn is_served(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let echoed = async {
        stream.write_all(b"x").await?;
        stream.read_exact(&mut byte).await
    };
    soon("an echo or an end", echoed).await.is_ok()
}

async fn echo() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await; // to any end
            });
        }
    });
    addr
}

/// What differs between the three tests: the runtime, and filters before the TCP proxy.
async fn start(port: u16, runtime: Value, before: &[Value]) -> Proxy {
    let origin = echo().await;
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "origin",
    });
    let mut filters = before.to_vec();
    filters.push(json!({"name": "tcp", "typed_config": proxy}));
    let bootstrap = json!({
        "layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]},
        "static_resources": {
            "listeners": [{
                "name": "main",
                "address": address(port),
                "filter_chains": [{"filters": filters}],
            }],
            "clusters": [{
                "name": "origin",
                "load_assignment": {
                    "cluster_name": "origin",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(origin.port())}}]}],
                },
            }],
        },
    });
    let proxy = Proxy::start(&bootstrap.to_string()).await;
    proxy.listens("main").await;
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_is_refused_and_the_next_is_served() {
    let limit = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix": "l",
        "max_connections": 3,
    });
    let filter = json!({"name": "limit", "typed_config": limit});
    for (runtime, before) in [
        (
            json!({"overload.global_downstream_max_connections": 3}),
            &[][..],
        ),
        (
            json!({"envoy.resource_limits.listener.main.connection_limit": 3}),
            &[],
        ),
        (json!({}), &[filter]),
    ] {
        let port = ReservedPort::new().expect("a free port");
        let proxy = start(port.number(), runtime.clone(), before).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
            assert!(is_served(&mut stream).await, "{runtime}");
            held.push(stream);
        }
        let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
        assert!(!is_served(&mut stream).await, "{runtime}");
        assert!(is_served(&mut held[2]).await, "{runtime}");
        drop(held.pop());
        // The place is free once the proxy has seen the end.
        until("a place", async || {
            let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
            is_served(&mut stream).await.then_some(())
        })
        .await;
        drop(held);
        proxy.stop().await;
    }
}

/// Security case R3: four times as many clients as descriptors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r03_with_few_descriptors_left_new_connections_are_refused_at_once() {
    const CONNECTIONS: usize = 1000;
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("hello"));
    let admin = ReservedPort::new().expect("a free port");
    let text = |port| {
        let port_0 = "port_value: 0";
        let text = bootstrap::fixed(port, origin.addr(), false);
        text.replacen(port_0, &format!("port_value: {}", admin.number()), 1)
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]);
    shell.arg(weir().get_program());
    let mut child = Child::start(shell, text).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(child.addr()).await.expect("it listens"));
    }
    let mut refused = 0;
    while refused < CONNECTIONS - 256 {
        let mut byte = [0];
        let mut staying = Vec::new();
        for mut stream in idle {
            match stream.try_read(&mut byte) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    staying.push(stream);
                }
                // An end, or a reset.
                Ok(_) | Err(_) => {
                    let _ = stream.shutdown().await;
                    refused += 1;
                }
            }
        }
        idle = staying;
        tokio::task::yield_now().await;
    }
    // There is something left for those who are in, and for the operator.
    assert!(idle.len() > 100, "{} stay", idle.len());
    for stream in idle.iter_mut().take(20) {
        let answer = ask(stream, "a").await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let mut operator = TcpStream::connect(admin.addr()).await.expect("it listens");
    let answer = ask(&mut operator, "localhost").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // And as soon as there are some, for everyone.
    drop(idle);
    until("an answer", async || {
        let mut stream = TcpStream::connect(child.addr()).await.expect("it listens");
        ask(&mut stream, "a").await.ends_with("hello").then_some(())
    })
    .await;
    child.process.check_running().expect("it lives");
}

/// The answer to one request, or what there is of it.
async fn ask(stream: &mut TcpStream, host: &str) -> String {
    let question = format!("GET /ready HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(question.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    let _ = soon("an answer or an end", asked).await; // a reset is an end
    String::from_utf8_lossy(&answer).into_owned()
}
