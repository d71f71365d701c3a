//! A strict reader of what an HTTP client sends first: the preface of HTTP/2 or a request line.
//!
//! A pure function of the bytes that came so far, as `client_hello`.

/// What HTTP/2 connections begin with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest request line that is looked at: Envoy's bound.
pub const BYTES_MAX: usize = 64 * 1024;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 without TLS.
    Http2,
    /// A request line as far as it goes.
    More,
    /// Something else.
    NotHttp,
}

impl Reading {
    /// Envoy's name of the protocol, preceded by its length as in ALPN.
    pub fn protocol(self) -> Option<&'static [u8]> {
        match self {
            Self::Http10 => Some(b"\x08http/1.0"),
            Self::Http11 => Some(b"\x08http/1.1"),
            Self::Http2 => Some(b"\x03h2c"),
            Self::More | Self::NotHttp => None,
        }
    }
}

/// Reads the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Reading {
    let like_preface = bytes.len().min(HTTP2_PREFACE.len());
    if bytes.get(..like_preface) == HTTP2_PREFACE.get(..like_preface) {
        return if like_preface == HTTP2_PREFACE.len() {
            Reading::Http2
        } else {
            Reading::More
        };
    }
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    if !is_plausible(line) {
        return Reading::NotHttp;
    }
    match end {
        None => Reading::More,
        Some(_) => version(line),
    }
}

/// Whether it can still become a request line: a method, then visible characters and spaces.
fn is_plausible(line: &[u8]) -> bool {
    let method = line
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(line.len());
    let (method, rest) = line.split_at_checked(method).unwrap_or((line, &[]));
    let is_empty = method.is_empty() && !line.is_empty();
    let letters = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    !is_empty
        && method.iter().all(letters)
        && rest.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
}

fn version(line: &[u8]) -> Reading {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_whole = method.is_some_and(|method| !method.is_empty())
        && target.is_some_and(|target| !target.is_empty())
        && words.next().is_none();
    match version {
        Some(b"HTTP/1.1") if is_whole => Reading::Http11,
        Some(b"HTTP/1.0") if is_whole => Reading::Http10,
        _ => Reading::NotHttp,
    }
}
