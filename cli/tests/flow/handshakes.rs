//! What clients send to a listener that ends TLS, in place of a sound ClientHello or cut in every way:
//! security case T1.

use std::path::Path;

use bench::certificates::Certificates;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;

use crate::first_bytes::client_hello;
use crate::first_bytes::s_client;
use crate::first_bytes::text;
use crate::support::panics;
use crate::support::raw::Raw;
use crate::support::servers::Proxy;
use crate::support::soon;

/// Types of TLS records (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Largest record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

const OK: &str = "HTTP/1.1 200";

/// A listener that ends TLS and answers everything; it may look at the first bytes before.
fn bootstrap(port: u16, folder: &Path, inspects: bool) -> String {
    let typed =
        |name: &str| json!({"@type": format!("type.googleapis.com/envoy.extensions.{name}")});
    let mut manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager");
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let router = typed("filters.http.router.v3.Router");
    manager["stat_prefix"] = "h".into();
    manager["http_filters"] = json!([{"name": "router", "typed_config": router}]);
    manager["route_config"] =
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]});
    let mut context = typed("transport_sockets.tls.v3.DownstreamTlsContext");
    context["common_tls_context"] = json!({"tls_certificates": [{
        "certificate_chain": {"filename": folder.join("server.pem")},
        "private_key": {"filename": folder.join("server.key")},
    }]});
    let inspector = typed("filters.listener.tls_inspector.v3.TlsInspector");
    let filters: Vec<Value> = inspects
        .then(|| json!({"name": "tls", "typed_config": inspector}))
        .into_iter()
        .collect();
    let listener = json!({
        "name": "main",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": filters,
        "filter_chains": [{
            "filters": [{"name": "http", "typed_config": manager}],
            "transport_socket": {"name": "tls", "typed_config": context},
        }],
    });
    json!({"static_resources": {"listeners": [listener]}}).to_string()
}

async fn start(folder: &Path, inspects: bool) -> (Proxy, ReservedPort) {
    let port = ReservedPort::new().expect("a free port");
    let proxy = Proxy::start(&bootstrap(port.number(), folder, inspects)).await;
    proxy.listens("main").await;
    (proxy, port)
}

fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::new().expect("a key");
    certificates.write_to(folder.path()).expect("a directory");
    folder
}

/// How what a client sends is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// One byte at a time.
    Bytes,
    /// The first flight as records of one byte.
    Records,
}

/// Stands between one client and the proxy.
async fn cutter(to: &ReservedPort, cut: Cut) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let to = to.addr();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await?;
        let server = TcpStream::connect(to).await?;
        server.set_nodelay(true)?;
        let (from, mut back) = client.into_split();
        let (mut answers, onward) = server.into_split();
        let cutting = async {
            match cut {
                Cut::Bytes => Box::pin(in_bytes(from, onward)).await,
                Cut::Records => in_records(from, onward).await,
            }
        };
        let returning = tokio::io::copy(&mut answers, &mut back);
        tokio::try_join!(cutting, returning).map(drop)
    });
    address
}

async fn in_bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        for byte in &buffer[..len] {
            to.write_all(&[*byte]).await?;
            tokio::task::yield_now().await; // a segment of its own, mostly
        }
    }
}

