//! What the handshake of a WebSocket over HTTP/1.1 proves (RFC 6455 section 4.2.2): that whoever accepts has
//! read the key. Over HTTP/2 `:protocol` stands for both (RFC 8441 section 5.1).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// `Upgrade` of a WebSocket; its case does not matter.
pub const WEBSOCKET: &str = "websocket";

/// Goes behind the key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Key` of these bytes.
#[must_use]
pub fn websocket_key(random: u128) -> HeaderValue {
    encoded(&random.to_ne_bytes())
}

/// `Sec-WebSocket-Accept` for a key.
#[must_use]
pub fn websocket_accept(key: &HeaderValue) -> HeaderValue {
    let mut hashed = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashed.update(key.as_bytes());
    hashed.update(SUFFIX);
    encoded(hashed.finish().as_ref())
}

fn encoded(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(bytes)).expect("Base64 is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_in_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(websocket_accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_has_sixteen_bytes_and_no_other_is_accepted_alike() {
        let (one, other) = (websocket_key(1), websocket_key(2));
        assert_eq!(STANDARD.decode(&one).unwrap().len(), 16);
        assert_ne!(websocket_accept(&one), websocket_accept(&other));
    }
}
