//! What clients send first, before a filter chain is chosen: cut into bytes, too long, nonsense, or too
//! slow; and TLS that passes through untouched to where its server name says.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use bench::ports::ReservedPort;
use bench::process::Process;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::raw::Raw;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// Deadline of the listener filters.
const PATIENCE: &str = "0.5s";

/// Clients that say too little, at the same time.
const SLOW: usize = 200;

/// How long the processor's use is looked at; there is nothing to wait for.
const WINDOW: Duration = Duration::from_millis(400);

/// One chain for each name, which leads to the cluster behind it; other TLS finds none.
fn bootstrap(port: u16, chains: &[(&str, SocketAddr)]) -> String {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let typed = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let chain = |(name, _): &(&str, SocketAddr)| -> Value {
        let proxy = json!({
            "@type": typed("network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "t",
            "cluster": name,
        });
        json!({
            "filter_chain_match": {"server_names": [name]},
            "filters": [{"name": "tcp", "typed_config": proxy}],
        })
    };
    let cluster = |(name, to): &(&str, SocketAddr)| -> Value {
        let endpoint = json!({"endpoint": {"address": address(to.port())}});
        json!({
            "name": name,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        })
    };
    let inspector = json!({"@type": typed("listener.tls_inspector.v3.TlsInspector")});
    let listener = json!({
        "name": "main",
        "address": address(port),
        "listener_filters": [{"name": "tls", "typed_config": inspector}],
        "listener_filters_timeout": PATIENCE,
        "filter_chains": chains.iter().map(chain).collect::<Vec<_>>(),
    });
    let clusters: Vec<Value> = chains.iter().map(cluster).collect();
    json!({"static_resources": {"listeners": [listener], "clusters": clusters}}).to_string()
}

/// A proxy that sends TLS for `a.example` to `origin`.
async fn start(origin: &TcpListener) -> (Proxy, ReservedPort) {
    let port = ReservedPort::new().expect("a free port");
    let to = origin.local_addr().expect("it is bound");
    let proxy = Proxy::start(&bootstrap(port.number(), &[("a.example", to)])).await;
    proxy.listens("main").await;
    (proxy, port)
}

/// A ClientHello as OpenSSL sends it; none if there is no OpenSSL.
pub(crate) async fn client_hello(name: &str) -> Option<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut client = match s_client(&address, name).spawn() {
        Ok(client) => client,
        Err(error) => {
            missing(&error.to_string());
            return None;
        }
    };
    let (mut stream, _) = soon("OpenSSL", listener.accept()).await.expect("it comes");
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).await.expect("a record");
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream
        .read_exact(&mut record[5..])
        .await
        .expect("all of it");
    client.kill().expect("it is ours");
    client.wait().expect("it is ours");
    Some(record)
}

