//! Answers made here: errors, direct responses, redirects.
//!
//! A gRPC client gets status 200 and a `grpc-status`, because it would not look at anything else
//! (the mapping is that of the gRPC documentation, http-grpc-status-mapping).

use std::fmt::Write;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header::CONTENT_LENGTH;
use http::header::CONTENT_TYPE;
use http::header::LOCATION;
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::config::route::Redirect;
use crate::error::Telling;
use crate::http::path::PATH_NORMALIZATION_FAILED;
use crate::http::router;
use crate::http::router::Match;
use crate::http::router::RequestView;
use crate::upstream::ClusterHandle;

/// An answer made here.
#[derive(Debug)]
pub struct LocalReply {
    /// Head and whole body.
    pub response: Response<Bytes>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
}

/// A route's direct response.
pub fn direct(status: StatusCode, body: &Bytes, is_grpc: bool) -> LocalReply {
    LocalReply {
        response: answer(status, body.clone(), is_grpc),
        details: "direct_response",
    }
}

/// A route's redirect; `None` if its location cannot stand in a header.
pub fn redirect(
    found: &Match<'_, ClusterHandle>,
    redirect: &Redirect,
    parts: &Parts,
    (authority, scheme, is_grpc): (&str, &str, bool),
) -> Option<LocalReply> {
    let view = RequestView {
        method: &parts.method,
        scheme,
        authority,
        path_and_query: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        headers: &parts.headers,
        tls: None,
    };
    let mut response = answer(redirect.status, Bytes::new(), is_grpc);
    response
        .headers_mut()
        .insert(LOCATION, router::location(found, redirect, &view)?);
    Some(LocalReply {
        response,
        details: "direct_response",
    })
}

/// Sends the client to the canonical form of the path it asked for.
pub fn to_canonical_path(uri: &Uri) -> LocalReply {
    let mut response = answer(StatusCode::TEMPORARY_REDIRECT, Bytes::new(), false);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    // A path that was parsed holds nothing a header may not.
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    LocalReply {
        response,
        details: PATH_NORMALIZATION_FAILED,
    }
}

/// The answer to a failed exchange.
pub fn error(status: StatusCode, telling: &Telling, body: Bytes, is_grpc: bool) -> LocalReply {
    LocalReply {
        response: answer(status, body, is_grpc),
        details: telling.details,
    }
}

/// The end of an answer in gRPC that had begun already.
pub fn grpc_trailers(telling: &Telling) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let status = HeaderValue::from_static(grpc_status(telling.status));
    trailers.insert("grpc-status", status);
    trailers.insert("grpc-message", grpc_message(telling.text.as_bytes()));
    trailers
}

fn answer(status: StatusCode, body: Bytes, is_grpc: bool) -> Response<Bytes> {
    if is_grpc {
        grpc(status, &body)
    } else {
        text(status, body)
    }
}

fn text(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let has_body = !response.body().is_empty();
    let headers = response.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if has_body || !(status.is_informational() || status == StatusCode::NO_CONTENT) {
        headers.insert(CONTENT_LENGTH, length);
    }
    response
}

fn grpc(status: StatusCode, message: &[u8]) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(grpc_status(status)));
    if !message.is_empty() {
        headers.insert("grpc-message", grpc_message(message));
    }
    response
}

/// Percent-encoded as the gRPC protocol over HTTP/2 says (`Status-Message`).
fn grpc_message(message: &[u8]) -> HeaderValue {
    let mut encoded = String::with_capacity(message.len());
    for byte in message {
        match byte {
            b'%' | ..=0x1f | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            _ => encoded.push(char::from(*byte)),
        }
    }
    HeaderValue::try_from(encoded).expect("only printable ASCII is left")
}

fn grpc_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "13",
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND => "12",
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => "14",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::direct;

    #[test]
    fn a_grpc_client_gets_a_direct_response_as_its_status() {
        let body = Bytes::from_static("50 % \u{e9}\n".as_bytes());
        let reply = direct(StatusCode::SERVICE_UNAVAILABLE, &body, true).response;
        assert_eq!(reply.status(), StatusCode::OK);
        assert!(reply.body().is_empty());
        assert_eq!(reply.headers()["grpc-status"], "14");
        assert_eq!(reply.headers()["grpc-message"], "50 %25 %C3%A9%0A");
        let reply = direct(StatusCode::SERVICE_UNAVAILABLE, &body, false).response;
        assert_eq!(
            (reply.status(), reply.body()),
            (StatusCode::SERVICE_UNAVAILABLE, &body)
        );
    }
}
