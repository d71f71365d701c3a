//! The downstream socket as h2 reads it: the first bytes, read to find the protocol, are replayed,
//! and what the deadlines need to know is written down.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::config::limits;
use crate::http::codec::frames::Frames;
use crate::http::codec::linger::Linger;
use crate::http::http1::decode::Violation;
use crate::net::NetStream;

/// What the connection's deadlines and statistics need to know of its socket.
#[derive(Debug)]
pub struct IoFacts {
    /// When the first byte of a head came that is not complete yet; `None` between messages.
    pub head_since: Cell<Option<Instant>>,
    /// Since when nothing of what is to be written was taken; `None` while nothing waits.
    pub blocked_since: Cell<Option<Instant>>,
    /// Bytes read.
    pub received: Cell<u64>,
    /// Bytes written.
    pub sent: Cell<u64>,
    /// The first rule of HTTP/1 a request broke, if any.
    pub violation: Cell<Option<Violation>>,
    /// What is spoken is not HTTP any more, and may want to say goodbye.
    pub is_switched: Cell<bool>,
    /// How long the client may take to close a connection that has said its last; `None` is not waited for.
    pub linger: Option<Duration>,
    /// It took longer.
    pub is_cut: Cell<bool>,
}

impl IoFacts {
    /// Nothing moved yet.
    pub fn new(linger: Option<Duration>) -> Self {
        Self {
            head_since: Cell::new(None),
            blocked_since: Cell::new(None),
            received: Cell::new(0),
            sent: Cell::new(0),
            violation: Cell::new(None),
            is_switched: Cell::new(false),
            linger,
            is_cut: Cell::new(false),
        }
    }
}

impl Default for IoFacts {
    fn default() -> Self {
        Self::new(Some(limits::DELAYED_CLOSE_TIMEOUT))
    }
}

/// A downstream socket.
#[derive(Debug)]
pub(in crate::http) struct ServerIo {
    stream: NetStream,
    /// First bytes not handed on yet, and how many of them were.
    replay: Vec<u8>,
    replayed: usize,
    frames: Frames,
    facts: Rc<IoFacts>,
    /// Once the last byte was sent.
    linger: Option<Box<Linger>>,
}

impl ServerIo {
    pub(in crate::http) fn new(stream: NetStream, first: Vec<u8>, facts: Rc<IoFacts>) -> Self {
        Self {
            stream,
            replay: first,
            replayed: 0,
            frames: Frames::default(),
            facts,
            linger: None,
        }
    }

    /// Writes down what has come.
    fn note(&mut self, bytes: &[u8]) {
        let facts = &self.facts;
        facts
            .received
            .set(facts.received.get() + bytes.len() as u64);
        let completed = self.frames.take(bytes);
        match (self.frames.is_inside(), facts.head_since.get()) {
            (true, Some(_)) if !completed => {}
            (true, _) => facts.head_since.set(Some(Instant::now())),
            (false, Some(_)) => facts.head_since.set(None),
            (false, None) => {}
        }
    }

    fn replay(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.replay.get(self.replayed..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let len = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..len).unwrap_or_default());
        self.replayed += len;
        if self.replayed == self.replay.len() {
            self.replay = Vec::new();
            self.replayed = 0;
        }
        true
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.replay(buf) {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.note(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = std::task::ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.facts.sent.set(this.facts.sent.get() + len as u64);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Over once the peer has closed, too, or did not for a while.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let new = || Box::new(Linger::new(this.facts.linger));
        let linger = this.linger.get_or_insert_with(new);
        linger.poll_over(&mut this.stream, &this.facts, cx).map(Ok)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = std::task::ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.facts.sent.set(this.facts.sent.get() + len as u64);
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
