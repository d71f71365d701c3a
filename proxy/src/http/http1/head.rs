//! A head the decoder has passed, cut into fields.
//!
//! The decoder has checked the form, so this only finds the places. Names and values stay slices of
//! the one allocation that holds the head.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::Uri;
use http::Version;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::EXPECT;
use http::uri::PathAndQuery;

use crate::http::codec::unfit;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::spare;

/// An average field, for the room of its map: counting the fields costs more than a map that grows.
const FIELD_BYTES: usize = 32;

/// A head that is longer may as well be one large cookie.
const FIELDS_EXPECTED_MAX: usize = 32;

/// What a head says about its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    close: bool,
    keep_alive: bool,
    /// The client offers to go on as another protocol.
    pub(super) upgrade: bool,
    /// The client waits for `100 Continue` before it sends its body (RFC 9110 section 10.1.1).
    pub(super) expects_continue: bool,
    /// A server fails its health checks from now on.
    pub(super) unfit: bool,
}

impl Said {
    /// Whether the connection may carry another message (RFC 9112 section 9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// The head of a request.
///
/// # Errors
/// A target or value that this program does not handle, though its framing is right.
pub(super) fn request(head: &Bytes) -> Result<(http::request::Parts, Said), ViolationKind> {
    let start = skip_empty_lines(head);
    let method_end = find(head, start, b' ');
    let target_end = find(head, method_end + 1, b' ');
    let line_end = find(head, target_end + 1, b'\r');
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let method = head.get(start..method_end).unwrap_or_default();
    parts.method = Method::from_bytes(method).map_err(|_| ViolationKind::InvalidMethod)?;
    let target = head.slice(method_end + 1..target_end);
    parts.uri = uri(target).ok_or(ViolationKind::InvalidTarget)?;
    parts.version = version(head.get(target_end + 1..line_end).unwrap_or_default());
    let said;
    (parts.headers, said) = fields(head, line_end + 2)?;
    Ok((parts, said))
}

/// The head of a response.
///
/// # Errors
/// A value that this program does not handle, though its framing is right.
pub(super) fn response(head: &Bytes) -> Result<(http::response::Parts, Said), ViolationKind> {
    let line_end = find(head, 0, b'\r');
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.version = version(head.get(..8).unwrap_or_default());
    let status = head.get(9..12).unwrap_or_default();
    parts.status = StatusCode::from_bytes(status).map_err(|_| ViolationKind::InvalidStatusLine)?;
    let said;
    (parts.headers, said) = fields(head, line_end + 2)?;
    Ok((parts, said))
}

/// A trailer section.
///
/// # Errors
/// A value that this program does not handle, though its framing is right.
pub(super) fn trailers(section: &Bytes) -> Result<HeaderMap, ViolationKind> {
    fields(section, 0).map(|(map, _)| map)
}

fn fields(head: &Bytes, start: usize) -> Result<(HeaderMap, Said), ViolationKind> {
    let mut said = Said::default();
    let mut at = start;
    let expected = head.len().saturating_sub(start) / FIELD_BYTES;
    let mut map = spare::take(expected.min(FIELDS_EXPECTED_MAX));
    while head.get(at).is_some_and(|byte| *byte != b'\r') {
        let colon = find(head, at, b':');
        let end = find(head, colon + 1, b'\r');
        let raw = head.get(at..colon).unwrap_or_default();
        let name = HeaderName::from_bytes(raw).map_err(|_| ViolationKind::InvalidName)?;
        let value = trimmed(head, colon + 1, end);
        if name == CONNECTION {
            said.connection(&value);
        } else if name == EXPECT {
            said.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        } else {
            said.unfit |= unfit::is_it(&name, raw.len());
        }
        at = end + 2;
        if name == CONTENT_LENGTH && map.contains_key(CONTENT_LENGTH) {
            continue; // the decoder has seen that they are equal
        }
        let value = HeaderValue::from_maybe_shared(value);
        map.append(name, value.map_err(|_| ViolationKind::InvalidValue)?);
    }
    Ok((map, said))
}

/// Without the white space around it, which is no part of a value (RFC 9112 section 5.1).
fn trimmed(head: &Bytes, start: usize, end: usize) -> Bytes {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let raw = head.get(start..end).unwrap_or_default();
    let before = raw.iter().take_while(|byte| is_space(byte)).count();
    if before == raw.len() {
        return Bytes::new();
    }
    let after = raw.iter().rev().take_while(|byte| is_space(byte)).count();
    head.slice(start + before..end - after)
}

fn uri(target: Bytes) -> Option<Uri> {
    if target.first() == Some(&b'/') {
        PathAndQuery::from_maybe_shared(target).ok().map(Uri::from)
    } else {
        Uri::from_maybe_shared(target).ok()
    }
}

fn version(text: &[u8]) -> Version {
    if text == b"HTTP/1.0" {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

fn skip_empty_lines(head: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    head.iter().take_while(is_end).count()
}

/// The index of `byte` from `at`, or the length.
fn find(bytes: &[u8], at: usize, byte: u8) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr::memchr(byte, rest).map_or(bytes.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_cut_at_the_right_places() {
        let head = "\r\nPOST /a?b HTTP/1.1\r\nHost: h\r\nA:\t b\tc \r\nA: d\r\nEmpty:  \r\n\
            Content-Length: 3\r\ncontent-length: 3\r\nExpect: 100-Continue\r\n\r\n";
        let (parts, said) = request(&Bytes::from_static(head.as_bytes())).unwrap();
        assert_eq!(parts.method, Method::POST);
        assert_eq!(parts.uri, "/a?b");
        assert_eq!(parts.version, Version::HTTP_11);
        let values: Vec<_> = parts.headers.get_all("a").iter().collect();
        assert_eq!(values, ["b\tc", "d"]);
        assert_eq!(parts.headers["empty"], "");
        assert_eq!(parts.headers.get_all(CONTENT_LENGTH).iter().count(), 1);
        assert!(said.expects_continue);
        assert!(said.persists(parts.version));
    }

    #[test]
    fn connection_decides_whether_it_persists() {
        let persists = |version: &str, connection: &str| {
            let head = format!("GET / HTTP/{version}\r\nConnection: {connection}\r\n\r\n");
            let (parts, said) = request(&Bytes::from(head)).unwrap();
            said.persists(parts.version)
        };
        assert!(persists("1.1", "x"));
        assert!(!persists("1.1", "x, Close"));
        assert!(!persists("1.0", "x"));
        assert!(persists("1.0", "Keep-Alive"));
        assert!(!persists("1.0", "keep-alive, close"));
    }

    #[test]
    fn a_response_is_cut_at_the_right_places() {
        let head = "HTTP/1.0 404\r\nServer: x\r\n\r\n";
        let (parts, said) = response(&Bytes::from_static(head.as_bytes())).unwrap();
        assert_eq!(parts.status, StatusCode::NOT_FOUND);
        assert_eq!(parts.headers["server"], "x");
        assert!(!said.persists(parts.version));
    }

    #[test]
    fn a_target_no_uri_can_hold_is_refused() {
        let head = Bytes::from_static(b"GET /\x7f HTTP/1.1\r\n\r\n");
        assert_eq!(request(&head).unwrap_err(), ViolationKind::InvalidTarget);
    }
}
