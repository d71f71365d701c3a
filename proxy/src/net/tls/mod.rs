//! TLS over a connected socket, rustls driven without buffers of its own.
//!
//! One system call reads up to [`READ_BYTES`], whatever the caller has room for; records are
//! encrypted and decrypted in scratch space of the thread. A connection owns memory only for what
//! could not be handed on: part of a record, plaintext nobody took yet, ciphertext the socket did
//! not take. An idle connection owns none.
//!
//! The end of the socket without close_notify is an error, because it may be an attacker's cut
//! (RFC 8446 section 6.1). Who is trusted is not decided here but in `tls`.

mod distinguished_name;
mod engine;
pub mod facts;
mod issuer;
mod other_name;
mod tenure;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::net::NetStream;
use engine::Engine;
use engine::Job;
use engine::Sink;
pub use facts::Facts;
pub use tenure::Tenure;
pub use tenure::unix_now;

/// Read by one system call: two full records with what belongs to them (RFC 8446 section 5.2).
const READ_BYTES: usize = 2 * (16 * 1024 + 256 + 5);

/// Plaintext taken by one write: two full records, sent by one system call.
const WRITE_BYTES: usize = 2 * 16 * 1024;

/// Most ciphertext kept without being understood: the largest handshake message rustls takes
/// (64 KiB) with its records' headers, and one read.
const INCOMING_BYTES_MAX: usize = 72 * 1024 + READ_BYTES;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { incoming: Vec::new(), outgoing: Vec::new(), gather: Vec::new() }) };
}

/// Space that a thread uses for one call at a time.
struct Scratch {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    gather: Vec<u8>,
}

/// A TLS connection.
#[derive(Debug)]
pub struct TlsStream {
    io: NetStream,
    engine: Engine,
    /// Ciphertext that is no complete record or message yet.
    incoming: Vec<u8>,
    /// Plaintext not taken yet, and how much of it is.
    plain: Vec<u8>,
    plain_taken: usize,
    /// Ciphertext the socket has not taken yet, and how much of it has.
    outgoing: Vec<u8>,
    outgoing_sent: usize,
    open: bool,
    closing: bool,
    end: Option<End>,
}

/// Why nothing more can be read.
#[derive(Debug)]
enum End {
    /// close_notify.
    Closed,
    /// TLS was broken.
    Broken(rustls::Error),
    /// The socket ended without close_notify.
    Cut,
}

impl End {
    fn result(&self) -> io::Result<()> {
        match self {
            Self::Closed => Ok(()),
            Self::Broken(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
            Self::Cut => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "TLS connection ended without close_notify",
            )),
        }
    }
}

impl TlsStream {
    /// The client's end; the handshake is still to be made.
    pub fn client(io: NetStream, connection: UnbufferedClientConnection) -> Self {
        Self::new(io, Engine::Client(connection), Vec::new())
    }

    /// The server's end; the handshake is still to be made. `first` was read from `io` before.
    pub fn server(io: NetStream, connection: UnbufferedServerConnection, first: Vec<u8>) -> Self {
        Self::new(io, Engine::Server(connection), first)
    }

    fn new(io: NetStream, engine: Engine, incoming: Vec<u8>) -> Self {
        Self {
            io,
            engine,
            incoming,
            plain: Vec::new(),
            plain_taken: 0,
            outgoing: Vec::new(),
            outgoing_sent: 0,
            open: false,
            closing: false,
            end: None,
        }
    }

    /// The socket underneath.
    pub fn socket(&self) -> &NetStream {
        &self.io
    }

    /// What rustls knows of the connection.
    pub fn state(&self) -> &CommonState {
        match &self.engine {
            Engine::Client(connection) => connection,
            Engine::Server(connection) => connection,
        }
    }

