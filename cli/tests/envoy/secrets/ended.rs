//! A certificate ends while something still runs on a connection that stands on it: it may run until
//! then, and not longer, on both sides of the proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy::config::limits;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::caller::Caller;
use super::caller::REQUEST;
use super::peers::now;
use super::site;
use crate::identity::free_ports;
use crate::identity::typed;
use crate::setting::ControlPlane;
use crate::setting::PATIENCE;
use crate::setting::Weir;
use crate::setting::until;

/// How long the certificates live.
const BRIEF: Duration = Duration::from_secs(6);

/// Less than the time before the end at which connections are asked to go.
const AT_THE_END: Duration = Duration::from_secs(1);

/// A server that begins an answer and never ends it, with TLS or without. Its address, and how many it began.
struct Origin(SocketAddr, Arc<AtomicUsize>);

impl Origin {
    async fn start(leaf: Option<&Leaf>) -> Self {
        let acceptor = leaf.map(acceptor);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let begun = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&begun);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    match acceptor {
                        None => begin(stream, &count).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => begin(stream, &count).await,
                            Err(error) => Err(error),
                        },
                    }
                });
            }
        });
        Self(address, begun)
    }

    /// Waits until it has begun so many answers.
    async fn has_begun(&self, count: usize) {
        let begun = until(|| async {
            let begun = self.1.load(Ordering::Relaxed);
            (begun == count)
                .then_some(())
                .ok_or_else(|| format!("{begun} of {count}"))
        });
        begun.await.expect("it is asked");
    }
}

pub(super) fn acceptor(leaf: &Leaf) -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der.clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

async fn begin(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    begun: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await? > 0 {}
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\nbegun";
    stream.write_all(answer).await?;
    stream.flush().await?;
    begun.fetch_add(1, Ordering::Relaxed);
    stream.read_to_end(&mut head).await?;
    Ok(())
}

/// Passes bytes on to this cluster.
fn passing(name: &str, port: u16, cluster: &str) -> Value {
    let proxy = json!({"stat_prefix": name, "cluster": cluster});
    let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    let address = json!({"address": "127.0.0.1", "port_value": port});
    let listener = json!({
        "name": name,
        "address": {"socket_address": address},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    });
    typed("config.listener.v3.Listener", listener)
}

/// Asks, and says how long after 1970 the answer, which begins, ends.
async fn asked(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Duration, String> {
    let told = |error: std::io::Error| error.to_string();
    stream.write_all(REQUEST).await.map_err(told)?;
    let mut answer = Vec::new();
    let all = async {
        while stream.read_buf(&mut answer).await.unwrap_or(0) > 0 {} // however it ends
    };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    ended.map_err(|_| "it goes on".to_owned())?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let is_begun = text.starts_with("HTTP/1.1 200") && text.ends_with("begun");
    is_begun.then(now).ok_or(text)
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    stream.expect("it listens")
}

fn resources(
    (ports, log): ([u16; 3], &Path),
    (plain, secure): (&Origin, &Origin),
    (root, leaf): (&Authority, &Leaf),
) -> Vec<Value> {
    let ads = site::ads();
    let server = site::downstream(site::named("leaf", &ads), None);
    let client = site::upstream(site::named("leaf", &ads), site::named("roots", &ads));
    let [front, back, stream] = ports;
    vec![
        site::forwarding("front", front, Some(&server), "plain"),
        site::logging("back", back, log, "secure"),
        passing("stream", stream, "secure"),
        site::cluster("plain", plain.0.port(), None),
        site::cluster("secure", secure.0.port(), Some(&client)),
        leaf.secret("leaf"),
        trust("roots", &[root]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_what_still_runs_when_a_certificate_ends_runs_until_then_and_no_longer() {
    assert!(limits::DRAIN_TIME > BRIEF, "it is not that which cuts");
    let root = Authority::new("root");
    let end = now() + BRIEF;
    let leaf = root.ending("brief", end);
    let end = Duration::from_secs(end.as_secs());
    let (plain, secure) = (Origin::start(None).await, Origin::start(Some(&leaf)).await);
    let reserved = free_ports(3);
    let ports = [0, 1, 2].map(|place| reserved[place].number());
    let control_plane = ControlPlane::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let all = resources((ports, &log), (&plain, &secure), (&root, &leaf));
    control_plane.commit("weir", &all);
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let caller = Caller::trusting(&[&root]);
    let front = caller.call(reserved[0].addr()).await.expect("a handshake");
    let (back, stream) = (connect(ports[1]).await, connect(ports[2]).await);
    let ended = tokio::join!(asked(front.into_stream()), asked(back), asked(stream));
    for (name, ended) in [
        ("a client's", ended.0),
        ("a server's", ended.1),
        ("a server's, opaque", ended.2),
    ] {
        let ended = ended.unwrap_or_else(|error| unreachable!("{name}: {error}"));
        let early = end.saturating_sub(ended);
        assert!(early < AT_THE_END, "{name}: {early:?} too early");
    }
    let told = until(|| async {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let is_told = text.contains("UC - upstream_certificate_ended");
        is_told.then_some(()).ok_or(text)
    });
    told.await.expect("the exact reason is told");
    weir.stop().await;
}

/// A connection that is too old, and a stream whose host has left: both may take the drain time, but the
/// certificate that they were shown ends before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_who_is_going_already_is_gone_when_a_certificate_ends() {
    assert!(limits::DRAIN_TIME > BRIEF, "it is not that which cuts");
    let root = Authority::new("root");
    let end = now() + BRIEF;
    let leaf = root.ending("brief", end);
    let end = Duration::from_secs(end.as_secs());
    let [first, second] = [Origin::start(None).await, Origin::start(None).await];
    let reserved = free_ports(2);
    let [aged, moved] = [0, 1].map(|place| reserved[place].number());
    let resources = |origin: &Origin| {
        let ads = site::ads();
        let server = site::downstream(site::named("leaf", &ads), None);
        let mut old = site::forwarding("aged", aged, Some(&server), "aged");
        old["filter_chains"][0]["filters"][0]["typed_config"]["common_http_protocol_options"] =
            json!({"max_connection_duration": "0.3s"});
        let mut stream = passing("moved", moved, "moved");
        stream["filter_chains"][0]["transport_socket"] = server;
        vec![
            old,
            stream,
            site::cluster("aged", first.0.port(), None),
            site::cluster("moved", origin.0.port(), None),
            leaf.secret("leaf"),
        ]
    };
    let control_plane = ControlPlane::start().await;
    control_plane.commit("weir", &resources(&first));
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let caller = Caller::trusting(&[&root]);
    let mut running = Vec::new();
    for port in &reserved {
        let called = caller.call(port.addr()).await.expect("a handshake");
        running.push(tokio::spawn(asked(called.into_stream())));
    }
    first.has_begun(2).await;
    control_plane.commit("weir", &resources(&second));
    for (name, running) in ["aged", "moved"].into_iter().zip(running) {
        let ended = running.await.expect("no panic");
        let ended = ended.unwrap_or_else(|error| unreachable!("{name}: {error}"));
        let early = end.saturating_sub(ended);
        assert!(early < AT_THE_END, "{name}: {early:?} too early");
    }
    weir.stop().await;
}
