//! Bodies as they arrive, and as they are sent upstream.
//!
//! Bytes are moved, never copied: a frame read on one side is the frame written on the other.

use std::cell::Cell;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Instant;

use crate::http::codec::Error;
use crate::http::http1::client::ResponseIncoming;
use crate::http::http1::server::RequestIncoming;
use crate::http::http2::incoming::Http2Incoming;

/// A body that arrives from a peer.
#[derive(Debug)]
pub struct Incoming(Source);

#[derive(Debug)]
enum Source {
    Empty,
    Fixed(Option<Bytes>),
    Http1Request(RequestIncoming),
    Http1Response(ResponseIncoming),
    Http2(Http2Incoming),
}

impl Incoming {
    /// No body.
    pub(in crate::http) fn empty() -> Self {
        Self(Source::Empty)
    }

    /// One that is here already, for requests of our own.
    pub(crate) fn fixed(bytes: Bytes) -> Self {
        Self(Source::Fixed(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl From<Http2Incoming> for Incoming {
    fn from(body: Http2Incoming) -> Self {
        Self(Source::Http2(body))
    }
}

impl From<RequestIncoming> for Incoming {
    fn from(body: RequestIncoming) -> Self {
        Self(Source::Http1Request(body))
    }
}

impl From<ResponseIncoming> for Incoming {
    fn from(body: ResponseIncoming) -> Self {
        Self(Source::Http1Response(body))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().0 {
            Source::Empty => Poll::Ready(None),
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Http1Request(body) => body.poll_frame(cx),
            Source::Http1Response(body) => body.poll_frame(cx),
            Source::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Http1Request(body) => body.is_end_stream(),
            Source::Http1Response(body) => body.is_end_stream(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Http1Request(body) => body.size_hint(),
            Source::Http1Response(body) => body.size_hint(),
            Source::Http2(body) => body.size_hint(),
        }
    }
}

/// How far a request body has come; shared by the two tasks that move it.
#[derive(Debug)]
pub struct Progress {
    /// Body bytes read from the downstream.
    pub bytes: Cell<u64>,
    /// When the last of them came.
    pub last: Cell<Instant>,
    /// Whether the whole request has been read.
    pub complete: Cell<bool>,
    /// Whether reading it failed: the downstream is gone or broke the framing.
    pub failed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// Nothing read yet.
    pub fn new(now: Instant) -> Self {
        Self {
            bytes: Cell::new(0),
            last: Cell::new(now),
            complete: Cell::new(false),
            failed: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Wakes a task once when the request has been read, or failed.
    pub fn wake_at_end(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    fn end(&self, cell: &Cell<bool>) {
        cell.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A request body on its way to an upstream.
#[derive(Debug)]
pub struct RequestBody {
    inner: Option<Incoming>,
    progress: Option<Rc<Progress>>,
}

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self {
            inner: None,
            progress: None,
        }
    }

    /// A body of our own.
    pub(crate) fn of(body: Incoming) -> Self {
        Self {
            inner: Some(body),
            progress: None,
        }
    }

    /// The downstream's body, with its progress written down.
    pub fn relay(body: Incoming, progress: Rc<Progress>) -> Self {
        Self {
            inner: Some(body),
            progress: Some(progress),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(progress) = &this.progress {
            record(progress, frame.as_ref());
            if body.is_end_stream() {
                record(progress, None); // the codec will not ask again
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn record(progress: &Progress, frame: Option<&Result<Frame<Bytes>, Error>>) {
    match frame {
        Some(Ok(frame)) => {
            let len = frame.data_ref().map_or(0, Bytes::len);
            progress.bytes.set(progress.bytes.get() + len as u64);
            progress.last.set(Instant::now());
        }
        Some(Err(_)) => progress.end(&progress.failed),
        None => progress.end(&progress.complete),
    }
}
