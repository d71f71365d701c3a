//! An origin below HTTP: it sends back what it receives, or it sends without an end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::gate::Gate;
use crate::socket;

/// One read of an echo: any small message.
const ECHO_BYTES: usize = 16 * 1024;

/// One write of a download: what a socket buffer takes at a time.
const DOWNLOAD_BYTES: usize = 256 * 1024;

/// What the origin does with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TcpBehavior {
    /// Sends back what it receives.
    Echo,
    /// Sends until the other side closes.
    Download,
}

/// The running origin.
#[derive(Debug)]
pub struct TcpOrigin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    gate: Gate,
    connections: AtomicU64,
}

impl TcpOrigin {
    /// Binds a free port and starts serving.
    ///
    /// # Errors
    /// When no port is left.
    pub fn start(behavior: TcpBehavior) -> io::Result<Self> {
        let listener = socket::listen(0)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, behavior, Arc::clone(&shared)));
        Ok(Self { addr, shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Sends nothing more until [`Self::resume`].
    pub fn pause(&self) {
        self.shared.gate.close();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.shared.gate.open();
    }
}

impl Drop for TcpOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, behavior: TcpBehavior, shared: Arc<Shared>) {
    // Dropped with this task, which ends every connection.
    let mut connections = JoinSet::new();
    loop {
        // An accept error here is a lack of descriptors: the load side reports it.
        if let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                match behavior {
                    TcpBehavior::Echo => echo(stream, &shared).await,
                    TcpBehavior::Download => download(stream, &shared).await,
                }
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn echo(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; ECHO_BYTES];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        shared.gate.pass().await;
        stream
            .write_all(buffer.get(..read).unwrap_or_default())
            .await?;
    }
}

async fn download(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let bytes = vec![7; DOWNLOAD_BYTES];
    loop {
        shared.gate.pass().await;
        stream.write_all(&bytes).await?;
    }
}
