//! A measured connection, plain or TLS, from either end.
//!
//! TLS reads the socket through a buffer: rustls asks for 4 KiB at a time, which would make our own
//! ends the bottleneck of bulk rows.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::socket;

/// Four TLS records. Only touched pages of it are resident, so idle connections stay cheap.
const READ_BYTES: usize = 64 * 1024;

/// How connections to a proxy are carried.
#[derive(Clone, Debug, Default)]
pub enum Transport {
    /// TCP alone.
    #[default]
    Plain,
    /// TLS 1.3 where the other side has it.
    Tls(TlsClient),
}

/// The client side of TLS; its clones share one cache of sessions.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    pub(crate) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }
}

/// The server side of TLS.
#[derive(Clone, Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

impl TlsServer {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

impl Wire {
    /// Connects, and does the handshake.
    pub(crate) async fn connect(target: SocketAddr, transport: &Transport) -> io::Result<Self> {
        let stream = socket::connect(target).await?;
        let Transport::Tls(tls) = transport else {
            return Ok(Self::Plain(stream));
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = connector.connect(tls.name.clone(), stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Does the handshake on an accepted connection.
    pub(crate) async fn accept(stream: TcpStream, tls: Option<&TlsServer>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = acceptor.accept(stream).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Whether an earlier TLS session was taken up again.
    pub(crate) fn is_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => {
                stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
            }
        }
    }

    /// Whether the other side has said that nothing comes any more, or broke off. The kernel is asked, as
    /// the runtime learns of it later.
    pub(crate) fn has_ended(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0.get_ref(),
        };
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(socket).peek(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Whether the other side begins with HTTP/2, by ALPN or, in clear, by its first bytes.
    pub(crate) async fn is_http2(&self) -> io::Result<bool> {
        match self {
            Self::Plain(stream) => {
                let mut first = [0; 4];
                let seen = stream.peek(&mut first).await?;
                Ok(seen == first.len() && &first == b"PRI ")
            }
            Self::Tls(stream) => Ok(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
