//! Clients that say almost nothing, in every phase: each is let go at its absolute deadline, and many of
//! them cost nothing (security case R1).

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bench::certificates::Certificates;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::first_bytes::client_hello;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::soon;
use crate::support::until;

/// Between two bytes of a client that is watched to its end; each comes long before any deadline.
const DRIP: Duration = Duration::from_millis(500);

/// What a busy machine may add to a deadline.
const LATE: Duration = Duration::from_millis(700);

/// Clients at the same time, and how long what they cost is looked at.
const MANY: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(2);

/// Between two looks at whether it is at rest.
const LOOK: Duration = Duration::from_millis(200);

/// Configured deadlines, seconds; the others are the proxy's own: 5 s to the end of a TLS handshake,
/// 10 s to the end of a request's head.
const LISTENER_FILTERS: u64 = 2;
const REQUEST: u64 = 3;

/// The preface of HTTP/2 with empty settings (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What is needed to be slow in each way.
struct World {
    child: Child,
    tls: ReservedPort,
    inspected: ReservedPort,
    introduced: ReservedPort,
    hello: Vec<u8>,
    _folder: tempfile::TempDir,
}

/// One way to be slow.
struct Slow {
    name: &'static str,
    target: SocketAddr,
    /// Said at once.
    first: Vec<u8>,
    /// Then this, byte for byte, and again.
    drip: &'static [u8],
    /// When it is over.
    deadline: Duration,
}

fn bootstrap(main: u16, [tls, inspected, introduced]: [u16; 3], folder: &Path) -> String {
    let typed =
        |name: &str| json!({"@type": format!("type.googleapis.com/envoy.extensions.{name}")});
    let mut manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager");
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let router = typed("filters.http.router.v3.Router");
    manager["stat_prefix"] = "h".into();
    manager["request_timeout"] = format!("{REQUEST}s").into();
    manager["http_filters"] = json!([{"name": "router", "typed_config": router}]);
    manager["route_config"] =
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]});
    let mut context = typed("transport_sockets.tls.v3.DownstreamTlsContext");
    context["common_tls_context"] = json!({"tls_certificates": [{
        "certificate_chain": {"filename": folder.join("server.pem")},
        "private_key": {"filename": folder.join("server.key")},
    }]});
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let listener = |port: u16, filter: Option<&str>, has_tls: bool| -> Value {
        let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
        if has_tls {
            chain["transport_socket"] = json!({"name": "tls", "typed_config": context});
        }
        let filters = filter.map(|filter| json!({"name": "f", "typed_config": typed(filter)}));
        json!({
            "name": port.to_string(),
            "address": address(port),
            "listener_filters": filters.into_iter().collect::<Vec<_>>(),
            "listener_filters_timeout": format!("{LISTENER_FILTERS}s"),
            "filter_chains": [chain],
        })
    };
    let listeners = json!([
        listener(main, None, false),
        listener(tls, None, true),
        listener(
            inspected,
            Some("filters.listener.tls_inspector.v3.TlsInspector"),
            true
        ),
        listener(
            introduced,
            Some("filters.listener.proxy_protocol.v3.ProxyProtocol"),
            false
        ),
    ]);
    // Nobody gets so far as to be sent there.
    let endpoint = json!({"endpoint": {"address": address(main)}});
    let cluster = json!({
        "name": "origin",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    });
    json!({"static_resources": {"listeners": listeners, "clusters": [cluster]}}).to_string()
}

impl World {
    async fn start() -> Option<Self> {
        let hello = client_hello("bench.test").await?;
        let folder = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::new().expect("a key");
        certificates.write_to(folder.path()).expect("a directory");
        let [tls, inspected, introduced] =
            [(); 3].map(|()| ReservedPort::new().expect("a free port"));
        let others = [&tls, &inspected, &introduced].map(ReservedPort::number);
        let child = Child::start(weir(), |port| bootstrap(port, others, folder.path())).await;
        // The child is waited for at its first listener only.
        for listener in [&tls, &inspected, &introduced] {
            until("a listener", async || {
                TcpStream::connect(listener.addr()).await.ok()
            })
            .await;
        }
        Some(Self {
            child,
            tls,
            inspected,
            introduced,
            hello,
            _folder: folder,
        })
    }

    /// Waits until what came first was dealt with.
    async fn is_at_rest(&self) {
        let mut before = Duration::ZERO;
        until("rest", async || {
            tokio::time::sleep(LOOK).await; // nothing tells that nothing happens
            let now = self.child.process.cpu_time().expect("it runs").total;
            let used = now - std::mem::replace(&mut before, now);
            (used < LOOK / 100).then_some(())
        })
        .await;
    }

