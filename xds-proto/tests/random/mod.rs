//! Random messages of any type, drawn from a string of bytes, so that shorter bytes give smaller messages.

use prost::Message;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MapKey;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value;

/// What `Any` fields hold.
const PACKED: &[&str] = &[
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "google.protobuf.BoolValue",
    "google.protobuf.Duration",
    "google.protobuf.Struct",
    "google.protobuf.StringValue",
];

/// Strings that YAML or JSON might take for something else.
const STRINGS: &[&str] = &[
    "", "a", "on", "null", "~", "1.10", "0644", "true", "- x", "a: b", "#c", "&x", "*x", "\"", "'",
    "\\", "\n", "\t", "\u{0}", "\u{7f}", "\u{85}", "\u{2028}", "é", "🙂", " lead", "trail ", "{}",
    "[", "<<", "@type", "%", "`", "a\nb", "\r\n",
];

const DEPTH_MAX: usize = 6;

/// Decisions, each taken from the next bytes; all zero once they are used up.
pub(crate) struct Entropy<'a> {
    bytes: &'a [u8],
}

impl<'a> Entropy<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        // One number in four is a large one.
        let wide = self.byte() % 4 == 3;
        let length = if wide { 8 } else { 1 };
        (0..length).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        let index = usize::from(self.byte()) % from.len();
        &from[index]
    }
}

/// A random message with a few fields set.
pub(crate) fn message(
    descriptor: &MessageDescriptor,
    entropy: &mut Entropy<'_>,
    depth: usize,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let well_known = match descriptor.full_name() {
        "google.protobuf.Any" => packed(descriptor, entropy, depth),
        "google.protobuf.Duration" => seconds(entropy, 315_576_000_000, true),
        "google.protobuf.Timestamp" => seconds(entropy, 253_402_300_799, false),
        "google.protobuf.Value" => one_kind(descriptor, entropy, depth),
        _ => Vec::new(),
    };
    if !well_known.is_empty() {
        for (name, value) in well_known {
            message.set_field_by_name(&name, value);
        }
        return message;
    }
    let fields: Vec<_> = descriptor.fields().collect();
    if fields.is_empty() || matches!(descriptor.full_name(), "google.protobuf.Any") {
        return message;
    }
    let count = if depth > DEPTH_MAX {
        0
    } else {
        usize::from(entropy.byte() % 6)
    };
    for _ in 0..count {
        let field = entropy.pick(&fields).clone();
        if let Some(value) = field_value(&field, entropy, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

fn packed(
    descriptor: &MessageDescriptor,
    entropy: &mut Entropy<'_>,
    depth: usize,
) -> Vec<(String, Value)> {
    let name = entropy.pick(PACKED);
    let inner = descriptor
        .parent_pool()
        .get_message_by_name(name)
        .expect("a type of the pool");
    let inner = message(&inner, entropy, depth + 1);
    let url = format!("type.googleapis.com/{name}");
    vec![
        ("type_url".to_owned(), Value::String(url)),
        (
            "value".to_owned(),
            Value::Bytes(inner.encode_to_vec().into()),
        ),
    ]
}

fn seconds(entropy: &mut Entropy<'_>, limit: u64, signed: bool) -> Vec<(String, Value)> {
    let seconds = i64::try_from(entropy.word() % limit).expect("below the limit");
    let nanos = i32::try_from(entropy.word() % 1_000_000_000).expect("below a second");
    let (seconds, nanos) = if signed && entropy.byte() % 4 == 1 {
        (-seconds, -nanos)
    } else {
        (seconds, nanos)
    };
    vec![
        ("seconds".to_owned(), Value::I64(seconds)),
        ("nanos".to_owned(), Value::I32(nanos)),
    ]
}

/// A `Value` must hold something, and past some depth only a string.
fn one_kind(
    descriptor: &MessageDescriptor,
    entropy: &mut Entropy<'_>,
    depth: usize,
) -> Vec<(String, Value)> {
    let fields: Vec<_> = descriptor.fields().collect();
    let field = entropy.pick(&fields).clone();
    let shallow = depth <= DEPTH_MAX || !matches!(field.kind(), Kind::Message(_));
    let value = if shallow {
        field_value(&field, entropy, depth)
    } else {
        None
    };
    match value {
        Some(value) => vec![(field.name().to_owned(), value)],
        None => vec![("string_value".to_owned(), Value::String("deep".to_owned()))],
    }
}

fn field_value(field: &FieldDescriptor, entropy: &mut Entropy<'_>, depth: usize) -> Option<Value> {
    let length = usize::from(entropy.byte() % 3);
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries =
            (0..length).map(|_| Some((map_key(&key, entropy)?, scalar(&value, entropy, depth)?)));
        return entries.collect::<Option<_>>().map(Value::Map);
    }
    if field.is_list() {
        let items = (0..length).map(|_| scalar(field, entropy, depth));
        return items.collect::<Option<_>>().map(Value::List);
    }
    scalar(field, entropy, depth)
}

fn map_key(field: &FieldDescriptor, entropy: &mut Entropy<'_>) -> Option<MapKey> {
    match scalar(field, entropy, 0)? {
        Value::Bool(value) => Some(MapKey::Bool(value)),
        Value::I32(value) => Some(MapKey::I32(value)),
        Value::I64(value) => Some(MapKey::I64(value)),
        Value::String(value) => Some(MapKey::String(value)),
        Value::U32(value) => Some(MapKey::U32(value)),
        Value::U64(value) => Some(MapKey::U64(value)),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "random bits are as good after a cut"
)]
#[expect(
    clippy::cast_precision_loss,
    reason = "random bits are as good after rounding"
)]
fn scalar(field: &FieldDescriptor, entropy: &mut Entropy<'_>, depth: usize) -> Option<Value> {
    Some(match field.kind() {
        Kind::Bool => Value::Bool(entropy.byte() % 2 == 1),
        Kind::Bytes => Value::Bytes(
            (0..entropy.byte() % 5)
                .map(|_| entropy.byte())
                .collect::<Vec<_>>()
                .into(),
        ),
        Kind::Double => Value::F64(entropy.word().cast_signed() as f64 / 8.0),
        Kind::Enum(one) => {
            let numbers: Vec<_> = one.values().map(|value| value.number()).collect();
            Value::EnumNumber(*entropy.pick(&numbers))
        }
        Kind::Fixed32 | Kind::Uint32 => Value::U32(entropy.word() as u32),
        Kind::Fixed64 | Kind::Uint64 => Value::U64(entropy.word()),
        Kind::Float => Value::F32(entropy.word().cast_signed() as f32 / 8.0),
        Kind::Int32 | Kind::Sfixed32 | Kind::Sint32 => Value::I32(entropy.word() as i32),
        Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 => Value::I64(entropy.word().cast_signed()),
        Kind::Message(descriptor) if depth > DEPTH_MAX + 4 => {
            let _ = descriptor;
            return None;
        }
        Kind::Message(descriptor) => Value::Message(message(&descriptor, entropy, depth + 1)),
        Kind::String => Value::String((*entropy.pick(STRINGS)).to_owned()),
    })
}
