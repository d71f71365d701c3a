//! The answer to a gRPC call of any kind: a message for each message, then status 0.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::grpc::MessageCounter;

/// INTERNAL, for a call that is not framed as it should be.
const STATUS_INTERNAL: &str = "13";

/// The body of an HTTP/2 answer.
#[derive(Debug)]
pub(super) enum OriginBody {
    Whole(Full<Bytes>),
    Echoes(Echoes),
}

/// Answers messages as they come.
#[derive(Debug)]
pub(super) struct Echoes {
    call: Incoming,
    counter: MessageCounter,
    reply: Bytes,
    ended: bool,
}

impl Echoes {
    pub(super) fn new(call: Incoming, reply: Bytes) -> Self {
        Self {
            call,
            counter: MessageCounter::default(),
            reply,
            ended: false,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        while !self.ended {
            let Some(frame) = std::task::ready!(Pin::new(&mut self.call).poll_frame(cx)) else {
                return Poll::Ready(Some(self.end("0")));
            };
            // Trailers of a client carry nothing here.
            let Some(data) = frame.ok().map(Frame::into_data) else {
                return Poll::Ready(Some(self.end(STATUS_INTERNAL)));
            };
            match data.map(|data| self.counter.consume(&data)) {
                Err(_) | Ok(Ok(0)) => {}
                Ok(Ok(1)) => return Poll::Ready(Some(Frame::data(self.reply.clone()))),
                Ok(Ok(several)) => {
                    return Poll::Ready(Some(Frame::data(self.reply.repeat(several).into())));
                }
                Ok(Err(_)) => return Poll::Ready(Some(self.end(STATUS_INTERNAL))),
            }
        }
        Poll::Ready(None)
    }

    fn end(&mut self, status: &'static str) -> Frame<Bytes> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        Frame::trailers(trailers)
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Echoes(echoes) => echoes.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Echoes(echoes) => echoes.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Echoes(_) => SizeHint::default(),
        }
    }
}
