//! What a programmed origin answers, and the body type that carries it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::pattern::Pattern;

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Time between the end of the request body and the answer.
    pub delay: Duration,
    /// Status of the answer.
    pub status: StatusCode,
    /// Header fields of the answer.
    pub headers: HeaderMap,
    /// Its body.
    pub content: ReplyContent,
    /// Fields after the body.
    pub trailers: Option<HeaderMap>,
}

/// The body of a [`Reply`].
#[derive(Clone, Debug)]
pub enum ReplyContent {
    /// What was received, as JSON.
    Echo,
    /// These bytes.
    Fixed(Bytes),
    /// So many bytes of the [`crate::pattern`], without a content length.
    Stream(u64),
}

impl Reply {
    /// Status 200 with a JSON description of the request.
    #[must_use]
    pub fn echo() -> Self {
        Self::status(StatusCode::OK).with_content(ReplyContent::Echo)
    }

    /// An empty answer with this status.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self {
            delay: Duration::ZERO,
            status,
            headers: HeaderMap::new(),
            content: ReplyContent::Fixed(Bytes::new()),
            trailers: None,
        }
    }

    /// Status 200 with this body.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self::status(StatusCode::OK).with_content(ReplyContent::Fixed(body.into()))
    }

    /// Status 200 with `bytes` bytes of the pattern.
    #[must_use]
    pub fn stream(bytes: u64) -> Self {
        Self::status(StatusCode::OK).with_content(ReplyContent::Stream(bytes))
    }

    /// The same with another body.
    #[must_use]
    pub fn with_content(self, content: ReplyContent) -> Self {
        Self { content, ..self }
    }

    /// The same after `delay`.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self
    }

    /// The same with one more trailer field.
    #[must_use]
    pub fn with_trailer(mut self, name: &'static str, value: &'static str) -> Self {
        let trailers = self.trailers.get_or_insert_default();
        trailers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self
    }
}

/// Fixed bytes, then the pattern, then trailers; each may be absent.
#[derive(Debug)]
pub(super) struct ReplyBody {
    fixed: Bytes,
    pattern: Option<Pattern>,
    trailers: Option<HeaderMap>,
}

impl ReplyBody {
    pub(super) fn new(content: ReplyContent, echo: Bytes, trailers: Option<HeaderMap>) -> Self {
        let (fixed, pattern) = match content {
            ReplyContent::Echo => (echo, None),
            ReplyContent::Fixed(bytes) => (bytes, None),
            ReplyContent::Stream(bytes) => (Bytes::new(), Some(Pattern::new(bytes))),
        };
        Self {
            fixed,
            pattern,
            trailers,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.fixed.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.fixed)))));
        }
        if let Some(chunk) = self.pattern.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|fields| Ok(Frame::trailers(fields))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.fixed.is_empty() && self.pattern.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.pattern, &self.trailers) {
            (None, None) => SizeHint::with_exact(self.fixed.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
