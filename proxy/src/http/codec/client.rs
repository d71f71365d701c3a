//! An upstream HTTP/2 connection: its handshake, and the sender that puts requests on it.

use std::future::Future;

use http::Request;
use http::Response;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;

use crate::config::cluster::Http2Options;
use crate::config::limits;
use crate::http::codec::Error;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::codec::server::LocalExecutor;
use crate::net::NetStream;

/// A request that failed; it is handed back if nothing of it was written.
#[derive(Debug)]
pub struct Unsent {
    /// What happened.
    pub error: Error,
    /// The request, if the peer cannot have seen it.
    pub request: Option<Request<RequestBody>>,
}

/// Puts requests on an HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Http2Sender(http2::SendRequest<RequestBody>);

impl Http2Sender {
    /// Whether the connection is gone, or going.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// The stream or its connection failed; see [`Unsent`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; others go on.
    pub fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        let sent = self.0.try_send_request(request);
        async { finish(sent.await) }
    }
}

/// The head of the response, or what became of the request.
pub type Sent = Result<Response<Incoming>, Box<Unsent>>;

fn finish(
    result: Result<
        Response<hyper::body::Incoming>,
        hyper::client::conn::TrySendError<Request<RequestBody>>,
    >,
) -> Sent {
    result
        .map(|response| response.map(Incoming::from))
        .map_err(|error| Box::new(error.into()))
}

impl From<hyper::client::conn::TrySendError<Request<RequestBody>>> for Unsent {
    fn from(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>) -> Self {
        let request = error.take_message();
        Self {
            error: error.into_error().into(),
            request,
        }
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
) -> Result<(Http2Sender, impl Future<Output = Result<(), Error>> + use<>), Error> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_header_list_size(u32::try_from(limits::REQUEST_HEADERS_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((Http2Sender(sender), async {
        connection.await.map_err(Error::from)
    }))
}
