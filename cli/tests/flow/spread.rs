//! With `exact_balance` each worker has as many connections of a listener as the others, whichever of
//! them accepted a connection. None is lost between them when the process ends.
//!
//! Which worker a client is with shows at the origin: a worker has connections of its own there, one as
//! long as requests come one after the other.

use bench::ports::ReservedPort;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::raw::Raw;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// Answers each request with the number of its connection.
async fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let mut number = (0..10_u8).cycle();
        while let Ok((stream, _)) = listener.accept().await {
            let number = number.next().expect("few connections");
            tokio::spawn(answer(stream, number));
        }
    });
    port
}

async fn answer(mut stream: TcpStream, number: u8) {
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            let written = stream.write_all(answer.as_bytes()).await;
            written.expect("the proxy reads");
        }
    }
}

fn bootstrap(port: u16, admin: u16, origin: u16) -> String {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let typed = |name: &str| json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.{name}")});
    let mut manager = typed("network.http_connection_manager.v3.HttpConnectionManager");
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let router = typed("http.router.v3.Router");
    manager["stat_prefix"] = "h".into();
    manager["http_filters"] = json!([{"name": "router", "typed_config": router}]);
    manager["route_config"] =
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]});
    let listener = json!({
        "name": "l",
        "stat_prefix": "named",
        "address": address(port),
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    });
    let members = json!([{"lb_endpoints": [{"endpoint": {"address": address(origin)}}]}]);
    let cluster = json!({
        "name": "origin",
        "load_assignment": {"cluster_name": "origin", "endpoints": members},
    });
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    })
    .to_string()
}

/// A new client, and the number of the connection its request came by.
async fn client(port: &ReservedPort) -> (TcpStream, u8) {
    let stream = TcpStream::connect(port.addr()).await;
    let mut stream = stream.expect("it listens");
    let written = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    written.expect("it is open");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
        let read = soon("an answer", stream.read_buf(&mut answer)).await;
        assert!(read.expect("it is open") > 0, "{answer:?}");
    }
    (stream, *answer.last().expect("there is a body"))
}

/// Waits until so many connections are open.
async fn open(admin: &ReservedPort, wanted: usize) {
    until("the listener's connections", async || {
        let mut connection = Raw::open(admin.addr()).await;
        let question = b"GET /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        connection.send(question).await;
        let answer = String::from_utf8(connection.read_all().await).expect("it is text");
        let line = format!("listener.named.downstream_cx_active: {wanted}");
        answer.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_have_equally_many_connections() {
    let (port, admin) = (ReservedPort::new(), ReservedPort::new());
    let (port, admin) = (port.expect("a free port"), admin.expect("a free port"));
    let text = bootstrap(port.number(), admin.number(), origin().await);
    let proxy = Proxy::start(&text).await;
    proxy.listens("l").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(client(&port).await);
    }
    let of = |clients: &[(TcpStream, u8)], worker: u8| {
        clients
            .iter()
            .filter(|(_, number)| *number == worker)
            .count()
    };
    assert_eq!((of(&clients, b'0'), of(&clients, b'1')), (4, 4));
    clients.retain(|(_, number)| *number == b'1');
    open(&admin, 4).await;
    for _ in 0..6 {
        clients.push(client(&port).await);
    }
    assert_eq!((of(&clients, b'0'), of(&clients, b'1')), (5, 5));
    drop(clients);
    open(&admin, 0).await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_lost_between_workers_at_the_end() {
    let origin = origin().await;
    let admin = ReservedPort::new().expect("a free port");
    let text = |port| bootstrap(port, admin.number(), origin);
    let mut child = Child::start(weir(), text).await;
    // They wait to be accepted while the process stands still, and all that happens to it then
    // happens at once.
    child.process.signal(Signal::STOP).expect("it runs");
    let mut clients = Vec::new();
    for _ in 0..64 {
        let stream = TcpStream::connect(child.addr()).await;
        let mut stream = stream.expect("the kernel takes it");
        let written = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        written.expect("it is open");
        clients.push(stream);
    }
    child.process.signal(Signal::TERM).expect("it runs");
    child.process.signal(Signal::CONT).expect("it runs");
    for mut client in clients {
        let mut answer = String::new();
        let read = soon("an answer", client.read_to_string(&mut answer)).await;
        assert!(
            read.is_ok() && answer.starts_with("HTTP/1.1 200"),
            "{answer:?}"
        );
    }
    let status = child.ended().await;
    assert_eq!(status.code(), Some(0), "{}", child.process.whole_output());
}
