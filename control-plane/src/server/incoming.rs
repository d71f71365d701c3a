//! Accepts a bounded number of connections, and shakes hands if there is TLS.
//!
//! Handshakes go on beside each other and beside accepting, so a slow client delays only itself; each
//! has its place among the connections, and a deadline.
//!
//! Past the bound nothing is accepted, so the rest waits in the kernel's queue instead of in our
//! memory. Accept errors are survived: they belong to one peer, or pass.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use rustls::InvalidMessage;
use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::info;
use tracing::warn;

use super::Listener;
use crate::ca::access::Caller;
use crate::ca::access::caller_of;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::service::Info;
use crate::source::secrets::Secrets;

type Accepting = Pin<Box<dyn Future<Output = Accepted> + Send>>;

/// The newest certificate to show, and who hears of clients that show a bad one.
struct Tls {
    config: watch::Receiver<Option<Arc<ServerConfig>>>,
    secrets: Secrets,
}

/// The connections of one listener.
pub(super) struct Incoming {
    listener: Arc<Listener>,
    places: Arc<Semaphore>,
    accepting: Accepting,
    tls: Option<Tls>,
    handshakes: JoinSet<Option<Connection>>,
}

impl Incoming {
    /// With `secrets`, connections over the network are made over TLS.
    pub(super) fn new(
        listener: Listener,
        connections_max: usize,
        secrets: Option<Secrets>,
    ) -> Self {
        let (listener, places) = (
            Arc::new(listener),
            Arc::new(Semaphore::new(connections_max)),
        );
        let accepting = Box::pin(accept(Arc::clone(&listener), Arc::clone(&places)));
        Self {
            listener,
            places,
            accepting,
            tls: secrets.map(|secrets| Tls {
                config: secrets.tls(),
                secrets,
            }),
            handshakes: JoinSet::new(),
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(connection)))) => {
                    return Poll::Ready(Some(Ok(connection)));
                }
                // One that failed was told of where it failed.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let accepted = ready!(self.accepting.as_mut().poll(cx));
            let (listener, places) = (Arc::clone(&self.listener), Arc::clone(&self.places));
            self.accepting = Box::pin(accept(listener, places));
            let (stream, peer) = match accepted.socket {
                Socket::Local(stream, caller) => {
                    let connection = Connection::local(stream, caller, accepted.place);
                    return Poll::Ready(Some(Ok(connection)));
                }
                Socket::Tcp(stream, peer) => (stream, peer),
            };
            let Some(tls) = &self.tls else {
                let connection = Connection::plain(stream, peer, accepted.place);
                return Poll::Ready(Some(Ok(connection)));
            };
            let Some(config) = tls.config.borrow().clone() else {
                warn!(%peer, "sent away: there is no certificate to show yet");
                continue;
            };
            let secrets = tls.secrets.clone();
            let shaking = shake_hands(stream, peer, config, accepted.place);
            self.handshakes.spawn(async move {
                let shaken = shaking.await;
                if let Err(Unshaken::Certificate(reason)) = &shaken {
                    let actor = peer.to_string();
                    secrets.refuse_certificate(actor, reason.to_string()).await;
                }
                shaken.ok()
            });
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    place: OwnedSemaphorePermit,
) -> Result<Connection, Unshaken> {
    let shaking = TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            info!(%peer, %error, "TLS handshake failed");
            return Err(Unshaken::new(&error));
        }
        Err(_) => {
            info!(%peer, "TLS handshake took too long");
            return Err(Unshaken::Otherwise);
        }
    };
    let shown = stream.get_ref().1.peer_certificates();
    let caller = shown.and_then(|chain| chain.first());
    let caller = caller.map_or(Caller::Anonymous, |own| caller_of(own));
    Ok(Connection {
        info: Info {
            remote: Some(peer),
            is_private: true,
            caller,
        },
        stream: Transport::Tls(Box::new(stream)),
        _place: place,
    })
}

/// Why a handshake failed.
enum Unshaken {
    /// For what the client showed, or did not show.
    Certificate(rustls::Error),
    /// It went away, was slow, or speaks something else.
    Otherwise,
}

impl Unshaken {
    fn new(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(
                error @ (rustls::Error::InvalidCertificate(_)
                | rustls::Error::InvalidCertRevocationList(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::InvalidMessage(
                    InvalidMessage::CertificatePayloadTooLarge
                    | InvalidMessage::HandshakePayloadTooLarge,
                )),
            ) => Self::Certificate(error.clone()),
            _ => Self::Otherwise,
        }
    }
}

async fn accept(listener: Arc<Listener>, places: Arc<Semaphore>) -> Accepted {
    loop {
        // Never closed, so this fails never; waiting forever would be the answer if it did.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            std::future::pending().await
        };
        match listener.accept().await {
            Ok(socket) => return Accepted { socket, place },
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    warn!(%peer, %error, "cannot disable Nagle's algorithm");
                }
                Ok(Socket::Tcp(stream, peer))
            }
            Self::Local { listener, users } => {
                let (stream, _) = listener.accept().await?;
                // The kernel says who connected, as of then.
                let peer = stream.peer_cred()?;
                Ok(Socket::Local(stream, users.caller(peer.uid(), peer.gid())))
            }
        }
    }
}

/// A connection nothing was said on.
struct Accepted {
    socket: Socket,
    place: OwnedSemaphorePermit,
}

enum Socket {
    Local(UnixStream, Caller),
    Tcp(TcpStream, SocketAddr),
}

/// One accepted connection; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Transport,
    info: Info,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Transport {
    Local(UnixStream),
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn local(stream: UnixStream, caller: Caller, place: OwnedSemaphorePermit) -> Self {
        Self {
            info: Info {
                remote: None,
                is_private: true,
                caller,
            },
            stream: Transport::Local(stream),
            _place: place,
        }
    }

    fn plain(stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        Self {
            info: Info {
                remote: Some(peer),
                is_private: peer.ip().is_loopback(),
                caller: Caller::Anonymous,
            },
            stream: Transport::Plain(stream),
            _place: place,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Local(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Local(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Local(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Local(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Local(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Local(stream) => stream.is_write_vectored(),
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Out of descriptors is the usual reason; it takes a moment to pass.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
