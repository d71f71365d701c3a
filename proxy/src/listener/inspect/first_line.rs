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
    let end = memchr::memchr(b'\n', bytes);
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    if !begins_with_method(line) {
        return Reading::NotHttp;
    }
    match end {
        None => Reading::More,
        Some(_) => version(line.strip_suffix(b"\r").unwrap_or(line)).unwrap_or(Reading::NotHttp),
    }
}

/// Whether it can still become a request line: a token (RFC 9110 section 5.6.2), then white space.
fn begins_with_method(line: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = line.iter().take_while(|byte| is_token(byte)).count();
    match line.get(length) {
        None => true,
        Some(next) => length > 0 && matches!(next, b' ' | b'\t' | b'\r'),
    }
}

/// As lenient as Envoy, which only wants to know whom to ask: any white space between the words, and
/// every version but 1.1 is 1.0.
fn version(line: &[u8]) -> Option<Reading> {
    let mut words = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    let (method, target, version) = (words.next()?, words.next()?, words.next());
    let has_form = target.starts_with(b"/")
        || target.starts_with(b"*")
        || method.eq_ignore_ascii_case(b"CONNECT")
        || memchr::memmem::find(target, b"://").is_some();
    if !target.is_ascii() || !has_form || words.next().is_some() {
        return None;
    }
    match version.map(|version| version.strip_prefix(b"HTTP/")) {
        None => Some(Reading::Http10), // HTTP/0.9
        Some(Some(b"1.1")) => Some(Reading::Http11),
        Some(Some([b'0'..=b'9', b'.', b'0'..=b'9'])) => Some(Reading::Http10),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    use super::*;

    /// What a real Envoy 1.40 said.
    #[test]
    fn lines_are_what_envoy_takes_them_for() {
        for (line, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Reading::Http11),
            (b"GET / HTTP/1.0\r\n", Reading::Http10),
            (b"GET /\r\n", Reading::Http10),
            (b"GET\r\n", Reading::NotHttp),
            (b"GET / HTTP/1.2\r\n", Reading::Http10),
            (b"GET / HTTP/3\r\n", Reading::NotHttp),
            (b"GET / FOO\r\n", Reading::NotHttp),
            (b"get / HTTP/1.1\n", Reading::Http11),
            (b"BREW / HTTP/1.1\r\n", Reading::Http11),
            (b"G(T / HTTP/1.1\r\n", Reading::NotHttp),
            (b"GET / HTTP/1.1 \r\n", Reading::Http11),
            (b"GET  /  HTTP/1.1\r\n", Reading::Http11),
            (b"GET\t/ HTTP/1.1\r\n", Reading::Http11),
            (b"GET / a HTTP/1.1\r\n", Reading::NotHttp),
            (b" GET / HTTP/1.1\r\n", Reading::NotHttp),
            (b"\r\nGET / HTTP/1.1\r\n", Reading::NotHttp),
            (b"GET /\xff HTTP/1.1\r\n", Reading::NotHttp),
            (b"GET foo HTTP/1.1\r\n", Reading::NotHttp),
            (b"CONNECT a:1 HTTP/1.1\r\n", Reading::Http11),
            (b"GET / http/1.1\r\n", Reading::NotHttp),
            (b"PRI * HTTP/1.1\r\n", Reading::Http11),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Reading::Http10),
            (HTTP2_PREFACE, Reading::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nS", Reading::More),
            (b"hello", Reading::More),
            (b"\x16\x03\x01", Reading::NotHttp),
        ] {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_has_the_same_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [b"GET /", &bytes[..], b" HTTP/1.1\r\n"].concat();
            let whole = read(&bytes);
            for end in 0..bytes.len() {
                let part = read(&bytes[..end]);
                prop_assert!(part == Reading::More || part == whole);
            }
        }
    }
}
