//! An upstream connection: one request out, one response in, then the next.
//!
//! It has no task of its own. Whoever waits for the response, or reads its body, also writes what is
//! left of the request.

use std::cell::Cell;
use std::cell::RefCell;
use std::cell::RefMut;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::request::Parts;
use http_body::Frame;
use http_body::SizeHint;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::http::codec::Unsent;
use crate::http::codec::unfit;
use crate::http::http1::decode::BodyLength;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::decode::Expect;
use crate::http::http1::decode::ResponseDecoder;
use crate::http::http1::encode;
use crate::http::http1::head;
use crate::http::http1::outgoing::Outgoing;
use crate::http::http1::reader::Head;
use crate::http::http1::reader::ReadError;
use crate::http::http1::reader::Reader;
use crate::http::http1::spare;
use crate::http::http1::transfer::Transfer;
use crate::http::http1::transfer::TransferError;
use crate::net::NetStream;

#[derive(Debug)]
struct ClientIo {
    stream: RefCell<NetStream>,
    reader: RefCell<Reader<ResponseDecoder>>,
    out: RefCell<Outgoing>,
    /// The request while it is written.
    request: RefCell<Option<Transfer<RequestBody>>>,
    /// Bytes written before the current request.
    begun_at: Cell<u64>,
    /// No further request may be put on the connection.
    is_spent: Cell<bool>,
    /// The peer takes no more of the request; it may still answer.
    is_write_broken: Cell<bool>,
}

/// Puts one request at a time on an HTTP/1.1 connection. Dropping it, and the response, closes it.
#[derive(Debug)]
pub struct Http1Sender(Rc<ClientIo>);

impl Http1Sender {
    /// A new connection, of which so many bytes of content are read at once.
    pub fn new(stream: NetStream, read_bytes_max: usize) -> Self {
        let decoder = ResponseDecoder::new(DecodeLimits::default());
        Self(Rc::new(ClientIo {
            stream: RefCell::new(stream),
            reader: RefCell::new(Reader::new(decoder, Bytes::new(), read_bytes_max)),
            out: RefCell::default(),
            request: RefCell::default(),
            begun_at: Cell::new(0),
            is_spent: Cell::new(false),
            is_write_broken: Cell::new(false),
        }))
    }

    /// Whether the last exchange ended cleanly on both sides, with nothing left over, and the peer
    /// has neither closed the connection nor spoken unasked. Costs no system call unless it has.
    pub fn is_ready(&self) -> bool {
        let io = &*self.0;
        let reader = io.reader.borrow();
        !io.is_spent.get()
            && io.request.borrow().is_none()
            && reader.decoder.is_idle()
            && reader.is_end()
            && reader.is_drained()
            && io.stream.borrow_mut().is_idle_clean()
    }

    /// The socket, once a 101 has ended HTTP on it.
    pub fn stream(&self) -> RefMut<'_, NetStream> {
        self.0.stream.borrow_mut()
    }

    /// What came after the 101 with it.
    pub fn take_early(&self) -> Vec<u8> {
        self.0.reader.borrow_mut().take_ahead()
    }

    /// Sends a request and waits for the head of the response. The head of the request is kept in `slot`,
    /// if there is one, but if the request is handed back.
    ///
    /// # Errors
    /// The connection failed; see [`Unsent`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the exchange; the connection is not ready any more.
    pub fn send<'s>(
        &mut self,
        request: Request<RequestBody>,
        mut slot: Option<&'s mut Option<Parts>>,
    ) -> impl Future<Output = Sent> + use<'s> {
        let io = Rc::clone(&self.0);
        let (parts, body) = request.into_parts();
        io.begin(&parts, body);
        let mut own = None;
        match &mut slot {
            Some(slot) => **slot = Some(parts),
            None => own = Some(parts),
        }
        std::future::poll_fn(move |cx| match &mut slot {
            Some(slot) => io.poll_response(slot, true, cx),
            None => io.poll_response(&mut own, false, cx),
        })
    }
}

impl ClientIo {
    fn begin(&self, parts: &Parts, body: RequestBody) {
        let mut out = self.out.borrow_mut();
        self.begun_at.set(out.written());
        let length = encode::request(out.head(), &parts.method, &parts.uri, &parts.headers);
        *self.request.borrow_mut() = Some(Transfer::new(body, length));
        let expect = match parts.method {
            Method::CONNECT => Expect::Connect,
            Method::HEAD => Expect::Head,
            _ => Expect::Other,
        };
        self.reader.borrow_mut().decoder.expect(expect);
    }

