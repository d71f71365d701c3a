//! A body as it arrives on a stream.

use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use h2::FlowControl;
use h2::Reason;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use http_body::SizeHint;

use crate::http::codec::Error;
use crate::http::headers::lookup;
use crate::http::http2::client::Upload;
use crate::overload::held::Unread;

/// The body of a request or of a response.
///
/// The peer's window opens by what was taken: whoever reads slowly holds the peer back.
#[derive(Debug)]
pub(in crate::http) struct Http2Incoming {
    stream: RecvStream,
    /// What the head said; h2 refuses a body that is longer or shorter (RFC 9113 section 8.1.1).
    length: Option<u64>,
    has_trailers_left: bool,
    /// Asked once after each frame, because asking takes the connection's lock.
    is_end: bool,
    /// The request this answers, while it is still sent.
    _upload: Option<Upload>,
}

impl Http2Incoming {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, upload: Option<Upload>) -> Self {
        let length = lookup::first(headers, &CONTENT_LENGTH);
        Self {
            is_end: stream.is_end_stream(),
            stream,
            length: length.and_then(|value| value.to_str().ok()?.parse().ok()),
            has_trailers_left: false,
            _upload: upload,
        }
    }

    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_end {
            return Poll::Ready(None);
        }
        if !self.has_trailers_left {
            match std::task::ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(self.take(data))),
                Some(Err(error)) => return Poll::Ready(self.failed(error)),
                None => self.has_trailers_left = true,
            }
        }
        let trailers = std::task::ready!(self.stream.poll_trailers(cx));
        self.is_end = true;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => self.failed(error),
        })
    }

    fn take(&mut self, data: Bytes) -> Result<Frame<Bytes>, Error> {
        self.stream.flow_control().release_capacity(data.len())?;
        self.is_end = self.stream.is_end_stream();
        Ok(Frame::data(data))
    }

    /// A peer that resets with NO_ERROR wants no more of the other direction (RFC 9113 section 8.1).
    fn failed(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, Error>> {
        self.is_end = true;
        if error.reason() == Some(Reason::NO_ERROR) && !error.is_go_away() {
            return None;
        }
        Some(Err(error.into()))
    }

    /// What came and was not taken; it keeps no stream open that its exchange does not.
    pub(in crate::http) fn unread(&mut self) -> Box<dyn Unread> {
        Box::new(Window(self.stream.flow_control().clone()))
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        self.is_end
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// The window of a stream: what of it is used came, and was not taken.
#[derive(Debug)]
struct Window(FlowControl);

impl Unread for Window {
    fn bytes(&self) -> usize {
        self.0.used_capacity()
    }
}
