//! `x-request-id`: a version 4 UUID in text form.
//!
//! Randomness comes in as an argument; it need not be secret, only different.

use http::HeaderValue;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Length of a UUID in text form.
const TEXT_BYTES: usize = 36;

/// A UUID made of `random`, with the version and variant bits of RFC 9562 section 5.4. Allocates its
/// 36 bytes: the header outlives the caller's stack.
pub(super) fn from_random(random: u128) -> HeaderValue {
    let version = random & !(0xf_u128 << 76) | (0x4_u128 << 76);
    let bits = version & !(0b11_u128 << 62) | (0b10_u128 << 62);
    let mut text = [b'-'; TEXT_BYTES];
    let places = (0..TEXT_BYTES).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    for (nibble, place) in places.enumerate() {
        let digit = (bits >> (124 - 4 * nibble)) & 0xf;
        let hex = usize::try_from(digit).ok().and_then(|digit| HEX.get(digit));
        if let (Some(byte), Some(hex)) = (text.get_mut(place), hex) {
            *byte = *hex;
        }
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are a header value")
}