pub(crate) fn s_client(to: &str, name: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-brief", "-connect", to, "-servername", name]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Says, past the capture of output, what is missing.
fn missing(what: &str) {
    let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "openssl: {what}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: openssl: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_a_hello_in_single_bytes_reaches_its_origin_unchanged() {
    let Some(hello) = client_hello("a.example").await else {
        return;
    };
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (proxy, port) = start(&origin).await;
    let mut client = TcpStream::connect(port.addr()).await.expect("it listens");
    client.set_nodelay(true).expect("it is a socket");
    for byte in &hello {
        client.write_all(&[*byte]).await.expect("it is taken");
        tokio::task::yield_now().await; // a segment of its own, mostly
    }
    let (mut accepted, _) = soon("the proxy", origin.accept()).await.expect("it comes");
    let mut passed = vec![0; hello.len()];
    let read = soon("the hello", accepted.read_exact(&mut passed)).await;
    read.expect("all of it");
    assert_eq!(passed, hello);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_nonsense_is_refused_at_once() {
    let Some(hello) = client_hello("b.example").await else {
        return;
    };
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (proxy, port) = start(&origin).await;
    let mut broken = hello.clone();
    broken[5] = 2; // a ServerHello
    let long = [
        &[22, 3, 1, 0x40, 0][..],
        &[1, 0xff, 0xff, 0xff][..],
        &[0; 20_000],
    ]
    .concat();
    let many = [22, 3, 1, 0, 1, 1].repeat(5_000);
    let inputs: [&[u8]; 7] = [
        &hello, // of a name that nobody has
        &broken,
        &long,
        &many,
        b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n",
        &[0xff; 4096],
        &[22; 20_000],
    ];
    for input in inputs {
        let mut client = Raw::open(port.addr()).await;
        client.send(input).await;
        assert!(client.read_all().await.is_empty());
    }
    let mut nobody = Raw::open(port.addr()).await;
    nobody.finish().await;
    assert!(nobody.read_all().await.is_empty());
    // And it still serves.
    let hello = client_hello("a.example")
        .await
        .expect("it was there just now");
    let mut client = TcpStream::connect(port.addr()).await.expect("it listens");
    client.write_all(&hello).await.expect("it is taken");
    soon("the proxy", origin.accept()).await.expect("it comes");
    proxy.stop().await;
}

/// Security case R1: the deadline is absolute, and waiting costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r01_a_slow_hello_is_refused_at_the_deadline() {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = origin.local_addr().expect("it is bound");
    let text = |port| bootstrap(port, &[("a.example", to)]);
    let child = Child::start(weir(), text).await;
    let began = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..SLOW {
        let client = TcpStream::connect(child.addr()).await.expect("it listens");
        clients.push(tokio::spawn(trickle(client)));
    }
    let before = child.process.cpu_time().expect("it runs");
    tokio::time::sleep(WINDOW).await;
    let used = child.process.cpu_time().expect("it runs").since(&before);
    let share = used.total.as_secs_f64() / WINDOW.as_secs_f64();
    assert!(share < 0.5, "{share} of a processor to wait");
    for client in clients {
        soon("the deadline", client).await.expect("no panic");
    }
    assert!(began.elapsed() >= Duration::from_millis(500), "too early");
}

/// Byte for byte of a record that never ends; each comes long before the deadline.
async fn trickle(mut client: TcpStream) {
    let (mut reads, mut writes) = client.split();
    let write = async {
        for byte in [22, 3, 1, 1, 0].into_iter().chain(std::iter::repeat(0)) {
            if writes.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // as a slow client
        }
    };
    let mut byte = [0];
    tokio::select! {
        // A reset is an end, too.
        read = reads.read(&mut byte) => assert!(read.unwrap_or(0) == 0, "it has nothing to say"),
        () = write => {}
    }
}

/// Weir has no certificate at all: what the clients verify comes from behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_passes_through_to_the_server_of_its_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut servers = Vec::new();
    for name in ["a.example", "b.example"] {
        let Some(server) = s_server(folder.path(), name).await else {
            return;
        };
        servers.push((name, server));
    }
    let chains: Vec<_> = servers
        .iter()
        .map(|(name, (_, addr))| (*name, *addr))
        .collect();
    let port = ReservedPort::new().expect("a free port");
    let proxy = Proxy::start(&bootstrap(port.number(), &chains)).await;
    proxy.listens("main").await;
    for (name, is_there) in [
        ("a.example", true),
        ("b.example", true),
        ("c.example", false),
    ] {
        let certificate = folder.path().join(name).with_extension("pem");
        let mut client = s_client(&port.addr().to_string(), name);
        if is_there {
            client
                .arg("-verify_return_error")
                .arg("-CAfile")
                .arg(certificate);
        }
        let output = tokio::task::spawn_blocking(move || client.output());
        let output = soon("OpenSSL", output).await.expect("no panic");
        let said = text(&output.expect("it is there"));
        let wanted = format!("Peer certificate: CN = {name}");
        assert_eq!(said.contains(&wanted), is_there, "{said}");
        assert_eq!(said.contains("Verification: OK"), is_there, "{said}");
    }
    proxy.stop().await;
}

pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A server with a certificate of its own for `name`.
async fn s_server(folder: &Path, name: &str) -> Option<(Process, SocketAddr)> {
    let [key, certificate] = ["key", "pem"].map(|kind| folder.join(name).with_extension(kind));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]);
    make.args(["ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}")]);
    make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    match make.output() {
        Ok(output) => assert!(output.status.success(), "{}", text(&output)),
        Err(error) => {
            missing(&error.to_string());
            return None;
        }
    }
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-key"]);
    command.arg(key).arg("-cert").arg(certificate);
    let server = Process::start("s_server", command, None).expect("it was there just now");
    let address = until("the server", async || {
        let said = server.whole_output();
        let line = said.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
        line.parse().ok()
    });
    let address = address.await;
    Some((server, address))
}
