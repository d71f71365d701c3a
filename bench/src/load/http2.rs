//! One HTTP/2 connection whose sender is shared by the workers of its streams: plain requests, gRPC
//! calls with one message each way, and gRPC streams that pass messages to and fro.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::LoadError;
use super::request::Http2Request;
use super::worker::Answer;
use crate::grpc::MessageCounter;
use crate::wire::{Transport, Wire};

/// Windows wide enough that flow control never stalls a measured body.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Sends requests on a shared connection.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    inner: SendRequest<Outgoing>,
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    /// One message at a time, as somebody sends them; ends with the sender.
    Messages(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Messages(messages) => messages
                .poll_recv(cx)
                .map(|message| message.map(|message| Ok(Frame::data(message)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Messages(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Messages(_) => SizeHint::default(),
        }
    }
}

impl Sender {
    /// Connects; the task that drives the connection joins `tasks`.
    pub(super) async fn open(
        target: SocketAddr,
        transport: &Transport,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, LoadError> {
        let refused = |reason: String| LoadError::Connect { target, reason };
        let stream = Wire::connect(target, transport)
            .await
            .map_err(|error| refused(error.to_string()))?;
        let (inner, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| refused(error.to_string()))?;
        // Its error reaches the workers as failed requests.
        tasks.spawn(async move { drop(connection.await) });
        Ok(Self { inner })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &Http2Request) -> io::Result<Answer> {
        let mut response = self.send(request, request.whole_body()).await?;
        let mut body_bytes = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(io::Error::other)?;
            body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(Answer {
            status: response.status().as_u16(),
            body_bytes,
            close: false,
        })
    }

    /// One gRPC call with one message each way.
    pub(super) async fn call(&mut self, request: &Http2Request) -> io::Result<Answer> {
        let response = self.send(request, request.whole_body()).await?;
        let mut replies = Replies::new(response);
        replies.next().await?;
        replies.end().await?;
        Ok(replies.answer())
    }

    /// Opens a gRPC stream; `first` is on its way before the answer's head is awaited, because a
    /// proxy may hold the head back until there is something to answer.
    pub(super) async fn open_stream(
        &mut self,
        request: &Http2Request,
        first: Bytes,
    ) -> io::Result<MessageStream> {
        let (messages, queue) = mpsc::channel(1);
        messages.try_send(first).map_err(io::Error::other)?;
        let response = self.send(request, Outgoing::Messages(queue)).await?;
        Ok(MessageStream {
            messages,
            replies: Replies::new(response),
        })
    }

    /// Whether a request failed because the other side had said before that it goes: it did not look at
    /// the request (RFC 9113 section 6.8).
    pub(super) fn is_goodbye(error: &io::Error) -> bool {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        inner.is_some_and(|error: &hyper::Error| {
            let text = format!("{error:?}");
            error.is_canceled()
                || error.is_closed()
                || (text.contains("GoAway") && text.contains("NO_ERROR"))
        })
    }

    async fn send(
        &mut self,
        request: &Http2Request,
        body: Outgoing,
    ) -> io::Result<Response<Incoming>> {
        self.inner.ready().await.map_err(io::Error::other)?;
        let sent = self.inner.send_request(request.build(body)).await;
        sent.map_err(io::Error::other)
    }
}

/// A gRPC stream in the midst of its messages.
#[derive(Debug)]
pub(super) struct MessageStream {
    messages: mpsc::Sender<Bytes>,
    replies: Replies,
}

impl MessageStream {
    pub(super) async fn send(&self, message: Bytes) -> io::Result<()> {
        self.messages.send(message).await.map_err(io::Error::other)
    }

    /// Waits for the next message of the other side.
    pub(super) async fn receive(&mut self) -> io::Result<Answer> {
        let before = self.replies.body_bytes;
        self.replies.next().await?;
        Ok(Answer {
            body_bytes: self.replies.body_bytes - before,
            ..self.replies.answer()
        })
    }

    /// Ends our side and waits for the trailers.
    pub(super) async fn end(mut self) -> io::Result<()> {
        drop(self.messages);
        self.replies.end().await
    }
}

/// The messages that come back.
#[derive(Debug)]
struct Replies {
    response: Response<Incoming>,
    counter: MessageCounter,
    /// Whole messages read and not yet asked for.
    waiting: usize,
    body_bytes: u64,
}

impl Replies {
    fn new(response: Response<Incoming>) -> Self {
        Self {
            response,
            counter: MessageCounter::default(),
            waiting: 0,
            body_bytes: 0,
        }
    }

    fn answer(&self) -> Answer {
        Answer {
            status: self.response.status().as_u16(),
            body_bytes: self.body_bytes,
            close: false,
        }
    }

    async fn next(&mut self) -> io::Result<()> {
        while self.waiting == 0 {
            let Some(frame) = self.response.body_mut().frame().await else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.take(frame)?;
        }
        self.waiting -= 1;
        Ok(())
    }

    /// Reads to the trailers, which must say that all is well.
    async fn end(&mut self) -> io::Result<()> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Some(trailers) = self.take(frame)? {
                return self.counter.end(Some(&trailers)).map_err(io::Error::other);
            }
        }
        // An answer without a message carries its status in the head.
        let head = self.response.headers();
        self.counter.end(Some(head)).map_err(io::Error::other)
    }

    fn take(&mut self, frame: hyper::Result<Frame<Bytes>>) -> io::Result<Option<http::HeaderMap>> {
        match frame.map_err(io::Error::other)?.into_data() {
            Ok(data) => {
                self.waiting += self.counter.consume(&data).map_err(io::Error::other)?;
                self.body_bytes += data.len() as u64;
                Ok(None)
            }
            Err(frame) => Ok(frame.into_trailers().ok()),
        }
    }
}
