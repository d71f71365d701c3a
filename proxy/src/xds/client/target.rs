//! Where a control plane listens, and how to get a byte stream to it.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tonic::codegen::Service;

use super::Security;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::net::NetStream;
use crate::tls::client;

/// One address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host name or literal address, and a port; resolved at every attempt.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server: where it is, and what is spoken to it before HTTP/2.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub target: Target,
    /// The host's name, or empty.
    pub hostname: Name,
    /// TLS, if there is any.
    pub security: Option<Arc<Security>>,
}

impl From<Target> for Server {
    /// In clear text.
    fn from(target: Target) -> Self {
        Self {
            target,
            hostname: Name::default(),
            security: None,
        }
    }
}

impl PartialEq for Server {
    /// Reached in the same way, so that a connection to one is as good as a connection to the other.
    fn eq(&self, other: &Self) -> bool {
        let is_as_secure = match (&self.security, &other.security) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.target == other.target && self.hostname == other.hostname && is_as_secure
    }
}

impl Server {
    /// A connection HTTP/2 can be spoken on.
    async fn connect(&self, authority: &str) -> io::Result<NetStream> {
        let Some(security) = &self.security else {
            return self.target.connect().await;
        };
        let context = security.ready().await?;
        let stream = self.target.connect().await?;
        let address = match (&self.target, stream.peer_address()) {
            (Target::Unix(path), _) => Address::Pipe(path.clone()),
            (Target::Tcp { .. }, Some(peer)) => Address::Socket(peer),
            (Target::Tcp { .. }, None) => return Err(io::ErrorKind::NotConnected.into()),
        };
        let target = client::Target {
            address: &address,
            hostname: &self.hostname,
            request_host: Some(host_of(authority)),
            alpn: &[],
            alpn_instead: None,
        };
        Security::secure(&context, stream, target).await
    }
}

impl Target {
    async fn connect(&self) -> io::Result<NetStream> {
        match self {
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(NetStream::Tcp(stream))
            }
            Self::Unix(path) => UnixStream::connect(path).await.map(NetStream::Unix),
        }
    }
}

/// The authority without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Connects to one [`Server`], whatever URI it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) server: Server,
    pub(super) authority: Arc<str>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<NetStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (server, authority) = (self.server.clone(), Arc::clone(&self.authority));
        Box::pin(async move { server.connect(&authority).await.map(TokioIo::new) })
    }
}
