//! A server that is asked for another protocol by an extended CONNECT, if it has said that it knows of such; a
//! 200 is told as 101.

use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use h2::RecvStream;
use h2::SendStream;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::header::SEC_WEBSOCKET_KEY;
use http::header::UPGRADE;
use http::request::Parts;

use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::http::headers;
use crate::http::http2::client::unsent;
use crate::http::http2::extended::stream::Http2Stream;
use crate::http::http2::incoming::Http2Incoming;
use crate::http::http2::settings::Settings;

/// Sends a request that asks for an upgrade, and waits for the head of the answer. A server that has not
/// announced the setting is asked nothing (RFC 8441 section 3): Envoy asks, and is told of a protocol error.
pub(in crate::http::http2) async fn ask(
    mut sender: SendRequest<Bytes>,
    settings: Rc<Settings>,
    request: Request<RequestBody>,
) -> Sent {
    settings.have_come().await;
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(Err(error)) = sender.poll_ready(&mut cx) {
        return Err(unsent(error.into(), Some(request)));
    }
    if !sender.is_extended_connect_protocol_enabled() {
        return Err(unsent(ErrorKind::Protocol.into(), None));
    }
    let (mut parts, _) = request.into_parts(); // there is no body
    let Some(asked) = Asked::take(&mut parts) else {
        return Err(unsent(ErrorKind::Protocol.into(), None));
    };
    let failed = |error: h2::Error| unsent(Error::from(error), None);
    let sent = sender.send_request(Request::from_parts(parts, ()), false);
    let (response, outgoing) = sent.map_err(failed)?;
    let response = response.await.map_err(failed)?;
    Ok(asked.answered(response, outgoing))
}

/// What was asked for, as HTTP/1.1 has it.
struct Asked {
    kind: HeaderValue,
    /// What accepts the client's key, of a WebSocket.
    accept: Option<HeaderValue>,
}

impl Asked {
    /// Brings the request into the form of an extended CONNECT; none if it asks for nothing.
    fn take(parts: &mut Parts) -> Option<Self> {
        parts.headers.remove(CONNECTION);
        let kind = parts.headers.remove(UPGRADE)?;
        let protocol = kind.to_str().ok()?;
        parts.method = Method::CONNECT;
        parts.extensions.insert(Protocol::from(protocol));
        let key = parts.headers.get(SEC_WEBSOCKET_KEY);
        let key = key.filter(|_| protocol.eq_ignore_ascii_case(headers::WEBSOCKET));
        Some(Self {
            accept: key.map(headers::websocket_accept),
            kind,
        })
    }

    /// The client's key was not looked at, unless the server says so: who asked for it has said already that it
    /// speaks the protocol.
    fn answered(
        self,
        response: Response<RecvStream>,
        outgoing: SendStream<Bytes>,
    ) -> Response<Incoming> {
        let (mut parts, incoming) = response.into_parts();
        if parts.status != StatusCode::OK {
            let body = Http2Incoming::new(incoming, &parts.headers, None);
            return Response::from_parts(parts, body.into());
        }
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(UPGRADE, self.kind);
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(CONNECTION, upgrade);
        if let Some(accept) = self.accept
            && !parts.headers.contains_key(SEC_WEBSOCKET_ACCEPT)
        {
            parts.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let stream = Http2Stream::new(outgoing, incoming);
        Response::from_parts(parts, Incoming::from(stream))
    }
}
