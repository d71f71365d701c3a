//! Prints messages as JSON, the way Envoy's `config_dump` does: `snake_case` names, defaults left out, nested `Any`
//! opened under its `@type`, 64-bit integers as strings.
//!
//! What cannot be read is not lost: an `Any` of an unknown type, or whose bytes are no message, shows as
//! `{"@type", "value"}` with its bytes in base64. Unknown fields of known messages are left out.
//! Depth is bounded; bytes from a peer never panic here.

mod generic;
mod scalar;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Map;
use serde_json::Value;

use crate::Pool;
use crate::pb::google::protobuf::Any;
use crate::pool::FieldDesc;
use crate::pool::Kind;
use crate::pool::Label;
use crate::pool::MessageDesc;
use crate::pool::MessageId;
use crate::pool::Shape;
use crate::type_url;
use crate::wire::Malformed;
use crate::wire::Raw;
use crate::wire::Reader;

/// Messages within messages; an own bound, since each `Any` would start prost's anew.
const DEPTH_MAX: usize = 100;

/// A packed message as JSON with its `@type`.
pub fn any_to_json(pool: &Pool, any: &Any) -> Value {
    Printer { pool }.any(&any.type_url, &any.value, 0)
}

/// Encoded bytes of the message `full_name` as JSON; as an unknown `Any` where they are no such message.
pub fn message_to_json(pool: &Pool, full_name: &str, bytes: &[u8]) -> Value {
    let name = type_url::message_name(full_name);
    let known = pool
        .message(name)
        .and_then(|id| Printer { pool }.message(id, bytes, 0).ok());
    known.unwrap_or_else(|| opaque(name, bytes))
}

fn opaque(type_url: &str, bytes: &[u8]) -> Value {
    boxed(type_url, Value::String(STANDARD.encode(bytes)))
}

fn boxed(type_url: &str, value: Value) -> Value {
    let mut members = Map::new();
    members.insert("@type".to_owned(), Value::String(type_url.to_owned()));
    members.insert("value".to_owned(), value);
    Value::Object(members)
}

#[derive(Clone, Copy)]
struct Printer<'p> {
    pool: &'p Pool,
}

