//! A body as it is written, on either side.
//!
//! The next piece is asked for only when the one before is in the socket: a slow reader stops the
//! other side from being read. The head goes out with the first piece if that is there at once.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::http1::decode::BodyLength;
use crate::http::http1::encode;
use crate::http::http1::outgoing::Outgoing;
use crate::net::NetStream;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END: &[u8] = b"\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// Why a message was not written to its end.
#[derive(Debug)]
pub(super) enum TransferError {
    /// The source of the body failed; it has told its own exchange.
    Body,
    /// The socket failed.
    Io(io::Error),
    /// The body is not as long as its head says.
    Length,
}

/// A message on its way out: what is left of its body.
#[derive(Debug)]
pub(super) struct Transfer<B> {
    /// Kept until the last byte is in the socket: an exchange ends when its body is dropped.
    body: B,
    /// Read to its end.
    is_read: bool,
    framing: Framing,
    /// The first piece was waited for: the head may go alone.
    has_begun: bool,
    took_frames: bool,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    Close,
    /// Bytes left.
    Known(u64),
}

impl<B: Held> Transfer<B> {
    /// The head is in the outgoing bytes already.
    pub(super) fn new(body: B, length: BodyLength) -> Self {
        let framing = match length {
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::Close => Framing::Close,
            BodyLength::Known(length) => Framing::Known(length),
        };
        Self {
            body,
            is_read: false,
            framing,
            has_begun: false,
            took_frames: false,
        }
    }

    /// The body, if nothing was taken from it yet.
    pub(super) fn untouched(self) -> Option<B> {
        Some(self.body).filter(|_| !self.took_frames)
    }

    /// Writes until the whole message is in the socket.
    pub(super) fn poll(
        &mut self,
        out: &RefCell<Outgoing>,
        stream: &RefCell<NetStream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransferError>> {
        // Nothing is borrowed while the body is asked: it may read from this very socket.
        loop {
            if self.has_begun || self.is_read {
                match poll_flush(out, stream, cx) {
                    Poll::Ready(flushed) => flushed?,
                    Poll::Pending => return self.poll_waiting(out, cx),
                }
            }
            if self.is_read {
                return Poll::Ready(Ok(()));
            }
            self.has_begun = true;
            if self.body.is_end_stream() {
                self.end(&mut out.borrow_mut())?;
                continue;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    std::task::ready!(poll_flush(out, stream, cx))?;
                    return Poll::Pending;
                }
                Poll::Ready(None) => self.end(&mut out.borrow_mut())?,
                Poll::Ready(Some(Ok(frame))) => self.push(frame, &mut out.borrow_mut())?,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(TransferError::Body)),
            }
        }
    }

    /// The peer takes no more for now; ready if what waits for it is given up, or waited for too long.
    fn poll_waiting(
        &mut self,
        out: &RefCell<Outgoing>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransferError>> {
        let bytes = out.borrow().len();
        let given_up = self.body.poll_waiting(bytes, cx);
        given_up.map(|_| Err(TransferError::Body))
    }

    fn push(&mut self, frame: Frame<Bytes>, out: &mut Outgoing) -> Result<(), TransferError> {
        self.took_frames = true;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let (Framing::Chunked, Ok(trailers)) = (self.framing, frame.into_trailers()) {
                    encode::trailers(out.head(), &trailers);
                    self.is_read = true;
                }
                return Ok(());
            }
        };
        if data.is_empty() {
            return Ok(()); // an empty chunk would be the last
        }
        match &mut self.framing {
            Framing::Chunked => {
                encode::chunk_size(out.head(), data.len());
                let is_last = self.body.is_end_stream();
                self.is_read |= is_last;
                out.set_tail(if is_last {
                    CHUNK_END_AND_LAST
                } else {
                    CHUNK_END
                });
            }
            Framing::Close => {}
            Framing::Known(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or(TransferError::Length)?;
            }
        }
        out.set_content(data);
        Ok(())
    }

    /// The body has ended without trailers.
    fn end(&mut self, out: &mut Outgoing) -> Result<(), TransferError> {
        self.is_read = true;
        match self.framing {
            Framing::Chunked => out.set_tail(LAST_CHUNK),
            Framing::Known(left) if left > 0 => return Err(TransferError::Length),
            Framing::Close | Framing::Known(_) => {}
        }
        Ok(())
    }
}

fn poll_flush(
    out: &RefCell<Outgoing>,
    stream: &RefCell<NetStream>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), TransferError>> {
    let mut out = out.borrow_mut();
    if out.is_empty() {
        return Poll::Ready(Ok(()));
    }
    out.poll_flush(&mut stream.borrow_mut(), cx)
        .map_err(TransferError::Io)
}

impl From<TransferError> for Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Body | TransferError::Length => ErrorKind::User.into(),
            TransferError::Io(error) => error.into(),
        }
    }
}
