//! Messages as they arrive, on either side.
//!
//! It reads no further than the end of a message: bytes after it stay until the next one is asked
//! for, so that a client which sends ahead is held back by its own socket.

use std::io;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::http1::decode::BodyLength;
use crate::http::http1::decode::Event;
use crate::http::http1::decode::RequestDecoder;
use crate::http::http1::decode::ResponseDecoder;
use crate::http::http1::decode::Violation;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::head;
use crate::http::http1::input;
use crate::net::NetStream;

/// The two decoders, as far as reading is concerned.
pub(super) trait Decode {
    fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Violation>;
    fn is_idle(&self) -> bool;
    /// The end of the stream may be the end of the message.
    fn may_end(&self) -> bool;
}

impl Decode for RequestDecoder {
    fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Violation> {
        Self::next(self, bytes)
    }

    fn is_idle(&self) -> bool {
        Self::is_idle(self)
    }

    fn may_end(&self) -> bool {
        Self::is_idle(self)
    }
}

impl Decode for ResponseDecoder {
    fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Violation> {
        Self::next(self, bytes)
    }

    fn is_idle(&self) -> bool {
        Self::is_idle(self)
    }

    fn may_end(&self) -> bool {
        Self::may_end(self)
    }
}

/// Why reading ended.
#[derive(Debug)]
pub(super) enum ReadError {
    /// In the middle of a message.
    Eof,
    /// The socket failed.
    Io(io::Error),
    /// The peer broke a rule.
    Violation(Violation),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl ReadError {
    /// A complete head, or trailer section, this program cannot take.
    pub(super) fn of(kind: ViolationKind, in_head: bool) -> Self {
        Self::Violation(Violation {
            kind,
            at: 0,
            in_head,
        })
    }
}

/// A head and how long the body after it is.
pub(super) type Head = (Bytes, BodyLength);

/// The incoming half of a connection.
#[derive(Debug)]
pub(super) struct Reader<D> {
    pub(super) decoder: D,
    /// The beginning of a head or of a trailer section.
    partial: Vec<u8>,
    /// Read and not decoded.
    ahead: Bytes,
    /// Decoded and not handed on.
    content: Bytes,
    is_in_trailers: bool,
    trailers: Option<HeaderMap>,
    /// The body was decoded to its end.
    is_complete: bool,
    received: u64,
    read_bytes_max: usize,
}

impl<D: Decode> Reader<D> {
    /// Between two messages. `ahead` was read before; of content no more than `read_bytes_max` is read
    /// at once.
    pub(super) fn new(decoder: D, ahead: Bytes, read_bytes_max: usize) -> Self {
        Self {
            decoder,
            partial: Vec::new(),
            received: ahead.len() as u64,
            ahead,
            content: Bytes::new(),
            is_in_trailers: false,
            trailers: None,
            is_complete: true,
            read_bytes_max,
        }
    }

    /// Bytes read since the beginning.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Nothing of a further message has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.ahead.is_empty() && self.partial.is_empty()
    }

