//! Bodies as they arrive, and as they are sent upstream.
//!
//! Bytes are moved, never copied: a frame read on one side is the frame written on the other.

use std::cell::Cell;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Instant;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::replay::Reading;
use crate::http::http1::client::ResponseIncoming;
use crate::http::http1::server::RequestIncoming;
use crate::http::http2::extended::stream::Http2Stream;
use crate::http::http2::incoming::Http2Incoming;
use crate::overload::held::Account;
use crate::overload::held::Direction;
use crate::overload::held::OfConnection;
use crate::overload::held::Unread;

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
    /// Boxed, as they are rare.
    Peeked(Box<Peeked>),
    Switched(Box<Http2Stream>),
}

/// A body of which a frame was read and is to be read again.
#[derive(Debug)]
struct Peeked {
    frame: Option<Frame<Bytes>>,
    rest: Incoming,
}

impl Incoming {
    /// The body with `frame` in front, which was read from it.
    pub fn put_back(self, frame: Frame<Bytes>) -> Self {
        let (frame, rest) = (Some(frame), self);
        Self(Source::Peeked(Box::new(Peeked { frame, rest })))
    }

    /// The trailers, if they are all there is and were put back.
    pub fn peeked_trailers(&self) -> Option<&HeaderMap> {
        match &self.0 {
            Source::Peeked(body) => body.frame.as_ref().and_then(Frame::trailers_ref),
            _ => None,
        }
    }

    /// Whether all of it came, put back or not.
    pub fn has_come(&self) -> bool {
        match &self.0 {
            Source::Peeked(body) => body.rest.is_end_stream(),
            _ => self.is_end_stream(),
        }
    }

    /// What came of it and was not read, as far as that is known: of HTTP/2.
    pub fn unread(&mut self) -> Option<Box<dyn Unread>> {
        match &mut self.0 {
            Source::Http2(body) => Some(body.unread()),
            Source::Peeked(body) => body.rest.unread(),
            Source::Empty
            | Source::Fixed(_)
            | Source::Http1Request(_)
            | Source::Http1Response(_)
            | Source::Switched(_) => None,
        }
    }

    /// What goes on as another protocol, if that is a stream.
    pub(in crate::http) fn into_switched(self) -> Option<Box<Http2Stream>> {
        match self.0 {
            Source::Switched(stream) => Some(stream),
            _ => None,
        }
    }

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

/// Behind the head of a 101; it has no body.
impl From<Http2Stream> for Incoming {
    fn from(stream: Http2Stream) -> Self {
        Self(Source::Switched(Box::new(stream)))
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
            Source::Empty | Source::Switched(_) => Poll::Ready(None),
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Http1Request(body) => body.poll_frame(cx),
            Source::Http1Response(body) => body.poll_frame(cx),
            Source::Http2(body) => body.poll_frame(cx),
            Source::Peeked(body) => match body.frame.take() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(&mut body.rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Http1Request(body) => body.is_end_stream(),
            Source::Http1Response(body) => body.is_end_stream(),
            Source::Http2(body) => body.is_end_stream(),
            Source::Peeked(body) => body.frame.is_none() && body.rest.is_end_stream(),
            Source::Switched(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty | Source::Switched(_) => SizeHint::with_exact(0),
            Source::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Http1Request(body) => body.size_hint(),
            Source::Http1Response(body) => body.size_hint(),
            Source::Http2(body) => body.size_hint(),
            Source::Peeked(body) => body.rest.size_hint(), // what the head said of the whole
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
    /// Whose it is.
    connection: Rc<OfConnection>,
    /// Once something of the stream has to wait.
    account: OnceCell<Rc<Account>>,
}

impl Progress {
    /// Nothing read yet.
    pub fn new(now: Instant, connection: &Rc<OfConnection>) -> Self {
        Self {
            bytes: Cell::new(0),
            last: Cell::new(now),
            complete: Cell::new(false),
            failed: Cell::new(false),
            waker: RefCell::new(None),
            connection: Rc::clone(connection),
            account: OnceCell::new(),
        }
    }

    /// What the stream holds, if it holds anything.
    pub fn account(&self) -> Option<&Rc<Account>> {
        self.account.get()
    }

    /// What the stream holds from now on.
    pub fn open_account(&self) -> &Rc<Account> {
        self.account.get_or_init(|| Account::open(&self.connection))
    }

    /// What waited was taken.
    fn go_on(&self) {
        if let Some(account) = self.account() {
            account.go_on(Direction::Request);
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
pub struct RequestBody(Outgoing);

#[derive(Debug)]
enum Outgoing {
    Empty,
    Own(Incoming),
    Relay(Incoming, Rc<Progress>),
    Replay(Reading),
}

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self(Outgoing::Empty)
    }

    /// A body of our own.
    pub(crate) fn of(body: Incoming) -> Self {
        Self(Outgoing::Own(body))
    }

    /// The downstream's body, with its progress written down.
    pub fn relay(body: Incoming, progress: Rc<Progress>) -> Self {
        Self(Outgoing::Relay(body, progress))
    }
}

impl From<Reading> for RequestBody {
    fn from(reading: Reading) -> Self {
        Self(Outgoing::Replay(reading))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().0 {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Own(body) => Pin::new(body).poll_frame(cx),
            Outgoing::Relay(body, progress) => poll_recorded(body, progress, cx),
            Outgoing::Replay(reading) => reading.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Outgoing::Empty => true,
            Outgoing::Own(body) | Outgoing::Relay(body, _) => body.is_end_stream(),
            Outgoing::Replay(reading) => reading.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Own(body) | Outgoing::Relay(body, _) => body.size_hint(),
            Outgoing::Replay(_) => SizeHint::new(), // heads say it
        }
    }
}

impl Held for RequestBody {
    fn poll_waiting(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<Error> {
        let given_up = match &mut self.0 {
            Outgoing::Relay(body, progress) => {
                let account = progress.open_account();
                account.poll_waiting(Direction::Request, bytes, || body.unread(), cx)
            }
            Outgoing::Replay(reading) => reading.poll_waiting(bytes, cx),
            Outgoing::Empty | Outgoing::Own(_) => Poll::Pending,
        };
        given_up.map(|()| ErrorKind::Canceled.into())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        match &self.0 {
            Outgoing::Relay(_, progress) => progress.go_on(),
            Outgoing::Replay(reading) => reading.go_on(),
            Outgoing::Empty | Outgoing::Own(_) => {}
        }
    }
}

/// The next frame of the downstream's body, with its progress written down.
pub(super) fn poll_recorded(
    body: &mut Incoming,
    progress: &Progress,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    progress.go_on();
    let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
    record(progress, frame.as_ref());
    if body.is_end_stream() {
        record(progress, None); // the codec will not ask again
    }
    Poll::Ready(frame)
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
