//! A downstream connection, from its first request to its last.
//!
//! One task does everything: it reads a head, lets the service answer, and writes the answer. While
//! the answer is made it watches whether the client leaves.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::codec::AsksUpgrade;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::Incoming;
use crate::http::codec::IoFacts;
use crate::http::codec::Linger;
use crate::http::codec::Switch;
use crate::http::http1::decode::BodyLength;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::decode::RequestDecoder;
use crate::http::http1::encode;
use crate::http::http1::encode::ResponseTo;
use crate::http::http1::head;
use crate::http::http1::outgoing::Outgoing;
use crate::http::http1::reader::ReadError;
use crate::http::http1::reader::Reader;
use crate::http::http1::spare;
use crate::http::http1::transfer::Transfer;
use crate::net::NetStream;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Request bytes thrown away so that a connection whose request nobody read can go on.
const DISCARD_MAX: u64 = 256 * 1024;

/// Whether a connection is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(in crate::http) enum Closing {
    /// It goes on.
    #[default]
    No,
    /// The next answer is the last, and says so.
    AfterAnswer,
    /// It ends once no request is running.
    Now,
    /// The same, and what is not HTTP any more says goodbye.
    LastWord,
}

/// The socket with both halves of the protocol. Each part is borrowed for one step only: the body of
/// a response may read the body of its request.
#[derive(Debug)]
struct ServerIo {
    stream: RefCell<NetStream>,
    reader: RefCell<Reader<RequestDecoder>>,
    out: RefCell<Outgoing>,
    facts: Rc<IoFacts>,
    /// The client waits for `100 Continue`.
    expects_continue: Cell<bool>,
    /// It is being told, and the socket has not taken all of it.
    says_continue: Cell<bool>,
    /// The current body failed; asking again is no use.
    has_failed: Cell<bool>,
}

/// Serves requests one after the other until the connection ends, or until `closing` asks for it.
///
/// # Errors
/// The connection broke, or broke a rule of HTTP.
pub(in crate::http) async fn serve<F, Fut, B>(
    (stream, first): (NetStream, Vec<u8>),
    limits: (DecodeLimits, usize),
    facts: Rc<IoFacts>,
    service: F,
    closing: Rc<Cell<Closing>>,
) -> Result<(), Error>
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Held + Switch,
{
    let io = Rc::new(ServerIo::new(stream, first, limits, facts));
    loop {
        let next = std::future::poll_fn(|cx| io.poll_request(cx, closing.get() >= Closing::Now));
        let request = match next.await {
            Ok(Some(request)) => request,
            Ok(None) => {
                io.say_end();
                return Ok(());
            }
            Err(error) => return io.refuse(error).await,
        };
        let to = ResponseTo {
            version: request.parts.version,
            is_head: request.parts.method == Method::HEAD,
            persists: request.persists,
        };
        let request = request.into_request(&io);
        let response = {
            let making = pin!(service(request));
            answer(&io, making).await.ok_or(ErrorKind::Closed)?
        };
        let response = match unless_switched(&io, response, &closing) {
            Ok(response) => response,
            Err(switched) => return switched.await,
        };
        let persists = respond(&io, response, to, &closing).await?;
        if !persists || !io.discard_body() {
            io.linger().await;
            return Ok(());
        }
    }
}

/// A request whose body is still in the socket.
struct Received {
    parts: http::request::Parts,
    length: BodyLength,
    persists: bool,
}

impl Received {
    fn into_request(self, io: &Rc<ServerIo>) -> Request<Incoming> {
        let body = match self.length {
            BodyLength::Known(0) => Incoming::empty(),
            length => Incoming::from(RequestIncoming {
                io: Rc::clone(io),
                length: length.known(),
            }),
        };
        Request::from_parts(self.parts, body)
    }
}

/// Waits for the answer; `None` if the client left before. What makes it stays where it is pinned:
/// taken by value it would be stored twice, and every idle connection has room for it.
fn answer<T>(
    io: &ServerIo,
    mut making: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(response) = making.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        io.poll_gone(cx).map(|()| None)
    })
}

/// Writes the response; returns whether the connection may go on.
async fn respond<B>(
    io: &ServerIo,
    response: Response<B>,
    mut to: ResponseTo,
    closing: &Cell<Closing>,
) -> Result<bool, Error>
where
    B: Held,
{
    let (parts, body) = response.into_parts();
    to.persists &=
        closing.get() == Closing::No && !io.has_failed.get() && !says_close(&parts.headers);
    io.expects_continue.set(false); // the answer is the answer
    io.says_continue.set(false); // what is left goes out with it
    let head = (parts.status, &parts.headers);
    let length = encode::response(io.out.borrow_mut().head(), to, head, &body);
    spare::give_back(parts.headers);
    let mut transfer = Transfer::new(body, length);
    std::future::poll_fn(|cx| io.poll_respond(&mut transfer, cx)).await?;
    Ok(to.persists && length != BodyLength::Close)
}

