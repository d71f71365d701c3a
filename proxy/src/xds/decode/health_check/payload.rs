//! `HealthCheck.Payload`: bytes, as they are or in hexadecimal digits.

use xds_proto::pb::envoy::config::core::v3::health_check::Payload;
use xds_proto::pb::envoy::config::core::v3::health_check::payload::Payload as Kind;

use super::Context;

/// Reads one.
pub(super) fn decode(context: &mut Context, payload: Payload) -> Option<Vec<u8>> {
    let Payload { payload } = payload;
    match payload {
        None => context.missing("text"),
        Some(Kind::Binary(bytes)) => Some(bytes),
        Some(Kind::Text(text)) if text.is_empty() => context.refuse("text", "must not be empty"),
        Some(Kind::Text(text)) => match digits(text.as_bytes()) {
            Some(bytes) => Some(bytes),
            None => context.refuse("text", "is not made of pairs of hexadecimal digits"),
        },
    }
}

fn digits(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(value(*high)? * 16 + value(*low)?).ok();
    let bytes = pairs.iter().map(byte).collect();
    if rest.is_empty() { bytes } else { None }
}