    /// Takes what was read beyond the last message, when it is of another protocol.
    pub(super) fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead).into()
    }

    /// The current message was read and handed on to its end.
    pub(super) fn is_end(&self) -> bool {
        self.is_complete && self.content.is_empty() && self.trailers.is_none()
    }

    /// The next head; `None` if the stream ends between two messages. Interim responses are skipped.
    pub(super) fn poll_head(
        &mut self,
        stream: &mut NetStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Head>, ReadError>> {
        loop {
            if !self.ahead.is_empty() {
                let ahead = std::mem::take(&mut self.ahead);
                let (used, head) = self.take_head(&ahead)?;
                self.ahead = ahead.slice(used..);
                if head.is_some() {
                    return Poll::Ready(Ok(head));
                }
                continue;
            }
            let taken = input::poll_read(stream, cx, |bytes| self.take_fresh(bytes));
            match std::task::ready!(taken)?? {
                Fresh::End if self.decoder.is_idle() => return Poll::Ready(Ok(None)),
                Fresh::End => return Poll::Ready(Err(ReadError::Eof)),
                Fresh::Head(head) => return Poll::Ready(Ok(Some(head))),
                Fresh::Part => {}
            }
        }
    }

    /// Ready once the peer has closed the connection, between two messages, or it broke. Looks only
    /// while nothing of a next message has come.
    pub(super) fn poll_gone(&mut self, stream: &mut NetStream, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_drained() {
            return Poll::Pending;
        }
        let read = input::poll_read(stream, cx, |bytes| {
            self.received += bytes.len() as u64;
            self.ahead = input::keep(bytes);
            bytes.is_empty()
        });
        match std::task::ready!(read) {
            Ok(true) | Err(_) => Poll::Ready(()),
            Ok(false) => Poll::Pending,
        }
    }

    /// Takes what was just read into a buffer of somebody else.
    fn take_fresh(&mut self, bytes: &[u8]) -> Result<Fresh, Violation> {
        if bytes.is_empty() {
            return Ok(Fresh::End);
        }
        self.received += bytes.len() as u64;
        let (used, head) = self.take_head(bytes)?;
        let rest = bytes.get(used..).unwrap_or_default();
        if !rest.is_empty() {
            self.ahead = input::keep(rest);
        }
        Ok(head.map_or(Fresh::Part, Fresh::Head))
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), Violation> {
        let (used, event) = self.decoder.next(bytes)?;
        let taken = bytes.get(..used).unwrap_or_default();
        match event {
            Event::Head(length) => {
                let head = self.section(taken);
                self.is_complete = self.decoder.is_idle();
                Ok((used, Some((head, length))))
            }
            Event::Interim => {
                self.partial = Vec::new();
                Ok((used, None))
            }
            Event::Content(_) | Event::End | Event::More | Event::Trailers => {
                self.partial.extend_from_slice(taken);
                Ok((used, None))
            }
        }
    }

    /// A section whose last bytes are `taken`.
    fn section(&mut self, taken: &[u8]) -> Bytes {
        if self.partial.is_empty() {
            return input::keep(taken);
        }
        let mut section = std::mem::take(&mut self.partial);
        section.extend_from_slice(taken);
        section.into()
    }

    /// The next piece of the body, or its trailers; `None` once all was handed on.
    pub(super) fn poll_frame(
        &mut self,
        stream: &mut NetStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, ReadError>> {
        loop {
            if !self.content.is_empty() {
                let content = std::mem::take(&mut self.content);
                self.decode_ahead()?; // to know at once whether it was the last
                return Poll::Ready(Ok(Some(Frame::data(content))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
            }
            if self.is_complete {
                return Poll::Ready(Ok(None));
            }
            if self.ahead.is_empty() {
                self.ahead =
                    std::task::ready!(input::poll_read_content(stream, self.read_bytes_max, cx))?;
                self.received += self.ahead.len() as u64;
                if self.ahead.is_empty() {
                    if !self.decoder.may_end() {
                        return Poll::Ready(Err(ReadError::Eof));
                    }
                    self.is_complete = true;
                }
            }
            self.decode_ahead()?;
        }
    }

    /// Decodes what was read until there is content or the message ends.
    fn decode_ahead(&mut self) -> Result<(), ReadError> {
        while !self.ahead.is_empty() && !self.is_complete && self.content.is_empty() {
            let (used, event) = self.decoder.next(&self.ahead)?;
            let taken = self.ahead.split_to(used);
            match event {
                Event::Content(len) => {
                    self.content = taken.slice(taken.len() - len..);
                    self.is_complete = self.decoder.is_idle();
                }
                Event::End => self.end_trailers(&taken)?,
                Event::Trailers => self.is_in_trailers = true,
                Event::More if self.is_in_trailers => self.partial.extend_from_slice(&taken),
                Event::Head(_) | Event::Interim | Event::More => {}
            }
        }
        Ok(())
    }

    fn end_trailers(&mut self, taken: &[u8]) -> Result<(), ReadError> {
        self.is_in_trailers = false;
        self.is_complete = true;
        if self.partial.is_empty() && taken == b"\r\n" {
            return Ok(());
        }
        let section = self.section(taken);
        let trailers = head::trailers(&section).map_err(|kind| ReadError::of(kind, false))?;
        self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
        Ok(())
    }
}

enum Fresh {
    End,
    Head(Head),
    Part,
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Eof => ErrorKind::Closed.into(),
            ReadError::Io(error) => error.into(),
            ReadError::Violation(violation) => violation.into(),
        }
    }
}