/// The response, or what follows it if it is a 101. Boxed, as that is rare; here, because a response that
/// may go two ways would be stored twice.
fn unless_switched<B>(
    io: &Rc<ServerIo>,
    response: Response<B>,
    closing: &Rc<Cell<Closing>>,
) -> Result<Response<B>, Pin<Box<impl Future<Output = Result<(), Error>> + use<B>>>>
where
    B: Body<Data = Bytes, Error = Error> + Switch,
{
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let (io, closing) = (Rc::clone(io), Rc::clone(closing));
    Err(Box::pin(switch(io, response, closing)))
}

/// Says that the client's offer is taken, and goes on as what it offered, to the end.
async fn switch<B>(
    io: Rc<ServerIo>,
    response: Response<B>,
    closing: Rc<Cell<Closing>>,
) -> Result<(), Error>
where
    B: Body<Data = Bytes, Error = Error> + Switch,
{
    let (parts, mut body) = response.into_parts();
    let to = ResponseTo {
        version: Version::HTTP_11,
        is_head: false,
        persists: true,
    };
    let head = (parts.status, &parts.headers);
    encode::response(io.out.borrow_mut().head(), to, head, &body);
    spare::give_back(parts.headers);
    std::future::poll_fn(|cx| io.poll_flush(cx)).await?;
    body.begin(io.reader.borrow_mut().take_ahead());
    io.facts.is_switched.set(true);
    let before = (io.facts.received.get(), io.facts.sent.get());
    let (early, _) = body.moved(); // counted as received before
    std::future::poll_fn(|cx| {
        let is_last_word = closing.get() == Closing::LastWord;
        let mut stream = io.stream.borrow_mut();
        let ended = body.poll_switched(&mut *stream, is_last_word, cx);
        let (received, sent) = body.moved();
        io.facts.received.set(before.0 + received - early);
        io.facts.sent.set(before.1 + sent);
        ended
    })
    .await;
    io.say_end();
    Ok(())
}

