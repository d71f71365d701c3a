//! Messages whose JSON is not their fields: `Struct` and its parts, durations, times, field masks.

use serde_json::Map;
use serde_json::Value;

use crate::dump::DEPTH_MAX;
use crate::dump::scalar;
use crate::pool::Shape;
use crate::time;
use crate::time::Seconds;
use crate::wire::Malformed;
use crate::wire::Raw;
use crate::wire::Reader;

/// A `Struct` as an object.
pub(super) fn structure(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut members = Map::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (1, raw) = reader.field()? else { continue };
        let Raw::Bytes(entry) = raw else {
            return Err(Malformed);
        };
        let (key, member) = member(entry, depth)?;
        members.insert(key, member);
    }
    Ok(Value::Object(members))
}

fn member(bytes: &[u8], depth: usize) -> Result<(String, Value), Malformed> {
    let mut key = String::new();
    let mut member = Value::Null;
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        match reader.field()? {
            (1, Raw::Bytes(bytes)) => key = utf8(bytes)?,
            (2, Raw::Bytes(bytes)) => member = value(bytes, depth + 1)?,
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((key, member))
}

/// A `ListValue` as an array.
pub(super) fn list(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        match reader.field()? {
            (1, Raw::Bytes(bytes)) => items.push(value(bytes, depth + 1)?),
            (1, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(Value::Array(items))
}

/// A `Value` as what it is.
pub(super) fn value(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let mut found = Value::Null;
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        found = match reader.field()? {
            (1, Raw::Varint(_)) => Value::Null,
            (2, Raw::Fixed64(bits)) => scalar::double(f64::from_bits(bits)),
            (3, Raw::Bytes(bytes)) => Value::String(utf8(bytes)?),
            (4, Raw::Varint(value)) => Value::Bool(value != 0),
            (5, Raw::Bytes(bytes)) => structure(bytes, depth + 1)?,
            (6, Raw::Bytes(bytes)) => list(bytes, depth + 1)?,
            (1..=6, _) => return Err(Malformed),
            _ => found,
        };
    }
    Ok(found)
}

/// The messages JSON writes as a string.
pub(super) fn text(shape: Shape, bytes: &[u8]) -> Result<Value, Malformed> {
    if shape == Shape::FieldMask {
        return field_mask(bytes);
    }
    let mut value = Seconds {
        seconds: 0,
        nanos: 0,
    };
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        match reader.field()? {
            (1, Raw::Varint(seconds)) => value.seconds = seconds.cast_signed(),
            (2, Raw::Varint(nanos)) => {
                value.nanos = i32::try_from(nanos.cast_signed()).map_err(|_| Malformed)?;
            }
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    match shape {
        Shape::Timestamp => time::format_timestamp(value)
            .map(Value::String)
            .ok_or(Malformed),
        _ => Ok(Value::String(time::format_duration(value))),
    }
}

fn field_mask(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut paths = Vec::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        if let (1, Raw::Bytes(path)) = reader.field()? {
            paths.push(camel(&utf8(path)?));
        }
    }
    Ok(Value::String(paths.join(",")))
}

/// A path in JSON's spelling.
fn camel(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for character in path.chars() {
        if character == '_' {
            upper = true;
        } else {
            out.push(if upper {
                character.to_ascii_uppercase()
            } else {
                character
            });
            upper = false;
        }
    }
    out
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| Malformed)
}
