//! An origin that keeps every byte, for tests of what really left the proxy.
//!
//! It answers the same bytes once per request, by the framing its own lenient reader sees, and once
//! more when that reader gives up; what the proxy wrote is the finding, not the answers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::message::{self, BodyCounter};
use crate::socket;

/// Bytes kept per connection; a test that needs more wants a checksum instead.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The answer of [`Recorder::start`].
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The running recorder.
#[derive(Debug)]
pub struct Recorder {
    addr: SocketAddr,
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    answer: Bytes,
    connections: Mutex<Vec<Vec<u8>>>,
    changed: watch::Sender<u64>,
}

impl Recorder {
    /// Starts on a free port and answers each request with a short 200.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> io::Result<Self> {
        Self::answering(Bytes::from_static(ANSWER))
    }

    /// The same with these answer bytes, sent as they are; empty answers nothing.
    ///
    /// # Errors
    /// When no port is free.
    pub fn answering(answer: Bytes) -> io::Result<Self> {
        let listener = socket::listen(0)?;
        let addr = listener.local_addr()?;
        let (changed, changes) = watch::channel(0);
        let shared = Arc::new(Shared {
            answer,
            connections: Mutex::default(),
            changed,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            addr,
            shared,
            changes,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes of every connection so far, in the order they were accepted.
    #[must_use]
    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `wanted` holds for the recorded connections. Give it a deadline with
    /// `tokio::time::timeout`.
    pub async fn wait_until(&self, wanted: impl Fn(&[Vec<u8>]) -> bool) {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            if wanted(&self.connections()) || changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn opened(&self) -> usize {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.push(Vec::new());
        connections.len() - 1
    }

    fn keep(&self, connection: usize, bytes: &[u8]) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = connections.get_mut(connection)
            && kept.len() + bytes.len() <= KEPT_BYTES_MAX
        {
            kept.extend_from_slice(bytes);
        }
        drop(connections);
        self.changed.send_modify(|version| *version += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let connection = shared.opened();
            connections.spawn(record(stream, connection, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn record(mut stream: TcpStream, connection: usize, shared: Arc<Shared>) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    let mut reader = Reader::default();
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        shared.keep(connection, bytes);
        for _ in 0..reader.requests_ended(bytes) {
            stream.write_all(&shared.answer).await?;
        }
    }
}

/// Finds the ends of requests; after the first nonsense it stays silent.
#[derive(Debug, Default)]
struct Reader {
    pending: Vec<u8>,
    body: Option<BodyCounter>,
    lost: bool,
}

impl Reader {
    /// How many requests ended within `bytes`.
    fn requests_ended(&mut self, bytes: &[u8]) -> usize {
        if self.lost {
            return 0;
        }
        self.pending.extend_from_slice(bytes);
        let mut ended = 0;
        loop {
            match self.advance() {
                Ok(true) => ended += 1,
                Ok(false) => return ended,
                Err(message::Malformed) => {
                    self.lost = true;
                    return ended + 1;
                }
            }
        }
    }

    fn advance(&mut self) -> Result<bool, message::Malformed> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                let Some(head) = message::request(&self.pending)? else {
                    return Ok(false);
                };
                self.pending.drain(..head.bytes);
                BodyCounter::new(head.framing)
            }
        };
        let used = body.consume(&self.pending)?;
        self.pending.drain(..used);
        if body.is_done() {
            return Ok(true);
        }
        self.body = Some(body);
        Ok(false)
    }
}
