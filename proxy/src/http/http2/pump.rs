//! A body as it is sent on a stream, as far as the peer's windows let it.
//!
//! The next piece is asked for only when there is room for some of it, and one piece at a time is
//! held: a slow reader stops the other side from being read.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use bytes::Bytes;
use h2::Reason;
use h2::SendStream;

/// A body on its way out. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub(super) struct Pump<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Read and not sent.
    rest: Bytes,
    /// `rest` is the last piece.
    is_last: bool,
}

impl<B: Held> Pump<B> {
    /// The head was sent and said that a body follows.
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            rest: Bytes::new(),
            is_last: false,
        }
    }

    /// Sends until all of the body was taken by the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.rest.is_empty() {
                match self.poll_room(1, cx) {
                    Poll::Ready(room) => room?,
                    Poll::Pending => return self.poll_waiting(cx),
                };
                match self.poll_next(cx)? {
                    Poll::Ready(true) => return Poll::Ready(Ok(())),
                    Poll::Ready(false) => continue,
                    // Nothing to send: then it matters whether the peer still wants it.
                    Poll::Pending => return self.poll_reset(cx).map(Err),
                }
            }
            let room = match self.poll_room(self.rest.len(), cx) {
                Poll::Ready(room) => room?,
                Poll::Pending => return self.poll_waiting(cx),
            };
            let piece = self.rest.split_to(room.min(self.rest.len()));
            let is_end = self.is_last && self.rest.is_empty();
            self.stream.send_data(piece, is_end)?;
            if is_end {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The peer takes no more for now; ready if what waits for it is given up, or waited for too long.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let error = std::task::ready!(self.body.poll_waiting(self.rest.len(), cx));
        self.stream.send_reset(Reason::INTERNAL_ERROR);
        Poll::Ready(Err(error))
    }

    /// Takes the next frame of the body; true if that was its end and it was sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Result<Poll<bool>, Error> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(None) => {
                self.stream.send_data(Bytes::new(), true)?;
                return Ok(Poll::Ready(true));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                self.stream.send_reset(Reason::CANCEL); // its source broke off
                return Err(error);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.is_last = self.body.is_end_stream();
                if data.is_empty() && self.is_last {
                    self.stream.send_data(data, true)?;
                    return Ok(Poll::Ready(true));
                }
                self.rest = data;
                Ok(Poll::Ready(false))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.send_trailers(trailers)?;
                    Ok(Poll::Ready(true))
                }
                Err(_) => Ok(Poll::Ready(false)), // there is no third kind
            },
        }
    }

    /// Room for some of `wanted` bytes.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        self.stream.reserve_capacity(wanted);
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match std::task::ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {} // zero when the window shrank meanwhile
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err(ErrorKind::Closed.into())),
            }
        }
    }

    /// Ready once the peer wants no more.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.stream.poll_reset(cx).map(|reset| match reset {
            Ok(reason) => h2::Error::from(reason).into(),
            Err(error) => error.into(),
        })
    }
}
