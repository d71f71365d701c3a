//! Extended CONNECT (RFC 8441): a stream that goes on as another protocol, for which exchanges take it as a
//! request of HTTP/1.1 that asks for an upgrade; a 101 is told as 200.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::RecvStream;
use h2::SendStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::header::SEC_WEBSOCKET_KEY;
use http::header::UPGRADE;
use http::request::Parts;
use http_body::Body;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use super::server::complete;
use crate::http::codec::AsksUpgrade;
use crate::http::codec::Client;
use crate::http::codec::Error;
use crate::http::codec::Switch;

const WEBSOCKET: &str = "websocket";

/// A request by an extended CONNECT, in the form of one that asks for an upgrade.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extended {
    /// It has a key of ours, and the answer to that is nobody's business.
    has_our_key: bool,
}

impl Extended {
    /// None if the request is none.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        let protocol = parts.extensions.remove::<Protocol>()?;
        let kind = HeaderValue::from_str(protocol.as_str()).ok()?;
        parts.method = Method::GET;
        parts.extensions.insert(AsksUpgrade);
        let headers = &mut parts.headers;
        headers.insert(UPGRADE, kind);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let is_websocket = protocol.as_str().eq_ignore_ascii_case(WEBSOCKET);
        let has_our_key = is_websocket && !headers.contains_key(SEC_WEBSOCKET_KEY);
        if has_our_key {
            // Clients of HTTP/2 send none, and servers of HTTP/1.1 want one (RFC 6455 section 4.2.1).
            let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
            headers.extend(HeaderValue::from_str(&key).map(|key| (SEC_WEBSOCKET_KEY, key)));
        }
        Some(Self { has_our_key })
    }

    /// Says that the offer is taken, and goes on as what was offered, to the end.
    pub(super) async fn switch<B>(
        self,
        respond: &mut SendResponse<Bytes>,
        response: Response<B>,
        incoming: RecvStream,
    ) -> Result<(), Error>
    where
        B: Body<Data = Bytes, Error = Error> + Switch,
    {
        let (mut parts, mut body) = response.into_parts();
        parts.status = StatusCode::OK;
        parts.headers.remove(CONTENT_LENGTH);
        if self.has_our_key {
            parts.headers.remove::<HeaderName>(SEC_WEBSOCKET_ACCEPT);
        }
        complete(&mut parts.headers, &body);
        let outgoing = respond.send_response(Response::from_parts(parts, ()), false)?;
        let mut stream = Http2Stream {
            outgoing,
            incoming,
            unread: Bytes::new(),
            has_ended: false,
        };
        body.begin(Vec::new());
        let mut client = Client::Stream(&mut stream);
        std::future::poll_fn(|cx| body.poll_switched(&mut client, false, cx)).await;
        Ok(())
    }
}

/// Both directions of a stream as a stream of bytes. Dropped before both have ended, it is reset.
#[derive(Debug)]
pub struct Http2Stream {
    outgoing: SendStream<Bytes>,
    incoming: RecvStream,
    /// Received, and not read yet.
    unread: Bytes,
    /// We have said that no more comes.
    has_ended: bool,
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match std::task::ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => this.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread.split_to(len));
        // The client's window opens by what was read.
        let released = this.incoming.flow_control().release_capacity(len);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outgoing = &mut self.get_mut().outgoing;
        outgoing.reserve_capacity(buf.len());
        loop {
            let len = outgoing.capacity().min(buf.len());
            if let Some(bytes) = buf.get(..len).filter(|bytes| !bytes.is_empty()) {
                let sent = outgoing.send_data(Bytes::copy_from_slice(bytes), false);
                return Poll::Ready(sent.map(|()| len).map_err(io::Error::other));
            }
            match std::task::ready!(outgoing.poll_capacity(cx)) {
                Some(Ok(_)) => {} // zero when the window shrank meanwhile
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection sends what it has taken
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_ended, true) {
            let sent = this.outgoing.send_data(Bytes::new(), true);
            return Poll::Ready(sent.map_err(io::Error::other));
        }
        Poll::Ready(Ok(()))
    }
}
