//! Heads as they are written.
//!
//! What belongs to the connection and not to the message, framing and `Connection`, is written here
//! and nowhere else.

use http::HeaderMap;
use http::HeaderName;
use http::Method;
use http::StatusCode;
use http::Uri;
use http::Version;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::DATE;
use http::header::TRANSFER_ENCODING;
use http_body::Body;

use crate::http::date;
use crate::http::http1::decode::BodyLength;

/// A head is written into this much room without growing it, usually.
const HEAD_BYTES: usize = 1024;

/// Trailers that would change what was already acted on: framing, routing, authentication, control of
/// the connection (RFC 9110 section 6.5.1).
const FORBIDDEN_TRAILERS: [&str; 19] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The head of a request. Its framing fields are those in `headers`; returns what they say.
pub(super) fn request(
    out: &mut Vec<u8>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> BodyLength {
    out.reserve(HEAD_BYTES);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    target(out, method, uri);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, headers, |_| true);
    out.extend_from_slice(b"\r\n");
    if headers.contains_key(TRANSFER_ENCODING) {
        return BodyLength::Chunked;
    }
    BodyLength::Known(content_length(headers).unwrap_or(0))
}

fn target(out: &mut Vec<u8>, method: &Method, uri: &Uri) {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().filter(|_| method == Method::CONNECT);
    let target = authority.map_or(target, |authority| authority.as_str());
    out.extend_from_slice(target.as_bytes());
}

/// What the head of a response depends on besides the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseTo {
    /// The client's version.
    pub(super) version: Version,
    /// The request was HEAD: the response has no body, whatever its head says.
    pub(super) is_head: bool,
    /// The connection goes on after the response.
    pub(super) persists: bool,
}

/// The head of a response; returns how its body is framed.
pub(super) fn response<B: Body>(
    out: &mut Vec<u8>,
    to: ResponseTo,
    (status, headers): (StatusCode, &HeaderMap),
    body: &B,
) -> BodyLength {
    out.reserve(HEAD_BYTES);
    let is_http_10 = to.version == Version::HTTP_10;
    out.extend_from_slice(if is_http_10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let has_length = !(status.is_informational() || status == StatusCode::NO_CONTENT);
    fields(out, headers, |name| {
        !is_framing(name) && (has_length || name != CONTENT_LENGTH)
    });
    if !headers.contains_key(DATE) {
        date::append(out);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    let length = framing(out, (to, status, headers), body);
    match (to.persists, is_http_10) {
        (false, false) => out.extend_from_slice(b"connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (false, true) | (true, false) => {}
    }
    out.extend_from_slice(b"\r\n");
    length
}

/// Writes what says how long the body of a response is (RFC 9112 section 6).
fn framing<B: Body>(
    out: &mut Vec<u8>,
    (to, status, headers): (ResponseTo, StatusCode, &HeaderMap),
    body: &B,
) -> BodyLength {
    let has_none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none || (to.is_head && headers.contains_key(CONTENT_LENGTH)) {
        return BodyLength::Known(0);
    }
    if let Some(length) = content_length(headers) {
        return BodyLength::Known(length);
    }
    let known = if body.is_end_stream() {
        Some(0)
    } else {
        body.size_hint().exact()
    };
    match known {
        Some(0) if to.is_head => BodyLength::Known(0),
        Some(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
            BodyLength::Known(if to.is_head { 0 } else { length })
        }
        None if to.is_head => BodyLength::Known(0),
        None if to.version == Version::HTTP_10 => BodyLength::Close,
        None => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            BodyLength::Chunked
        }
    }
}

/// The size line of a chunk.
pub(super) fn chunk_size(out: &mut Vec<u8>, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = len >> (digit * 4) & 0xf;
        out.extend(DIGITS.get(nibble));
    }
    out.extend_from_slice(b"\r\n");
}

/// The last chunk with trailers, without those that may not be there.
pub(super) fn trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers, |name| {
        !FORBIDDEN_TRAILERS.contains(&name.as_str())
    });
    out.extend_from_slice(b"\r\n");
}

fn fields(out: &mut Vec<u8>, headers: &HeaderMap, is_written: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers {
        if is_written(name) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn is_framing(name: &HeaderName) -> bool {
    name == TRANSFER_ENCODING || name == CONNECTION
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
