//! A connection on which a host is asked over HTTP, kept from one question to the next.

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Body;
use tokio::task::AbortHandle;

use super::Peer;
use crate::config::cluster::Http2Options;
use crate::config::limits;
use crate::http::codec;
use crate::http::codec::Http1Sender;
use crate::http::codec::Http2Sender;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::upstream::health::session::Failure;

/// An open connection.
#[derive(Debug)]
pub(super) enum Client {
    Http1(Http1Sender),
    Http2 {
        sender: Http2Sender,
        _driven: Driven,
    },
}

/// The task that moves the bytes of an HTTP/2 connection; ends with it.
#[derive(Debug)]
pub(super) struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    pub(super) async fn connect(peer: &Peer, is_http2: bool) -> Result<Self, Failure> {
        if !is_http2 {
            let stream = peer.connect(&[b"http/1.1"]).await?;
            return Ok(Self::Http1(Http1Sender::new(stream, limits::BUFFER_BYTES)));
        }
        let stream = peer.connect(&[b"h2"]).await?;
        let made = codec::connect_http2(stream, &Http2Options::default()).await;
        let (sender, _, connection) = made.map_err(|_| Failure::Network)?;
        let task = tokio::task::spawn_local(async move {
            let _ = connection.await; // what failed is told by the answer
        });
        let driven = Driven(task.abort_handle());
        Ok(Self::Http2 {
            sender,
            _driven: driven,
        })
    }

    /// Another question can be put on it.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2 { sender, .. } => !sender.is_closed(),
        }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failure> {
        let sent = match self {
            Self::Http1(sender) => sender.send(request, None).await,
            Self::Http2 { sender, .. } => sender.send(request).await,
        };
        sent.map_err(|_| Failure::Network)
    }
}

/// Reads a body to its end; the first `bytes_max` of it are kept.
pub(super) async fn read(
    mut body: Incoming,
    bytes_max: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>), Failure> {
    let (mut kept, mut trailers) = (Vec::new(), None);
    let mut body = std::pin::pin!(&mut body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Failure::Network)?;
        match frame.into_data() {
            Ok(data) => keep(&mut kept, &data, bytes_max),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((kept, trailers))
}

fn keep(kept: &mut Vec<u8>, data: &Bytes, bytes_max: usize) {
    let room = bytes_max.saturating_sub(kept.len());
    kept.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
}
