//! The walk itself: which values a field is set to, and what came of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::rc::Rc;

use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::prost::encoding;

use super::roots::any;
use super::roots::base;
use super::roots::delimited;
use super::roots::roots;
use crate::xds::decode::FieldError;
use crate::xds::decode::tests::encode;

/// What decoding a resource gave.
pub(super) struct Outcome {
    pub(super) value: String,
    pub(super) errors: Vec<FieldError>,
    pub(super) warnings: Vec<FieldError>,
}

pub(super) type Wrap = Rc<dyn Fn(&[u8]) -> Outcome>;

/// A message to walk over, and how to decode what it is part of.
pub(super) struct Target {
    pub(super) message: MessageDescriptor,
    /// Valid messages without warnings, to which one field is added.
    pub(super) bases: Vec<Vec<u8>>,
    pub(super) decode: Wrap,
}

/// What setting a field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Supported,
    Warned,
    Rejected,
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) effects: BTreeSet<Effect>,
    /// Its message has a table of its own.
    pub(super) opened: bool,
    /// It takes any extension.
    pub(super) extension: bool,
    /// Of the first warning or refusal.
    pub(super) note: String,
}
fn new_warnings(before: &Outcome, after: &Outcome) -> Vec<FieldError> {
    after
        .warnings
        .iter()
        .filter(|warning| !before.warnings.contains(warning))
        .cloned()
        .collect()
}

/// What setting one field of one base to one value did.
fn effect(before: &Outcome, after: &Outcome, found: &mut Found) {
    let note = |errors: &[FieldError]| errors.first().map(|error| error.reason.clone());
    let effect = if let Some(reason) = note(&after.errors) {
        // Any other reason speaks of the value that was tried, not of the field.
        if ["support", "is for ", "has no "]
            .iter()
            .any(|text| reason.contains(text))
        {
            found.note.is_empty().then(|| found.note = reason);
            Effect::Rejected
        } else {
            Effect::Supported
        }
    } else if after.warnings != before.warnings {
        found
            .note
            .is_empty()
            .then(|| found.note = note(&new_warnings(before, after)).unwrap_or_default());
        Effect::Warned
    } else if after.value != before.value {
        Effect::Supported
    } else {
        return;
    };
    found.effects.insert(effect);
}

/// Walks over the fields of one message; what it opens on the way is appended to `queue`.
fn walk_message(
    target: &Target,
    queue: &mut VecDeque<Target>,
    invalid: &mut Vec<String>,
) -> BTreeMap<u32, (String, Found)> {
    let mut fields = BTreeMap::new();
    for field in target.message.fields() {
        let extension = matches!(field.kind(), Kind::Message(inner) if inner.full_name() == "google.protobuf.Any");
        let mut found = Found {
            extension,
            ..Found::default()
        };
        let mut opened = None;
        let mut is_taken_quietly = false;
        for base in &target.bases {
            let before = (target.decode)(base);
            if let Some(error) = before.errors.first() {
                invalid.push(format!("{}: {error}", target.message.full_name()));
                continue;
            }
            for value in candidates(&field) {
                let mut one = Found::default();
                let after = (target.decode)(&[base.clone(), value].concat());
                effect(&before, &after, &mut one);
                if one.effects.is_empty() || one.effects.contains(&Effect::Supported) {
                    opened.get_or_insert(base);
                }
                is_taken_quietly |= one.effects.is_empty();
                found.effects.extend(one.effects);
                if found.note.is_empty() {
                    found.note = one.note;
                }
            }
        }
        // What is said anyway is no less supported than what is refused.
        if is_taken_quietly
            && matches!(field.kind(), Kind::Enum(_) | Kind::String)
            && found.effects.contains(&Effect::Rejected)
        {
            found.effects.insert(Effect::Supported);
        }
        if let (Kind::Message(inner), Some(base)) = (field.kind(), opened)
            && !field.is_map()
            && !inner.full_name().starts_with("google.")
        {
            found.opened = true;
            queue.push_back(open(target, &field, inner, base.clone()));
        }
        fields.insert(field.number(), (field.name().to_owned(), found));
    }
    fields
}

fn open(
    outer: &Target,
    field: &FieldDescriptor,
    message: MessageDescriptor,
    rest: Vec<u8>,
) -> Target {
    let (decode, number) = (Rc::clone(&outer.decode), field.number());
    let bases = vec![encode(message.full_name(), base(message.full_name()))];
    let decode: Wrap =
        Rc::new(move |bytes| decode(&[rest.clone(), delimited(number, bytes)].concat()));
    Target {
        message,
        bases,
        decode,
    }
}

