//! We show another certificate: idle connections to a server are replaced in the background, so that no
//! burst of requests has to wait for handshakes, and after that nothing goes over one of before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::caller::ask_plainly;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// Connections that are idle at the rotation.
const IDLE: usize = 8;

/// A server that wants certificates of its clients, and knows by whose its connections are.
struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Open connections, by the certificate of the client.
    open: Mutex<BTreeMap<Vec<u8>, usize>>,
    /// Whose the requests were.
    asked: Mutex<Vec<Vec<u8>>>,
}

impl Seen {
    fn open(&self, leaf: &Leaf) -> usize {
        let open = self.open.lock().expect("nobody panics");
        open.get(&*leaf.der).copied().unwrap_or(0)
    }

    /// Counts a connection in or out.
    fn turn(&self, leaf: &[u8], comes: bool) {
        let mut open = self.open.lock().expect("nobody panics");
        let count = open.entry(leaf.to_vec()).or_default();
        *count = if comes { *count + 1 } else { *count - 1 };
    }

    fn note(&self, leaf: &[u8]) {
        let mut asked = self.asked.lock().expect("nobody panics");
        asked.push(leaf.to_vec());
    }

    fn take_asked(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.asked.lock().expect("nobody panics"))
    }
}

impl Origin {
    async fn start(root: &Authority) -> Self {
        let acceptor = acceptor(root);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Seen>::default();
        let all = Arc::new(Barrier::new(IDLE));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, all) = (acceptor.clone(), shared.clone(), all.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let chain = stream.get_ref().1.peer_certificates();
                    let leaf = chain.expect("it is wanted")[0].to_vec();
                    seen.turn(&leaf, true);
                    let _ = serve(stream, &leaf, (&seen, &all)).await;
                    seen.turn(&leaf, false);
                });
            }
        });
        Self { address, seen }
    }
}

fn acceptor(root: &Authority) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(root.der()).expect("a root");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let leaf = root.issue("origin");
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(vec![leaf.der.clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

/// Answers requests; those for `/all` once there are as many of them as connections are wanted.
async fn serve(
    mut stream: TlsStream<TcpStream>,
    leaf: &[u8],
    (seen, all): (&Seen, &Barrier),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with(b"GET /all") {
            all.wait().await;
        }
        seen.note(leaf);
        head.clear();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await?;
        stream.flush().await?;
    }
}

async fn ask(front: SocketAddr, path: &'static str) {
    let request = http::Request::get(path)
        .header("host", "server.test")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let answer = bench::client::http1(front, request).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_idle_connections_are_replaced_when_we_show_another_certificate() {
    let root = Authority::new("root");
    let origin = Origin::start(&root).await;
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let front = port.addr();
    let commit = |leaf: &Leaf| {
        let ads = site::ads();
        let tls = site::upstream(site::named("leaf", &ads), site::named("roots", &ads));
        let all = [
            site::forwarding("front", port.number(), None, "c"),
            site::cluster("c", origin.address.port(), Some(&tls)),
            leaf.secret("leaf"),
            trust("roots", &[&root]),
        ];
        control_plane.commit("weir", &all);
    };
    let (old, new) = (root.issue("old"), root.issue("new"));
    commit(&old);
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let mut asking: JoinSet<()> = (0..IDLE).map(|_| ask(front, "/all")).collect();
    while let Some(asked) = asking.join_next().await {
        asked.expect("it is answered");
    }
    assert_eq!(origin.seen.open(&old), IDLE);
    commit(&new);
    // One request after the other: never more than one connection is needed.
    let replaced = until(|| async {
        assert_eq!(ask_plainly(front).await, Ok(200));
        let (before, now) = (origin.seen.open(&old), origin.seen.open(&new));
        // How many are made beforehand depends on the machine: there is a second for it at most.
        let is_replaced = before == 0 && now > 0;
        is_replaced
            .then_some(())
            .ok_or_else(|| format!("{before} of before, {now} of now"))
    });
    replaced.await.expect("all that were idle are replaced");
    origin.seen.take_asked();
    for _ in 0..2 * IDLE {
        ask(front, "/").await;
    }
    let asked = origin.seen.take_asked();
    assert!(
        asked.iter().all(|leaf| **leaf == *new.der),
        "an old one was used"
    );
    weir.stop().await;
}