    /// Waits for the head of the response. `parts` is the request, while nothing of it was written or if
    /// it `stays`.
    fn poll_response(
        self: &Rc<Self>,
        parts: &mut Option<Parts>,
        stays: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Sent> {
        let wrote = self.poll_write(cx);
        let has_written = self.has_written();
        if has_written
            && !stays
            && let Some(parts) = parts.take()
        {
            spare::give_back(parts.headers);
        }
        if let Poll::Ready(Err(error)) = wrote {
            let unwritten = parts.take_if(|_| !has_written);
            return Poll::Ready(Err(self.unsent(error, unwritten)));
        }
        let mut reader = self.reader.borrow_mut();
        let head = std::task::ready!(reader.poll_head(&mut self.stream.borrow_mut(), cx));
        drop(reader);
        Poll::Ready(self.response(head).map_err(|error| {
            self.is_spent.set(true);
            let request = None; // the peer may have seen it
            Box::new(Unsent { error, request })
        }))
    }

    fn response(
        self: &Rc<Self>,
        head: Result<Option<Head>, ReadError>,
    ) -> Result<Response<Incoming>, Error> {
        let Some((head, length)) = head? else {
            return Err(ErrorKind::Closed.into());
        };
        let (mut parts, said) = head::response(&head).map_err(|kind| ReadError::of(kind, true))?;
        if said.unfit {
            unfit::note(&mut parts);
        }
        if !said.persists(parts.version) || length == BodyLength::Close {
            self.is_spent.set(true);
        }
        let body = if length.known() == Some(0) && self.request.borrow().is_none() {
            Incoming::empty()
        } else {
            Incoming::from(ResponseIncoming {
                io: Rc::clone(self),
                length: length.known(),
            })
        };
        Ok(Response::from_parts(parts, body))
    }

    fn has_written(&self) -> bool {
        self.out.borrow().written() != self.begun_at.get()
    }

    /// Writes what is left of the request. A peer that takes no more may still answer, so a broken
    /// socket is an error only if nothing was written.
    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransferError>> {
        if self.is_write_broken.get() {
            return Poll::Pending;
        }
        let mut request = self.request.borrow_mut();
        let Some(transfer) = &mut *request else {
            return Poll::Ready(Ok(()));
        };
        let wrote = std::task::ready!(transfer.poll(&self.out, &self.stream, cx));
        match wrote {
            Ok(()) => {
                *request = None;
                Poll::Ready(Ok(()))
            }
            Err(TransferError::Io(_)) if self.has_written() => {
                self.is_spent.set(true);
                self.is_write_broken.set(true);
                Poll::Pending
            }
            Err(error) => {
                self.is_spent.set(true);
                Poll::Ready(Err(error))
            }
        }
    }

    /// The request is handed back if nothing of it was written or taken from its body.
    fn unsent(&self, error: TransferError, parts: Option<Parts>) -> Box<Unsent> {
        let transfer = self.request.borrow_mut().take();
        let body = transfer.and_then(Transfer::untouched);
        let request = parts
            .zip(body)
            .map(|(parts, body)| Request::from_parts(parts, body));
        Box::new(Unsent {
            error: error.into(),
            request,
        })
    }
}

/// The body of a response, read from the connection when it is asked for.
#[derive(Debug)]
pub(in crate::http) struct ResponseIncoming {
    io: Rc<ClientIo>,
    /// If it was said before.
    length: Option<u64>,
}

impl ResponseIncoming {
    pub(in crate::http) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let io = &*self.io;
        // The request may be longer than the wait for its answer.
        if let Poll::Ready(Err(error)) = io.poll_write(cx) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let mut reader = io.reader.borrow_mut();
        let frame = std::task::ready!(reader.poll_frame(&mut io.stream.borrow_mut(), cx));
        Poll::Ready(match frame {
            Ok(frame) => frame.map(Ok),
            Err(error) => {
                io.is_spent.set(true);
                Some(Err(error.into()))
            }
        })
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        self.io.reader.borrow().is_end()
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
