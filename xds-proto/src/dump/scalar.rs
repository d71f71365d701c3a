//! Leaves in protobuf's JSON: enums by name, 64 bits as strings, bytes in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Number;
use serde_json::Value;

use crate::Pool;
use crate::pool::Kind;
use crate::wire::Malformed;
use crate::wire::Raw;
use crate::wire::Reader;

/// Whether proto3 would have left the value out.
pub(super) fn is_zero(raw: Raw<'_>) -> bool {
    match raw {
        Raw::Bytes(bytes) => bytes.is_empty(),
        Raw::Fixed32(value) => value == 0,
        Raw::Fixed64(value) | Raw::Varint(value) => value == 0,
    }
}

/// What an absent value of a kind means; nothing for messages and enums.
pub(super) fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::Bytes | Kind::String => Value::String(String::new()),
        Kind::Enum(_) | Kind::Message(_) => Value::Null,
        Kind::Fixed64 | Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 | Kind::Uint64 => {
            Value::String("0".to_owned())
        }
        Kind::Double
        | Kind::Fixed32
        | Kind::Float
        | Kind::Int32
        | Kind::Sfixed32
        | Kind::Sint32
        | Kind::Uint32 => Value::from(0),
    }
}

/// Appends the values of a packed list.
pub(super) fn unpack(
    pool: &Pool,
    kind: Kind,
    pack: &[u8],
    items: &mut Vec<Value>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(pack);
    while !reader.is_empty() {
        let raw = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Raw::Fixed64(reader.fixed64()?),
            Kind::Fixed32 | Kind::Float | Kind::Sfixed32 => Raw::Fixed32(reader.fixed32()?),
            _ => Raw::Varint(reader.varint()?),
        };
        items.push(value(pool, kind, raw)?);
    }
    Ok(())
}

/// One value that is no message.
pub(super) fn value(pool: &Pool, kind: Kind, raw: Raw<'_>) -> Result<Value, Malformed> {
    Ok(match (kind, raw) {
        (Kind::Bool, Raw::Varint(value)) => Value::Bool(value != 0),
        (Kind::Bytes, Raw::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Kind::Double, Raw::Fixed64(bits)) => double(f64::from_bits(bits)),
        (Kind::Enum(id), Raw::Varint(value)) => {
            let number = low32(value).cast_signed();
            let known = pool
                .describe_enum(id)
                .values
                .iter()
                .find(|(_, known)| *known == number);
            known.map_or_else(|| Value::from(number), |(name, _)| Value::from(&**name))
        }
        (Kind::Fixed32, Raw::Fixed32(value)) => Value::from(value),
        (Kind::Fixed64, Raw::Fixed64(value)) | (Kind::Uint64, Raw::Varint(value)) => {
            Value::from(value.to_string())
        }
        (Kind::Float, Raw::Fixed32(bits)) => float(f32::from_bits(bits)),
        (Kind::Int32, Raw::Varint(value)) => Value::from(low32(value).cast_signed()),
        (Kind::Int64, Raw::Varint(value)) | (Kind::Sfixed64, Raw::Fixed64(value)) => {
            Value::from(value.cast_signed().to_string())
        }
        (Kind::Sfixed32, Raw::Fixed32(value)) => Value::from(value.cast_signed()),
        (Kind::Sint32, Raw::Varint(value)) => {
            Value::from(low32(zigzag(value).cast_unsigned()).cast_signed())
        }
        (Kind::Sint64, Raw::Varint(value)) => Value::from(zigzag(value).to_string()),
        (Kind::String, Raw::Bytes(bytes)) => {
            Value::from(std::str::from_utf8(bytes).map_err(|_| Malformed)?)
        }
        (Kind::Uint32, Raw::Varint(value)) => Value::from(low32(value)),
        _ => return Err(Malformed),
    })
}

/// A double, whole ones without a point, as protobuf prints them.
pub(super) fn double(value: f64) -> Value {
    /// Past 2^53 whole doubles print as doubles.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0
        && value.abs() <= WHOLE_MAX
        && !(value == 0.0 && value.is_sign_negative())
    {
        #[expect(clippy::cast_possible_truncation, reason = "whole and inside 53 bits")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or_else(|| Value::from(unbounded(value)), Value::Number)
}

/// A float in its own shortest digits, not those of the double next to it.
fn float(value: f32) -> Value {
    value
        .to_string()
        .parse()
        .map_or_else(|_| double(f64::from(value)), double)
}

fn unbounded(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// 32-bit values travel sign-extended; the rest is cut, as every protobuf reader does.
fn low32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits")
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
