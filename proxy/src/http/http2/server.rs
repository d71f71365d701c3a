//! A downstream connection, and what answers one stream of it.

use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server;
use h2::server::SendResponse;
use http::HeaderMap;
use http::HeaderName;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::DATE;
use http::header::TRANSFER_ENCODING;
use http::header::UPGRADE;
use http_body::Body;

use crate::config::limits;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::Incoming;
use crate::http::codec::ServerIo;
use crate::http::codec::ServerOptions;
use crate::http::codec::Switch;
use crate::http::date;
use crate::http::headers::lookup;
use crate::http::http2::extended::from_client;
use crate::http::http2::incoming::Http2Incoming;
use crate::http::http2::keepalive::Keepalive;
use crate::http::http2::pump::Pump;

/// A connection that serves each stream as a task; it ends when the peer is gone, or once it was
/// asked to and its streams have ended.
pub(in crate::http) struct Serving<F> {
    state: State,
    service: Rc<F>,
    options: ServerOptions,
    is_shutting_down: bool,
}

enum State {
    Handshake(server::Handshake<ServerIo, Bytes>),
    Open(server::Connection<ServerIo, Bytes>, Keepalive),
}

impl<F, Fut, B> Serving<F>
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<B>> + 'static,
    B: Held + Switch + Unpin + 'static,
{
    /// Begins with the preface, which may still be in `io`.
    pub(in crate::http) fn new(io: ServerIo, options: &ServerOptions, service: F) -> Self {
        Self {
            state: State::Handshake(builder(options).handshake(io)),
            service: Rc::new(service),
            options: *options,
            is_shutting_down: false,
        }
    }

    /// Says GOAWAY and takes nothing new; streams that run finish.
    pub(in crate::http) fn shut_down(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.is_shutting_down = true;
        if let State::Open(connection, _) = &mut this.state {
            connection.graceful_shutdown();
        }
    }

    /// Says GOAWAY to a client whose connection is dropped now, as far as the socket takes it.
    pub(in crate::http) fn leave(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        if let State::Open(connection, _) = &mut self.get_mut().state {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            let _ = connection.poll_closed(cx); // it goes either way
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let State::Handshake(handshake) = &mut self.state {
            let mut connection = std::task::ready!(Pin::new(handshake).poll(cx))?;
            let keepalive = Keepalive::new(&self.options.http2, || connection.ping_pong());
            if self.is_shutting_down {
                connection.graceful_shutdown();
            }
            self.state = State::Open(connection, keepalive);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        std::task::ready!(self.poll_open(cx))?;
        let State::Open(connection, keepalive) = &mut self.state else {
            return Poll::Pending; // it was just opened
        };
        while let Poll::Ready(accepted) = connection.poll_accept(cx) {
            let Some(accepted) = accepted else {
                return Poll::Ready(Ok(()));
            };
            let (request, respond) = accepted?;
            let service = Rc::clone(&self.service);
            // Boxed: a task is moved when it is made and written over when it ends, a box is not.
            tokio::task::spawn_local(Box::pin(serve_stream(service, request, respond)));
        }
        keepalive
            .poll_gone(cx)
            .map(|()| Err(ErrorKind::Timeout.into()))
    }
}

impl<F, Fut, B> Future for Serving<F>
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<B>> + 'static,
    B: Held + Switch + Unpin + 'static,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_accept(cx)
    }
}

/// Answers one request. It ends early when the client resets the stream.
async fn serve_stream<F, Fut, B>(
    service: Rc<F>,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Held + Switch + Unpin,
{
    let (request, extended) = take(request);
    let response = {
        let mut making = pin!(service(request));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = making.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            respond.poll_reset(cx).map(|_| None)
        })
        .await
    };
    let Some(response) = response else { return };
    let sent = match extended {
        Some(extended) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Box::pin(from_client::switch(&mut respond, response, *extended)).await
        }
        Some(_) | None => send(&mut respond, response).await,
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a stream ended early");
    }
}

/// The stream of an extended CONNECT, if it is one. Boxed, as it is rare.
type Extended = Option<Box<h2::RecvStream>>;

/// Not a part of its caller, whose future would have room for all of it.
fn take(request: Request<h2::RecvStream>) -> (Request<Incoming>, Extended) {
    let (mut parts, stream) = request.into_parts();
    if from_client::take(&mut parts) {
        let request = Request::from_parts(parts, Incoming::empty());
        return (request, Some(Box::new(stream)));
    }
    let body = Http2Incoming::new(stream, &parts.headers, None).into();
    (Request::from_parts(parts, body), None)
}

async fn send<B>(respond: &mut SendResponse<Bytes>, response: Response<B>) -> Result<(), Error>
where
    B: Held,
{
    let (mut parts, body) = response.into_parts();
    if body.is_given_up() {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    complete(&mut parts.headers, &body);
    let is_end = body.is_end_stream();
    let head = Response::from_parts(parts, ());
    let stream = match respond.send_response(head, is_end) {
        Ok(stream) => stream,
        Err(error) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Err(error.into());
        }
    };
    if is_end {
        return Ok(()); // the exchange ends with its body, which is dropped here
    }
    let mut pump = Pump::new(stream, body);
    std::future::poll_fn(|cx| pump.poll(cx)).await
}

/// Takes away what HTTP/2 has no place for, and adds the date and the length if it is known.
pub(super) fn complete<B: Body>(headers: &mut HeaderMap, body: &B) {
    remove_connection_fields(headers);
    if !lookup::has(headers, &DATE) {
        headers.insert(DATE, date::value());
    }
    if !body.is_end_stream()
        && !lookup::has(headers, &CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// Only edits of a route can have put them there (RFC 9113 section 8.2.2).
fn remove_connection_fields(headers: &mut HeaderMap) {
    static FIELDS: [HeaderName; 5] = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let is_one = |name: &HeaderName| FIELDS.contains(name);
    if headers.keys().any(is_one) {
        for field in &FIELDS {
            headers.remove(field);
        }
    }
}

fn builder(options: &ServerOptions) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(options.http2.max_concurrent_streams)
        .initial_window_size(options.http2.initial_stream_window)
        .initial_connection_window_size(options.http2.initial_connection_window)
        .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER)
        .max_local_error_reset_streams(Some(limits::HTTP2_LOCAL_RESETS_MAX))
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS_MAX);
    if options.http2.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}