    /// Makes the handshake. If it fails the alert was sent, as far as the socket took it.
    ///
    /// # Errors
    /// Whatever the socket, the peer or the verifier has against it.
    ///
    /// # Cancel safety
    /// The handshake goes on when it is called again.
    pub async fn handshake(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.open && self.end.is_none() {
                self.advance(&mut [], &Job::Receive, None);
            }
            let flushed = self.poll_flush_outgoing(cx);
            if let Some(end) = &self.end {
                let why = end.result().err();
                let why = why.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                return Poll::Ready(Err(why));
            }
            if self.open {
                return flushed;
            }
            // Nothing to read comes before what we have to say was said.
            std::task::ready!(flushed)?;
            std::task::ready!(self.poll_fill(cx, None))?;
        }
    }

    /// Whether nothing has come since the last exchange: no plaintext, no end. Session tickets and
    /// key updates do not count, so what the socket has is looked into.
    pub fn is_idle_clean(&mut self) -> bool {
        // A peer may send no end of tickets; as many as two reads is no idle connection.
        for _ in 0..2 {
            if self.end.is_some() || self.plain_taken < self.plain.len() {
                return false;
            }
            let read = with_scratch(|scratch| {
                let read = self.io.try_read_socket(scratch.read_space());
                if let Ok(len) = read {
                    self.received(scratch.incoming.get_mut(..len).unwrap_or_default(), None);
                }
                read
            });
            match read {
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Reads once from the socket and takes in what came; plaintext goes to `buf` first.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<()>> {
        with_scratch(|scratch| {
            let mut space = ReadBuf::new(scratch.read_space());
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
            self.received(space.filled_mut(), buf);
            Poll::Ready(Ok(()))
        })
    }

    /// Takes in what was read; nothing is the end of the socket.
    fn received(&mut self, fresh: &mut [u8], buf: Option<&mut ReadBuf<'_>>) {
        if fresh.is_empty() {
            self.end.get_or_insert(End::Cut);
            return;
        }
        self.advance(fresh, &Job::Receive, buf);
    }

    /// Lets rustls work on what is there. `fresh` is used in place if nothing was kept before it.
    fn advance(&mut self, fresh: &mut [u8], job: &Job<'_>, buf: Option<&mut ReadBuf<'_>>) {
        if matches!(self.end, Some(End::Broken(_))) {
            return; // rustls must not be asked again
        }
        let mut kept = std::mem::take(&mut self.incoming);
        let incoming = if kept.is_empty() {
            &mut *fresh
        } else {
            kept.extend_from_slice(fresh);
            kept.as_mut_slice()
        };
        let mut sink = Taker {
            buf,
            rest: &mut self.plain,
        };
        let result = self
            .engine
            .run(incoming, job, &mut sink, &mut self.outgoing);
        let step = match result {
            Ok(step) => step,
            Err(error) => {
                self.end = Some(End::Broken(error));
                return;
            }
        };
        self.open |= step.open;
        if step.peer_closed {
            self.end = Some(End::Closed); // what comes after it does not count
            return;
        }
        if kept.is_empty() {
            self.incoming = fresh.get(step.consumed..).unwrap_or_default().to_vec();
        } else if step.consumed < kept.len() {
            kept.drain(..step.consumed);
            self.incoming = kept;
        }
        if self.incoming.len() > INCOMING_BYTES_MAX {
            self.end = Some(End::Broken(rustls::InvalidMessage::MessageTooLarge.into()));
        }
    }

    /// Hands on plaintext that waits; false if there is none.
    fn take_plain(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.plain_taken..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let len = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..len).unwrap_or_default());
        self.plain_taken += len;
        if self.plain_taken == self.plain.len() {
            self.plain = Vec::new();
            self.plain_taken = 0;
        }
        true
    }

    fn poll_flush_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outgoing.get(self.outgoing_sent..)
            && !rest.is_empty()
        {
            let len = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing_sent += len;
        }
        self.outgoing = Vec::new();
        self.outgoing_sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Encrypts as much of `plaintext` as one write takes, and sends what the socket takes of it.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = plaintext.len().min(WRITE_BYTES);
        outgoing.clear();
        std::mem::swap(outgoing, &mut self.outgoing); // it is empty: it was flushed
        let job = Job::Encrypt(plaintext.get(..len).unwrap_or_default());
        self.advance(&mut [], &job, None);
        std::mem::swap(outgoing, &mut self.outgoing);
        if let Some(End::Broken(error)) = &self.end {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                error.clone(),
            )));
        }
        let sent = match Pin::new(&mut self.io).poll_write(cx, outgoing) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        self.outgoing = outgoing.get(sent..).unwrap_or_default().to_vec();
        Poll::Ready(Ok(len))
    }
}

/// Runs `work` with the thread's scratch space, which is kept for the next.
fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

impl Scratch {
    fn read_space(&mut self) -> &mut [u8] {
        self.incoming.resize(READ_BYTES, 0);
        &mut self.incoming
    }
}

/// Plaintext goes into the caller's buffer while there is room, the rest is kept.
struct Taker<'t, 'b, 'm> {
    buf: Option<&'t mut ReadBuf<'m>>,
    rest: &'b mut Vec<u8>,
}

impl Sink for Taker<'_, '_, '_> {
    fn take(&mut self, plaintext: &[u8]) {
        let mut rest = plaintext;
        if let Some(buf) = &mut self.buf
            && self.rest.is_empty()
        {
            let (now, later) = plaintext.split_at(plaintext.len().min(buf.remaining()));
            buf.put_slice(now);
            rest = later;
        }
        self.rest.extend_from_slice(rest);
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while !this.take_plain(buf) && buf.filled().len() == before && buf.remaining() > 0 {
            if let Some(end) = &this.end {
                return Poll::Ready(end.result());
            }
            std::task::ready!(this.poll_fill(cx, Some(buf)))?;
            // An answer of TLS itself, such as a key update or an alert; nobody waits for it.
            if !this.outgoing.is_empty()
                && let Poll::Ready(Err(error)) = this.poll_flush_outgoing(cx)
            {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_flush_outgoing(cx))?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        with_scratch(|scratch| this.poll_encrypt(cx, buf, &mut scratch.outgoing))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_flush_outgoing(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing && !matches!(this.end, Some(End::Broken(_))) {
            this.closing = true;
            this.advance(&mut [], &Job::Close, None);
        }
        std::task::ready!(this.poll_flush_outgoing(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }

    /// Several small pieces become one record.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_flush_outgoing(cx))?;
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        let (Some(first), second) = (filled.next(), filled.next()) else {
            return Poll::Ready(Ok(0));
        };
        with_scratch(|scratch| {
            if second.is_none() || first.len() >= WRITE_BYTES {
                return this.poll_encrypt(cx, first, &mut scratch.outgoing);
            }
            scratch.gather.clear();
            for buf in bufs {
                let room = WRITE_BYTES - scratch.gather.len();
                let piece = buf.get(..buf.len().min(room)).unwrap_or_default();
                scratch.gather.extend_from_slice(piece);
            }
            this.poll_encrypt(cx, &scratch.gather, &mut scratch.outgoing)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