pub(super) type Tables = Vec<(String, BTreeMap<u32, (String, Found)>)>;

/// Everything reachable, by message name in the order found.
pub(super) fn walk() -> Tables {
    let mut queue: VecDeque<Target> = roots().into();
    let mut seen: BTreeSet<String> = queue
        .iter()
        .map(|root| root.message.full_name().to_owned())
        .collect();
    let mut found = Vec::new();
    let mut invalid = Vec::new();
    while let Some(target) = queue.pop_front() {
        let mut opened = VecDeque::new();
        found.push((
            target.message.full_name().to_owned(),
            walk_message(&target, &mut opened, &mut invalid),
        ));
        for inner in opened {
            let name = inner.message.full_name();
            if seen.insert(name.to_owned()) {
                queue.push_back(inner);
            }
        }
    }
    assert!(
        invalid.is_empty(),
        "bases that are not valid:\n{}",
        invalid.join("\n")
    );
    found
}

/// Encoded fields that set `field` to something.
fn candidates(field: &FieldDescriptor) -> Vec<Vec<u8>> {
    let number = field.number();
    let varint = |value: u64| {
        let mut bytes = Vec::new();
        encoding::encode_key(number, encoding::WireType::Varint, &mut bytes);
        encoding::encode_varint(value, &mut bytes);
        bytes
    };
    match field.kind() {
        // Inside a oneof, false is not the same as absent.
        Kind::Bool if field.containing_oneof().is_some() => vec![varint(1), varint(0)],
        Kind::Bool => vec![varint(1)],
        Kind::Enum(values) => values
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| varint(u64::try_from(value.number()).expect("none is negative")))
            .collect(),
        Kind::Message(message) => messages(field, &message)
            .iter()
            .map(|bytes| delimited(number, bytes))
            .collect(),
        Kind::String if field.name() == "retry_on" => vec![delimited(number, b"5xx")],
        Kind::String if field.name() == "factory_key" => ["x", "envoy.hashable_string"]
            .map(|text| delimited(number, text.as_bytes()))
            .to_vec(),
        Kind::String if field.name() == "metric_names_for_computing_utilization" => ["x", "eps"]
            .map(|text| delimited(number, text.as_bytes()))
            .to_vec(),
        Kind::String => ["x", "/x"]
            .map(|text| delimited(number, text.as_bytes()))
            .to_vec(),
        Kind::Bytes => vec![delimited(number, b"x")],
        Kind::Double => {
            let mut bytes = Vec::new();
            encoding::double::encode(number, &1.5, &mut bytes);
            vec![bytes]
        }
        Kind::Float => {
            let mut bytes = Vec::new();
            encoding::float::encode(number, &1.5, &mut bytes);
            vec![bytes]
        }
        _ => vec![varint(1), varint(70_000)],
    }
}

/// Values of a message field: enough for the wrappers, empty for the rest.
fn messages(field: &FieldDescriptor, message: &MessageDescriptor) -> Vec<Vec<u8>> {
    if field.is_map() {
        let value = message
            .get_field_by_name("value")
            .expect("an entry has a value");
        return candidates(&value)
            .into_iter()
            .map(|value| [delimited(1, b"x"), value].concat())
            .collect();
    }
    match message.full_name() {
        "google.protobuf.BoolValue" => vec![vec![8, 1], vec![]],
        "google.protobuf.DoubleValue" => {
            vec![[vec![9], 7_f64.to_le_bytes().to_vec()].concat(), vec![]]
        }
        "google.protobuf.Duration" => vec![vec![8, 7], vec![]],
        "google.protobuf.FloatValue" => {
            vec![[vec![13], 7_f32.to_le_bytes().to_vec()].concat(), vec![]]
        }
        "google.protobuf.UInt32Value" | "google.protobuf.UInt64Value" => {
            vec![vec![8, 7], vec![8, 0xf0, 0xa2, 0x04], vec![]]
        }
        "google.protobuf.Any" => vec![any("unknown.Type", b"")],
        "google.protobuf.Struct" => {
            let entry = [delimited(1, b"x"), delimited(2, &delimited(3, b"y"))].concat();
            vec![delimited(1, &entry)]
        }
        "google.protobuf.Value" => vec![delimited(3, b"%PROTOCOL%")],
        name => vec![vec![], encode(name, base(name))],
    }
}