fn says_close(headers: &HeaderMap) -> bool {
    let connection = headers.get(http::header::CONNECTION);
    connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

impl ServerIo {
    fn new(
        stream: NetStream,
        first: Vec<u8>,
        (limits, read_bytes_max): (DecodeLimits, usize),
        facts: Rc<IoFacts>,
    ) -> Self {
        let decoder = RequestDecoder::new(limits);
        Self {
            stream: RefCell::new(stream),
            reader: RefCell::new(Reader::new(decoder, first.into(), read_bytes_max)),
            out: RefCell::default(),
            facts,
            expects_continue: Cell::new(false),
            says_continue: Cell::new(false),
            has_failed: Cell::new(false),
        }
    }

    /// The next request; `None` when the connection has ended, or may end.
    fn poll_request(
        &self,
        cx: &mut Context<'_>,
        is_closing: bool,
    ) -> Poll<Result<Option<Received>, Error>> {
        let mut reader = self.reader.borrow_mut();
        let head = reader.poll_head(&mut self.stream.borrow_mut(), cx);
        self.note_input(&reader);
        let (head, length) = match head {
            // Closed now, a socket with a request in it would be reset, and its client not know why.
            Poll::Pending if is_closing && reader.decoder.is_idle() => {
                return match self.stream.borrow().has_unread() {
                    true => Poll::Pending, // it will be told
                    false => Poll::Ready(Ok(None)),
                };
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
            Poll::Ready(Ok(Some(found))) => found,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.read_error(error))),
        };
        let (mut parts, said) =
            head::request(&head).map_err(|kind| self.read_error(ReadError::of(kind, true)))?;
        let persists = said.persists(parts.version);
        if said.upgrade && parts.version == Version::HTTP_11 {
            parts.extensions.insert(AsksUpgrade);
        }
        self.expects_continue
            .set(said.expects_continue && parts.version == Version::HTTP_11);
        Poll::Ready(Ok(Some(Received {
            parts,
            length,
            persists,
        })))
    }

    /// Ready once the client has closed the connection or it broke. It is looked at only between two
    /// messages; what the client sends ahead waits.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut reader = self.reader.borrow_mut();
        if !reader.is_end() {
            return Poll::Pending; // whoever reads the body will see it
        }
        let gone = reader.poll_gone(&mut self.stream.borrow_mut(), cx);
        self.note_input(&reader);
        gone
    }

    fn poll_respond<B>(
        &self,
        transfer: &mut Transfer<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>
    where
        B: Held,
    {
        let sent = transfer.poll(&self.out, &self.stream, cx);
        self.note_output();
        match sent {
            Poll::Ready(result) => Poll::Ready(result.map_err(Error::from)),
            Poll::Pending => self.poll_gone(cx).map(|()| Err(ErrorKind::Closed.into())),
        }
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_failed.get() {
            return Poll::Ready(None);
        }
        let mut reader = self.reader.borrow_mut();
        if self.expects_continue.take() && reader.is_drained() {
            self.out.borrow_mut().head().extend_from_slice(CONTINUE);
            self.says_continue.set(true);
        }
        if self.says_continue.get() {
            let mut out = self.out.borrow_mut();
            // If it broke, reading will tell.
            let flushed = out.poll_flush(&mut self.stream.borrow_mut(), cx);
            self.says_continue.set(flushed.is_pending());
        }
        let frame = reader.poll_frame(&mut self.stream.borrow_mut(), cx);
        self.note_input(&reader);
        frame.map(|frame| match frame {
            Ok(frame) => frame.map(Ok),
            Err(error) => {
                self.has_failed.set(true);
                Some(Err(self.read_error(error)))
            }
        })
    }

    fn note_input(&self, reader: &Reader<RequestDecoder>) {
        self.facts.received.set(reader.received());
        let inside = reader.decoder.is_inside_head();
        if inside != self.facts.head_since.get().is_some() {
            self.facts.head_since.set(inside.then(Instant::now));
        }
    }

    fn note_output(&self) {
        let out = self.out.borrow();
        let has_moved = self.facts.sent.replace(out.written()) != out.written();
        if out.is_empty() {
            self.facts.blocked_since.set(None);
        } else if has_moved || self.facts.blocked_since.get().is_none() {
            self.facts.blocked_since.set(Some(Instant::now()));
        }
    }

    fn read_error(&self, error: ReadError) -> Error {
        if let ReadError::Violation(violation) = &error {
            self.facts.violation.set(Some(*violation));
        }
        error.into()
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = (self.out.borrow_mut()).poll_flush(&mut self.stream.borrow_mut(), cx);
        self.note_output();
        flushed
    }

    /// Answers a request that never became one.
    async fn refuse(&self, error: Error) -> Result<(), Error> {
        let Some(violation) = self.facts.violation.get() else {
            return Err(error);
        };
        let to = ResponseTo {
            version: Version::HTTP_11,
            is_head: false,
            persists: false,
        };
        let head = (violation.status(), &HeaderMap::new());
        let body = http_body_util::Empty::<Bytes>::new();
        encode::response(self.out.borrow_mut().head(), to, head, &body);
        if std::future::poll_fn(|cx| self.poll_flush(cx)).await.is_ok() {
            self.linger().await;
        }
        Err(error)
    }

    /// Throws away what is left of the current request; false if that is not over at once.
    fn discard_body(&self) -> bool {
        let mut discarded = 0;
        while discarded <= DISCARD_MAX {
            let mut cx = Context::from_waker(Waker::noop());
            match self.poll_frame(&mut cx) {
                Poll::Ready(None) => return !self.has_failed.get(),
                Poll::Ready(Some(Ok(frame))) => {
                    discarded += frame.data_ref().map_or(0, Bytes::len) as u64;
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        false
    }

    /// Tells a TLS client that what it got is all (RFC 8446 section 6.1), as far as the socket takes
    /// it; a plain socket says so by being closed.
    fn say_end(&self) {
        let mut stream = self.stream.borrow_mut();
        if !stream.is_plain() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut *stream).poll_shutdown(&mut cx);
        }
    }

    /// Says that this was the last answer, and reads on for a while: closing a socket with unread
    /// bytes resets it, and the client might never see the answer.
    async fn linger(&self) {
        let is_over = {
            let reader = self.reader.borrow();
            reader.is_end() && reader.is_drained()
        };
        if is_over {
            self.say_end();
            return;
        }
        let mut linger = Linger::new(self.facts.linger);
        let mut over =
            |cx: &mut Context<'_>| linger.poll_over(&mut self.stream.borrow_mut(), &self.facts, cx);
        std::future::poll_fn(&mut over).await;
    }
}

/// The body of a request, read from the connection when it is asked for.
#[derive(Debug)]
pub(in crate::http) struct RequestIncoming {
    io: Rc<ServerIo>,
    /// If it was said before.
    length: Option<u64>,
}

impl RequestIncoming {
    pub(in crate::http) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.io.poll_frame(cx)
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        self.io.reader.borrow().is_end()
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
