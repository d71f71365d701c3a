//! Both directions of a stream as a stream of bytes, and how it ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::SendStream;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::http::codec::Fate;
use crate::http::codec::Peer;
use crate::net::NetStream;
use crate::tcp::End;

/// A stream of either side. Dropped before both directions have ended, it is reset, and h2 gives up what it has
/// not sent yet.
#[derive(Debug)]
pub struct Http2Stream {
    outgoing: SendStream<Bytes>,
    incoming: RecvStream,
    /// Received, and not read yet.
    unread: Bytes,
    /// The peer has said that no more comes.
    has_come: bool,
    /// We have.
    has_ended: bool,
    fate: Fate,
    on_way: Arc<OnWay>,
}

/// What h2 was given and has not put into the connection: it does not say, but drops it then.
#[derive(Debug, Default)]
struct OnWay(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    pieces: usize,
    /// Woken when there are none.
    waker: Option<Waker>,
}

/// Some of it.
struct Piece {
    bytes: Box<[u8]>,
    on_way: Arc<OnWay>,
}

impl OnWay {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut waiting = self.on_way.lock();
        waiting.pieces -= 1;
        if waiting.pieces == 0
            && let Some(waker) = waiting.waker.take()
        {
            waker.wake();
        }
    }
}

impl Http2Stream {
    pub(in crate::http::http2) fn new(outgoing: SendStream<Bytes>, incoming: RecvStream) -> Self {
        Self {
            outgoing,
            incoming,
            unread: Bytes::new(),
            has_come: false,
            has_ended: false,
            fate: Fate::Ended,
            on_way: Arc::default(),
        }
    }

    /// Whether dropping it tells the peer to give it up.
    pub(in crate::http) fn is_to_be_reset(&self) -> bool {
        self.fate == Fate::Ended && !(self.has_come && self.has_ended)
    }

    fn piece(&self, bytes: &[u8]) -> Bytes {
        self.on_way.lock().pieces += 1;
        Bytes::from_owner(Piece {
            bytes: bytes.into(),
            on_way: Arc::clone(&self.on_way),
        })
    }

    fn broken(&mut self, error: h2::Error) -> io::Error {
        self.fate = fate(&error);
        io::Error::other(error)
    }

    /// It takes no more: why that is.
    fn closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.outgoing.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => self.broken(reason.into()),
            Poll::Ready(Err(error)) => self.broken(error),
            Poll::Pending => io::ErrorKind::BrokenPipe.into(), // we have ended it
        }
    }
}

/// What the peer, or the loss of its connection, has done to a stream.
fn fate(error: &h2::Error) -> Fate {
    match error.reason() {
        // Not looked at, and sent away (RFC 9113 section 6.8).
        _ if error.is_go_away() && error.is_remote() => Fate::Refused,
        None => Fate::Lost,
        Some(_) if error.is_library() => Fate::Malformed,
        Some(Reason::CONNECT_ERROR) => Fate::Severed,
        Some(Reason::PROTOCOL_ERROR) => Fate::Malformed,
        Some(Reason::REFUSED_STREAM) => Fate::Refused,
        Some(_) => Fate::Reset,
    }
}

impl End for Http2Stream {
    fn socket(&self) -> Option<&NetStream> {
        None
    }
}

impl Peer for Http2Stream {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = std::task::ready!(self.outgoing.poll_reset(cx));
        self.fate = fate(&gone.map_or_else(|error| error, h2::Error::from));
        Poll::Ready(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.on_way.lock();
        if waiting.pieces == 0 {
            return Poll::Ready(());
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn fate(&self) -> Fate {
        self.fate
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match std::task::ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => this.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(this.broken(error))),
                None => {
                    this.has_come = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let len = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread.split_to(len));
        // The peer's window opens by what was read.
        let released = this.incoming.flow_control().release_capacity(len);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.outgoing.reserve_capacity(buf.len());
        loop {
            let len = this.outgoing.capacity().min(buf.len());
            if let Some(bytes) = buf.get(..len).filter(|bytes| !bytes.is_empty()) {
                let piece = this.piece(bytes);
                let sent = this.outgoing.send_data(piece, false);
                let sent = sent.map(|()| len);
                return Poll::Ready(sent.map_err(|_| this.closed(cx)));
            }
            match std::task::ready!(this.outgoing.poll_capacity(cx)) {
                Some(Ok(_)) => {} // zero when the window shrank meanwhile
                Some(Err(error)) => return Poll::Ready(Err(this.broken(error))),
                None => return Poll::Ready(Err(this.closed(cx))),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection sends what it has taken
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_ended, true) {
            let sent = this.outgoing.send_data(Bytes::new(), true);
            return Poll::Ready(sent.map_err(|_| this.closed(cx)));
        }
        Poll::Ready(Ok(()))
    }
}