    fn ways(&self) -> Vec<Slow> {
        let way = |name, target, first: &[u8], drip, seconds| Slow {
            name,
            target,
            first: first.to_vec(),
            drip,
            deadline: Duration::from_secs(seconds),
        };
        let (plain, tls) = (self.child.addr(), self.tls.addr());
        let (inspected, introduced) = (self.inspected.addr(), self.introduced.addr());
        let half = &self.hello[..self.hello.len() / 2];
        let headers = [PREFACE, b"\0\x40\0\x01\0\0\0\0\x01\x82\x84\x86"].concat();
        let post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
        vec![
            way("a silent client", plain, b"", b"", 10),
            way(
                "a head",
                plain,
                b"GET / HTTP/1.1\r\nhost: a\r\n",
                b"x-a: b\r\n",
                10,
            ),
            way("a preface", plain, b"", &PREFACE[..23], 10),
            way("a header block", plain, &headers, b"\x00\x01a\x01b", 10),
            way("a body", plain, post, b"a", REQUEST),
            way(
                "a gRPC body",
                plain,
                &grpc(),
                b"\0\0\x01\0\0\0\0\0\x01a",
                REQUEST,
            ),
            way("a silent client of TLS", tls, b"", b"", 5),
            way("a hello", tls, half, &[0], 5),
            way(
                "a hello in records",
                tls,
                &[22, 3, 1, 0, 1, 1],
                &[22, 3, 1, 0, 1, 0],
                5,
            ),
            way("nothing after the ServerHello", tls, &self.hello, b"", 5),
            way(
                "an inspected hello",
                inspected,
                half,
                &[0],
                LISTENER_FILTERS,
            ),
            way(
                "a PROXY header",
                introduced,
                b"PROXY TCP4 ",
                b"1",
                LISTENER_FILTERS,
            ),
            way(
                "a PROXY header 2",
                introduced,
                b"\r\n\r\n\0\r\nQUIT\n!\x11\x40\0",
                b"\0",
                LISTENER_FILTERS,
            ),
        ]
    }
}

impl Slow {
    /// When the proxy let it go.
    async fn run(&self) -> Duration {
        let began = Instant::now();
        let mut client = TcpStream::connect(self.target).await.expect("it listens");
        let _ = client.set_nodelay(true);
        let (mut reads, mut writes) = client.split();
        let write = async {
            let _ = writes.write_all(&self.first).await; // an end is seen below
            for byte in self.drip.iter().cycle() {
                if writes.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(DRIP).await; // as a slow client
            }
            std::future::pending::<()>().await;
        };
        let end = async {
            let mut buffer = [0; 4096];
            let mut said = Vec::new();
            // An answer is not the end, but a reset is, and with HTTP/2 that of the stream.
            while let Ok(len @ 1..) = reads.read(&mut buffer).await {
                said.extend_from_slice(buffer.get(..len).unwrap_or_default());
                if self.first.starts_with(PREFACE) && is_stream_over(&said) {
                    break;
                }
            }
        };
        tokio::select! {
            () = write => {}
            () = end => {}
        }
        began.elapsed()
    }
}

/// The head of a call with a message of 100,000 bytes, of which nothing is there.
fn grpc() -> Vec<u8> {
    let fields = b"\x83\x86\x44\x02/m\x41\x01a\x5f\x10application/grpc\x40\x02te\x08trailers";
    let length = u8::try_from(fields.len()).expect("it is short");
    let head = [&[0, 0, length, 1, 4, 0, 0, 0, 1][..], fields].concat();
    let message = b"\0\0\x05\0\0\0\0\0\x01\0\0\x01\x86\xa0";
    [PREFACE, head.as_slice(), message].concat()
}

/// Whether a frame of the server ends stream 1 (RFC 9113 section 4.1): DATA or HEADERS that say so, or
/// `RST_STREAM`.
fn is_stream_over(mut said: &[u8]) -> bool {
    while let Some((&[a, b, c, kind, flags, .., id], rest)) = said.split_first_chunk::<9>() {
        let is_end = kind == 3 || (kind <= 1 && flags & 1 == 1);
        if id == 1 && is_end {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        said = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Absolute: no byte moves a deadline, and none comes early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r01_who_drips_is_let_go_at_the_deadline() {
    let Some(world) = World::start().await else {
        return;
    };
    let ways = world.ways();
    let clients: Vec<_> = ways
        .into_iter()
        .map(|way| {
            (
                way.name,
                tokio::spawn(async move { (Box::pin(way.run()).await, way) }),
            )
        })
        .collect();
    let mut wrong = Vec::new();
    for (name, client) in clients {
        let (lasted, way) = soon(name, client).await.expect("no panic");
        let least = way.deadline.mul_f64(0.95);
        let most = way.deadline.mul_f64(1.05) + LATE;
        if lasted < least || lasted > most {
            wrong.push(format!("{}: {lasted:?}, not {:?}", way.name, way.deadline));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What waiting costs, with a byte of each client once in ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r01_a_thousand_slow_clients_cost_nothing() {
    let Some(world) = World::start().await else {
        return;
    };
    // Those whose deadline is long after the window.
    let ways = world.ways();
    let ways: Vec<_> = ways
        .iter()
        .filter(|way| way.deadline.as_secs() >= 5)
        .collect();
    let mut clients = Vec::new();
    for way in ways.iter().cycle().take(MANY) {
        let mut client = TcpStream::connect(way.target).await.expect("it listens");
        client.write_all(&way.first).await.expect("it is taken");
        clients.push((client, way.drip));
    }
    world.is_at_rest().await;
    let before = world.child.process.cpu_time().expect("it runs");
    let began = Instant::now();
    let drops = MANY / 5; // in this window, at a byte of each in ten seconds
    for (number, (client, drip)) in clients.iter_mut().take(drops).enumerate() {
        let _ = client.write_all(drip.get(..1).unwrap_or_default()).await;
        let share = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let due = WINDOW * share / u32::try_from(drops).unwrap_or(1);
        tokio::time::sleep_until(began + due).await; // evenly
    }
    let used = world
        .child
        .process
        .cpu_time()
        .expect("it runs")
        .since(&before);
    let share = used.total.as_secs_f64() / began.elapsed().as_secs_f64();
    // A debug build, which is what is tested unless another is named, takes three times as long.
    let most = if std::env::var_os("WEIR_BIN").is_some() {
        0.01
    } else {
        0.03
    };
    assert!(share <= most, "{share} of a processor");
}
