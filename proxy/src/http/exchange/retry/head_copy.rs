//! What is kept of a request whose head a connection takes away, as that of HTTP/2 does.
//!
//! Almost no head is needed again, so a copy is made that costs little rather than one that is soon of use:
//! all of it in one piece of memory, with nothing shared and nothing indexed.

use bytes::Buf;
use bytes::Bytes;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use http::request::Parts;
use http::uri::PathAndQuery;

/// Room for most heads: one with more fields moves once or twice.
const BYTES_EXPECTED: usize = 512;

/// The bit of a length that says of a value that it is not to be in tables of compression (RFC 7541
/// section 7.1.3).
const SENSITIVE: u32 = 1 << 31;

/// Of a piece; the head of a request is much smaller.
const LENGTH_MAX: u64 = 1 << 31;

/// A head as bytes, each piece with its length before it; empty if there is none.
///
/// Scheme, authority and version are not part of it: each attempt gets its own.
#[derive(Debug, Default)]
pub(in crate::http::exchange) struct HeadCopy(Vec<u8>);

impl HeadCopy {
    /// Copies a head; false if it has something that cannot be copied so, and nothing is kept.
    pub(in crate::http::exchange) fn take_from<B>(&mut self, request: &Request<B>) -> bool {
        let Self(bytes) = self;
        bytes.clear();
        let Some(target) = request.uri().path_and_query() else {
            return false;
        };
        if !request.extensions().is_empty() {
            return false;
        }
        if bytes.capacity() == 0 {
            *bytes = Vec::with_capacity(BYTES_EXPECTED);
        }
        let is_whole = write(
            bytes,
            request.method().as_str().as_bytes(),
            target.as_str().as_bytes(),
            0,
        ) && request.headers().iter().all(|(name, value)| {
            let mark = if value.is_sensitive() { SENSITIVE } else { 0 };
            write(bytes, name.as_str().as_bytes(), value.as_bytes(), mark)
        });
        if !is_whole {
            bytes.clear();
        }
        is_whole
    }

    /// The head, if there is one; there is none afterwards.
    pub(in crate::http::exchange) fn take(&mut self) -> Option<Parts> {
        let mut bytes = Bytes::from(std::mem::take(&mut self.0));
        let (method, target, _) = read(&mut bytes)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(&method).ok()?;
        *request.uri_mut() = Uri::from(PathAndQuery::from_maybe_shared(target).ok()?);
        while let Some((name, value, is_sensitive)) = read(&mut bytes) {
            let name = HeaderName::from_bytes(&name).ok()?;
            let mut value = HeaderValue::from_maybe_shared(value).ok()?;
            value.set_sensitive(is_sensitive);
            request.headers_mut().append(name, value);
        }
        Some(request.into_parts().0)
    }
}

/// Appends two pieces; false if they are too long, which what a codec lets pass is not.
fn write(bytes: &mut Vec<u8>, one: &[u8], other: &[u8], mark: u32) -> bool {
    let (length, other_length) = (one.len() as u64, other.len() as u64);
    if length.max(other_length) >= LENGTH_MAX {
        return false;
    }
    let lengths = length << 32 | other_length | u64::from(mark);
    bytes.extend_from_slice(&lengths.to_be_bytes());
    bytes.extend_from_slice(one);
    bytes.extend_from_slice(other);
    true
}

/// Takes off what `write` appended; none if nothing is left.
fn read(bytes: &mut Bytes) -> Option<(Bytes, Bytes, bool)> {
    let one = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let marked = bytes.try_get_u32().ok()?;
    let other = usize::try_from(marked & !SENSITIVE).ok()?;
    if bytes.len() < one.checked_add(other)? {
        return None;
    }
    let one = bytes.split_to(one);
    Some((one, bytes.split_to(other), marked & SENSITIVE != 0))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::Version;
    use proptest::prelude::*;

    use super::*;

    fn copied(request: &Request<()>) -> Parts {
        let mut copy = HeadCopy::default();
        assert!(copy.take_from(request));
        let head = copy.take().expect("a head");
        assert!(copy.take().is_none(), "it is given once");
        head
    }

    #[test]
    fn a_head_comes_back_but_for_what_each_attempt_gets() {
        let mut secret = HeaderValue::from_static("x");
        secret.set_sensitive(true);
        let request = Request::builder()
            .method("PROPFIND")
            .uri("https://a.example/b?c")
            .header("host", "a.example")
            .header("x-b", "")
            .header("x-b", &b"\xff\t"[..])
            .header("authorization", secret)
            .body(())
            .expect("a request");
        let head = copied(&request);
        assert_eq!(head.method, "PROPFIND");
        assert_eq!(head.uri, "/b?c");
        assert_eq!(head.version, Version::default());
        assert_eq!(head.headers, *request.headers());
        let is_sensitive = |name| {
            head.headers
                .get(name)
                .is_some_and(HeaderValue::is_sensitive)
        };
        assert!(is_sensitive("authorization") && !is_sensitive("host"));
    }

    #[test]
    fn what_cannot_be_copied_is_not_and_the_copy_before_is_gone() {
        let mut copy = HeadCopy::default();
        assert!(copy.take_from(&Request::new(())));
        let mut extended = Request::new(());
        extended.extensions_mut().insert(1);
        assert!(!copy.take_from(&extended));
        assert!(copy.take().is_none());
        let connect = Request::builder().method("CONNECT").uri("a.example:1");
        assert!(!copy.take_from(&connect.body(()).expect("a request")));
        assert!(copy.take().is_none());
    }

    proptest! {
        #[test]
        fn any_fields_come_back(
            fields in prop::collection::vec(("[a-d-]{1,40}", "[ -~\t]{0,600}"), 0..30),
        ) {
            let mut request = Request::new(());
            for (name, value) in &fields {
                let value = HeaderValue::from_str(value).expect("a value");
                request.headers_mut().append(HeaderName::try_from(name).expect("a name"), value);
            }
            let all = |map: &HeaderMap, name: &HeaderName| -> Vec<HeaderValue> {
                map.get_all(name).iter().cloned().collect()
            };
            let head = copied(&request);
            prop_assert_eq!(head.headers.len(), request.headers().len());
            for name in request.headers().keys() {
                prop_assert_eq!(all(&head.headers, name), all(request.headers(), name));
            }
        }
    }
}