async fn in_records(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let mut record = vec![0; length];
    from.read_exact(&mut record).await?;
    for byte in record {
        to.write_all(&[HANDSHAKE, 3, 1, 0, 1, byte]).await?;
    }
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// What `openssl s_client` is answered.
async fn served(to: &str, version: &str) -> String {
    let mut client = s_client(to, bench::certificates::SERVER_NAME);
    client.arg(version).arg("-quiet").arg("-ign_eof");
    client.stdin(std::process::Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child = client.spawn()?;
        let mut input = child.stdin.take().expect("it is piped");
        // Who is refused reads nothing.
        let _ = input.write_all(b"GET / HTTP/1.1\r\nhost: bench.test\r\nconnection: close\r\n\r\n");
        child.wait_with_output()
    });
    let output = soon("OpenSSL", output).await.expect("no panic");
    text(&output.expect("it was there just now"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_however_a_hello_is_cut_its_client_is_served() {
    if client_hello("a.example").await.is_none() {
        return;
    }
    let folder = certificates();
    for inspects in [false, true] {
        let (proxy, port) = start(folder.path(), inspects).await;
        for cut in [Cut::Bytes, Cut::Records] {
            for version in ["-tls1_2", "-tls1_3"] {
                let said = served(&cutter(&port, cut).await, version).await;
                assert!(said.contains(OK), "{cut:?} {version} {inspects}: {said}");
            }
        }
        proxy.stop().await;
    }
}

/// A ClientHello of TLS 1.2 with as many unknown extensions.
fn hello_with(extensions: u16) -> Vec<u8> {
    let list: Vec<u8> = (0..extensions)
        .flat_map(|number| {
            let [high, low] = (number + 0x4000).to_be_bytes();
            [high, low, 0, 0]
        })
        .collect();
    // Version, random, no session, one suite, no compression.
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let length = u16::try_from(list.len()).expect("it fits");
    body.extend(length.to_be_bytes());
    body.extend(list);
    handshake(1, &body)
}

/// A message in as few records as there can be.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len())
        .expect("it is short")
        .to_be_bytes();
    let message = [&[kind], &length[1..], body].concat();
    let records = message.chunks(RECORD_BYTES_MAX).map(|part| {
        let length = u16::try_from(part.len()).expect("a record").to_be_bytes();
        [&[HANDSHAKE, 3, 1], &length[..], part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_nonsense_is_answered_with_an_alert_or_an_end() {
    panics::watch();
    let Some(hello) = client_hello("bench.test").await else {
        return;
    };
    let mut of_server = hello.clone();
    of_server[5] = 2;
    let mut cut_short = hello.clone();
    cut_short.truncate(hello.len() / 2);
    let mut flipped = hello.clone();
    for byte in flipped.iter_mut().skip(43).step_by(7) {
        *byte ^= 0x55;
    }
    let inputs = [
        ("4,000 extensions", hello_with(4_000)),
        ("10,000 extensions", hello_with(10_000)),
        (
            "a message of 16 MiB",
            [
                &[HANDSHAKE, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..],
                &[0; 200_000],
            ]
            .concat(),
        ),
        ("a hello of 100 kB", handshake(1, &[0; 100_000])),
        (
            "a record too large",
            [&[HANDSHAKE, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat(),
        ),
        ("empty records", [HANDSHAKE, 3, 1, 0, 0].repeat(10_000)),
        ("alerts", [ALERT, 3, 3, 0, 2, 1, 0].repeat(10_000)),
        ("hellos without end", hello.repeat(100)),
        (
            "data before the handshake",
            [23, 3, 3, 0, 4, 1, 2, 3, 4].repeat(1_000),
        ),
        ("a ServerHello", of_server),
        ("half a hello and its end", cut_short),
        ("a hello with broken bits", flipped),
        ("SSL 2", [0x80, 0x2e, 1, 0, 2].repeat(100)),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        ("0xff", vec![0xff; 200_000]),
        ("nothing", Vec::new()),
    ];
    let folder = certificates();
    for inspects in [false, true] {
        let (proxy, port) = start(folder.path(), inspects).await;
        for (name, input) in &inputs {
            let mut client = Raw::open(port.addr()).await;
            client.send(input).await;
            client.finish().await;
            let answer = client.read_all().await;
            // A hello that is sound so far is answered by the server's first flight.
            let is_alert = answer.first().is_none_or(|kind| *kind == ALERT);
            assert!(
                is_alert || *name == "hellos without end",
                "{name}: {answer:?}"
            );
        }
        let said = served(&port.addr().to_string(), "-tls1_3").await;
        assert!(said.contains(OK), "and it still serves: {said}");
        proxy.stop().await;
    }
    assert_eq!(panics::seen(), Vec::<String>::new());
}
