//! An upstream connection: its handshake, and the sender that puts requests on it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use h2::client;
use http::Request;
use http::Response;
use http_body::Body;
use tokio::task::AbortHandle;

use crate::config::cluster::Http2Options;
use crate::config::limits;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::http::codec::Unsent;
use crate::http::http2::extended::to_server;
use crate::http::http2::incoming::Http2Incoming;
use crate::http::http2::keepalive::Keepalive;
use crate::http::http2::pump::Pump;
use crate::http::http2::settings;
use crate::http::http2::settings::Settings;
use crate::net::NetStream;

/// Puts requests on an HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Http2Sender(RefCell<client::SendRequest<Bytes>>);

impl Http2Sender {
    /// Whether the connection is gone, or going: it broke, or the peer said GOAWAY.
    pub fn is_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = self.0.borrow_mut().poll_ready(&mut cx);
        matches!(ready, Poll::Ready(Err(_)))
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// The stream or its connection failed; see [`Unsent`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; others go on.
    pub fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        let mut sending = self.begin(request).map_err(Some);
        std::future::poll_fn(move |cx| match &mut sending {
            Ok(sending) => sending.poll(cx),
            // It is there until it was returned, after which nobody polls.
            Err(unsent) => unsent
                .take()
                .map_or(Poll::Pending, |unsent| Poll::Ready(Err(unsent))),
        })
    }

    /// Sends a request that asks to go on as another protocol, which the peer must have announced to know of,
    /// and waits for the head of the answer: a 101 if it agrees.
    ///
    /// # Errors
    /// The peer cannot, or the stream or its connection failed; see [`Unsent`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; others go on.
    pub fn extend(
        &mut self,
        settings: &Rc<Settings>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        to_server::ask(self.0.get_mut().clone(), Rc::clone(settings), request)
    }

    fn begin(&mut self, request: Request<RequestBody>) -> Result<Sending, Box<Unsent>> {
        let sender = self.0.get_mut();
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = sender.poll_ready(&mut cx) {
            return Err(unsent(error.into(), Some(request)));
        }
        let (parts, body) = request.into_parts();
        let is_end = body.is_end_stream();
        let sent = sender.send_request(Request::from_parts(parts, ()), is_end);
        let (response, stream) = sent.map_err(|error| unsent(error.into(), None))?;
        let request = (!is_end).then(|| Pump::new(stream, body));
        Ok(Sending {
            response,
            request,
            upload: None,
        })
    }
}

pub(super) fn unsent(error: Error, request: Option<Request<RequestBody>>) -> Box<Unsent> {
    Box::new(Unsent { error, request })
}

/// A request of which at least the head is on its way, until the head of its answer came.
#[derive(Debug)]
struct Sending {
    response: client::ResponseFuture,
    /// The body, until it was looked at once.
    request: Option<Pump<RequestBody>>,
    /// The task that sends what was not there at once.
    upload: Option<Upload>,
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        if let Some(mut pump) = self.request.take()
            && pump.poll(cx).is_pending()
        {
            self.upload = Some(Upload::spawn(pump));
        }
        // A peer that takes no more of the request may still answer, so what became of the pump is
        // told by the response alone.
        let response = std::task::ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(match response {
            Ok(response) => Ok(self.answered(response)),
            Err(error) => Err(unsent(error.into(), None)), // the peer may have seen it
        })
    }

    fn answered(&mut self, response: Response<h2::RecvStream>) -> Response<Incoming> {
        let (parts, stream) = response.into_parts();
        let upload = self.upload.take();
        let body = Http2Incoming::new(stream, &parts.headers, upload);
        Response::from_parts(parts, Incoming::from(body))
    }
}

/// A request body that is sent by a task of its own: it must go on while nobody reads the response.
/// Dropping it ends the task and resets the stream.
#[derive(Debug)]
pub(super) struct Upload(AbortHandle);

impl Upload {
    fn spawn(mut pump: Pump<RequestBody>) -> Self {
        let task = tokio::task::spawn_local(async move {
            // What failed is told by the response, and by the body to its own exchange.
            let _ = std::future::poll_fn(|cx| pump.poll(cx)).await;
        });
        Self(task.abort_handle())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts HTTP/2 with prior knowledge; the returned future is the connection and must be polled to
/// its end.
///
/// # Errors
/// The connection failed.
pub async fn connect_http2(
    stream: NetStream,
    options: &Http2Options,
) -> Result<
    (
        Http2Sender,
        Rc<Settings>,
        impl Future<Output = Result<(), Error>> + use<>,
    ),
    Error,
> {
    let headers_max = u32::try_from(limits::REQUEST_HEADERS_BYTES_MAX).unwrap_or(u32::MAX);
    let (sender, mut connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .initial_max_send_streams(settings::STREAMS_UNTOLD)
        .max_header_list_size(headers_max)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER)
        .handshake::<_, Bytes>(stream)
        .await?;
    let settings = Rc::<Settings>::default();
    let mut herald = Some(settings::Herald(Rc::clone(&settings)));
    let mut keepalive = Keepalive::new(options, || connection.ping_pong());
    let driven = std::future::poll_fn(move |cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.map_err(Error::from));
        }
        herald.take_if(|_| connection.max_concurrent_send_streams() != settings::STREAMS_UNTOLD);
        keepalive
            .poll_gone(cx)
            .map(|()| Err(ErrorKind::Timeout.into()))
    });
    Ok((Http2Sender(RefCell::new(sender)), settings, driven))
}
