//! Accepts a bounded number of connections.
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

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::transport::server::TcpConnectInfo;
use tracing::warn;

type Accepting = Pin<Box<dyn Future<Output = Connection> + Send>>;

/// The connections of one listener.
pub(super) struct Incoming {
    listener: Arc<TcpListener>,
    places: Arc<Semaphore>,
    accepting: Accepting,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, connections_max: usize) -> Self {
        let (listener, places) = (
            Arc::new(listener),
            Arc::new(Semaphore::new(connections_max)),
        );
        let accepting = Box::pin(accept(Arc::clone(&listener), Arc::clone(&places)));
        Self {
            listener,
            places,
            accepting,
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let connection = ready!(self.accepting.as_mut().poll(cx));
        let (listener, places) = (Arc::clone(&self.listener), Arc::clone(&self.places));
        self.accepting = Box::pin(accept(listener, places));
        Poll::Ready(Some(Ok(connection)))
    }
}

async fn accept(listener: Arc<TcpListener>, places: Arc<Semaphore>) -> Connection {
    loop {
        // Never closed, so this fails never; waiting forever would be the answer if it did.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            std::future::pending().await
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    warn!(%peer, %error, "cannot disable Nagle's algorithm");
                }
                return Connection {
                    stream,
                    _place: place,
                };
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One accepted connection; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        let address = |result: io::Result<SocketAddr>| result.ok();
        TcpConnectInfo {
            local_addr: address(self.stream.local_addr()),
            remote_addr: address(self.stream.peer_addr()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Out of descriptors is the usual reason; it takes a moment to pass.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
