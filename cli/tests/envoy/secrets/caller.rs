//! One TLS connection, and whose certificate it saw.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::Authority;
use super::authority::HOST;
use super::authority::Leaf;
use crate::setting::PATIENCE;

pub(super) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: server.test\r\n\r\n";

/// A client that trusts certain roots and resumes no session.
#[derive(Clone)]
pub(super) struct Caller(Arc<ClientConfig>);

/// A connection that is kept.
pub(super) struct Call(TlsStream<TcpStream>);

impl Caller {
    pub(super) fn trusting(roots: &[&Authority]) -> Self {
        Self::new(roots, None, Resumption::disabled())
    }

    /// Shows this certificate.
    pub(super) fn showing(leaf: &Leaf, roots: &[&Authority]) -> Self {
        Self::new(roots, Some(leaf), Resumption::disabled())
    }

    /// Resumes its last session.
    pub(super) fn resuming(roots: &[&Authority]) -> Self {
        Self::new(roots, None, Resumption::in_memory_sessions(4))
    }

    fn new(roots: &[&Authority], leaf: Option<&Leaf>, resumption: Resumption) -> Self {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.der()).expect("a root");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(store);
        let mut config = match leaf {
            Some(leaf) => {
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
                let own = config.with_client_auth_cert(vec![leaf.der.clone()], key);
                own.expect("they belong together")
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = resumption;
        Self(Arc::new(config))
    }

    pub(super) async fn call(&self, target: SocketAddr) -> io::Result<Call> {
        let socket = TcpStream::connect(target).await?;
        let name = ServerName::try_from(HOST).expect("a name");
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, socket).await.map(Call)
    }

    /// The leaf that a new connection sees, once a request on it was answered with 200.
    pub(super) async fn leaf(&self, target: SocketAddr) -> io::Result<CertificateDer<'static>> {
        let mut call = self.call(target).await?;
        call.ask().await?;
        Ok(call.leaf())
    }
}

impl Call {
    pub(super) fn leaf(&self) -> CertificateDer<'static> {
        let (_, session) = self.0.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        chain[0].clone().into_owned()
    }

    pub(super) fn into_stream(self) -> TlsStream<TcpStream> {
        self.0
    }

    pub(super) fn is_resumed(&self) -> bool {
        let (_, session) = self.0.get_ref();
        session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Waits until the proxy ends it.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        let mut nothing = Vec::new();
        let read = self.0.read_to_end(&mut nothing);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(_) => Ok(()), // however it ended
            Err(_) => Err("it is still open".to_owned()),
        }
    }

    /// One request, which must be answered with 200 and a body of two bytes.
    pub(super) async fn ask(&mut self) -> io::Result<()> {
        self.0.write_all(REQUEST).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            if self.0.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let is_ok = answer.starts_with(b"HTTP/1.1 200");
        is_ok
            .then_some(())
            .ok_or_else(|| io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
    }
}

/// The status of one request in clear text.
pub(super) async fn ask_plainly(target: SocketAddr) -> Result<u16, String> {
    let request = http::Request::get("/")
        .header("host", "server.test")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let answer = bench::client::http1(target, request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(answer.status.as_u16())
}

/// The subject that `openssl s_client` is shown, or nothing.
pub(super) async fn subject(target: SocketAddr) -> String {
    let run = move || {
        let mut command = Command::new("timeout");
        command.args(["10", "openssl", "s_client", "-connect", &target.to_string()]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("subject="));
        line.unwrap_or_default().to_owned()
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}