impl Printer<'_> {
    fn any(self, url: &str, bytes: &[u8], depth: usize) -> Value {
        let Some(id) = self.pool.message(type_url::message_name(url)) else {
            return opaque(url, bytes);
        };
        let plain = matches!(
            self.pool.describe(id).shape,
            Shape::Object | Shape::TypedStruct
        );
        match self.message(id, bytes, depth) {
            Ok(Value::Object(mut members)) if plain => {
                members.insert("@type".to_owned(), Value::String(url.to_owned()));
                Value::Object(members)
            }
            Ok(value) => boxed(url, value),
            Err(Malformed) => opaque(url, bytes),
        }
    }

    fn message(self, id: MessageId, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        let message = self.pool.describe(id);
        match message.shape {
            Shape::Any => self.packed(bytes, depth),
            Shape::Duration | Shape::FieldMask | Shape::Timestamp => {
                generic::text(message.shape, bytes)
            }
            Shape::ListValue => generic::list(bytes, depth),
            Shape::Object | Shape::TypedStruct => self.object(message, bytes, depth),
            Shape::Struct => generic::structure(bytes, depth),
            Shape::Value => generic::value(bytes, depth),
            Shape::Wrapper => self.wrapper(message, bytes),
        }
    }

    /// A nested `Any`.
    fn packed(self, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
        let (mut url, mut value): (&[u8], &[u8]) = (&[], &[]);
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            match reader.field()? {
                (1, Raw::Bytes(bytes)) => url = bytes,
                (2, Raw::Bytes(bytes)) => value = bytes,
                (1 | 2, _) => return Err(Malformed),
                _ => {}
            }
        }
        let url = std::str::from_utf8(url).map_err(|_| Malformed)?;
        if url.is_empty() && value.is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        Ok(self.any(url, value, depth + 1))
    }

    fn object(self, message: &MessageDesc, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
        let mut found: Vec<(&FieldDesc, Vec<Raw<'_>>)> = Vec::new();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (number, raw) = reader.field()?;
            let Some(field) = message.field_by_number(number) else {
                continue;
            };
            // Of a oneof the last one on the wire holds.
            found.retain(|(other, _)| {
                other.number == number || other.oneof.is_none() || other.oneof != field.oneof
            });
            match found.iter_mut().find(|(other, _)| other.number == number) {
                Some((_, values)) => values.push(raw),
                None => found.push((field, vec![raw])),
            }
        }
        let mut members = Map::new();
        for (field, values) in found {
            if let Some(value) = self.field(field, &values, depth)? {
                members.insert((*field.name).to_owned(), value);
            }
        }
        Ok(Value::Object(members))
    }

    /// The field's JSON, nothing where it holds its default.
    fn field(
        self,
        field: &FieldDesc,
        values: &[Raw<'_>],
        depth: usize,
    ) -> Result<Option<Value>, Malformed> {
        match field.label {
            Label::Map => self.map(field, values, depth).map(Some),
            Label::Optional => self.single(field.kind, values, depth).map(Some),
            Label::Repeated => self.list(field.kind, values, depth),
            Label::Single if values.last().is_none_or(|raw| scalar::is_zero(*raw)) => Ok(None),
            Label::Single => self.single(field.kind, values, depth).map(Some),
        }
    }

    fn list(
        self,
        kind: Kind,
        values: &[Raw<'_>],
        depth: usize,
    ) -> Result<Option<Value>, Malformed> {
        let mut items = Vec::new();
        for raw in values {
            match (raw, kind) {
                (Raw::Bytes(_), Kind::Bytes | Kind::Message(_) | Kind::String) => {
                    items.push(self.value(kind, *raw, depth)?);
                }
                (Raw::Bytes(pack), _) => scalar::unpack(self.pool, kind, pack, &mut items)?,
                _ => items.push(self.value(kind, *raw, depth)?),
            }
        }
        Ok(if items.is_empty() {
            None
        } else {
            Some(Value::Array(items))
        })
    }

    fn map(self, field: &FieldDesc, entries: &[Raw<'_>], depth: usize) -> Result<Value, Malformed> {
        let Kind::Message(id) = field.kind else {
            return Err(Malformed);
        };
        let entry = self.pool.describe(id);
        let (Some(key), Some(value)) = (entry.field_by_number(1), entry.field_by_number(2)) else {
            return Err(Malformed);
        };
        let mut members = Map::new();
        for raw in entries {
            let Raw::Bytes(bytes) = raw else {
                return Err(Malformed);
            };
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            let mut reader = Reader::new(bytes);
            while !reader.is_empty() {
                match reader.field()? {
                    (1, raw) => keys.push(raw),
                    (2, raw) => values.push(raw),
                    _ => {}
                }
            }
            let key = match keys.last() {
                Some(raw) => self.value(key.kind, *raw, depth)?,
                None => scalar::zero(key.kind),
            };
            let value = match values.last() {
                Some(_) => self.single(value.kind, &values, depth)?,
                None => self.default(value.kind, depth)?,
            };
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }

    /// One value; a message that came in parts is the parts one after the other.
    fn single(self, kind: Kind, values: &[Raw<'_>], depth: usize) -> Result<Value, Malformed> {
        match (kind, values) {
            (Kind::Message(id), parts) => self.message(id, &join(parts)?, depth + 1),
            (_, [.., last]) => self.value(kind, *last, depth),
            (_, []) => Err(Malformed),
        }
    }

    fn default(self, kind: Kind, depth: usize) -> Result<Value, Malformed> {
        match kind {
            Kind::Enum(_) => self.value(kind, Raw::Varint(0), depth),
            Kind::Message(id) => self.message(id, &[], depth + 1),
            _ => Ok(scalar::zero(kind)),
        }
    }

    fn value(self, kind: Kind, raw: Raw<'_>, depth: usize) -> Result<Value, Malformed> {
        match (kind, raw) {
            (Kind::Message(id), Raw::Bytes(bytes)) => self.message(id, bytes, depth + 1),
            _ => scalar::value(self.pool, kind, raw),
        }
    }

    fn wrapper(self, message: &MessageDesc, bytes: &[u8]) -> Result<Value, Malformed> {
        let field = message.field_by_number(1).ok_or(Malformed)?;
        let mut value = scalar::zero(field.kind);
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            if let (1, raw) = reader.field()? {
                value = scalar::value(self.pool, field.kind, raw)?;
            }
        }
        Ok(value)
    }
}

fn join<'a>(parts: &[Raw<'a>]) -> Result<Cow<'a, [u8]>, Malformed> {
    if let [Raw::Bytes(bytes)] = parts {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut joined = Vec::new();
    for part in parts {
        let Raw::Bytes(bytes) = part else {
            return Err(Malformed);
        };
        joined.extend_from_slice(bytes);
    }
    Ok(Cow::Owned(joined))
}
