//! Random messages survive the way through JSON and back; damaged input never panics.
//!
//! An independent library, prost-reflect, writes the JSON, so reader and printer cannot share a mistake.

mod common;
mod random;

use std::path::Path;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::proptest;
use prost::Message;
use prost::Name;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::SerializeOptions;
use serde_json::Value;
use xds_proto::Pool;
use xds_proto::any::unpack;
use xds_proto::dump;
use xds_proto::load;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::listener::v3::Listener;
use xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use xds_proto::pb::google::protobuf::Any;

use crate::common::summary;
use crate::random::Entropy;

static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);
static REFLECTION: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes = include_bytes!("../src/generated/descriptors.bin");
    DescriptorPool::decode(bytes.as_slice()).expect("the pruned set is closed")
});

/// Enough for a few dozen fields on several levels.
const ENTROPY_BYTES: usize = 600;

fn random_message<M: Name>(bytes: &[u8]) -> DynamicMessage {
    let descriptor = REFLECTION
        .get_message_by_name(&M::full_name())
        .expect("a resource type");
    random::message(&descriptor, &mut Entropy::new(bytes), 0)
}

fn to_json(message: &DynamicMessage, proto_names: bool) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(proto_names);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("JSON can say it")
}

fn load_one<M: Message + Name + Default>(json: Value) -> Result<M, String> {
    let Value::Object(mut members) = json else {
        return Err(format!("{json} is no object"));
    };
    members.insert("@type".to_owned(), Value::String(M::type_url()));
    let text = serde_json::json!({ "resources": [members] }).to_string();
    let file = load::resources(&POOL, Path::new("r.json"), &text);
    let file = file.map_err(|errors| format!("{text}\n{}", summary(&errors).join("\n")))?;
    let first = file.resources.first().ok_or("no resource")?;
    unpack(&first.any).map_err(|error| error.to_string())
}

fn round_trip<M: Message + Name + Default>(
    entropy: &[u8],
    proto_names: bool,
) -> Result<(), String> {
    let dynamic = random_message::<M>(entropy);
    let expected = to_json(&dynamic, true);

    let loaded: M = load_one(to_json(&dynamic, proto_names))?;
    exactly(&by_reflection(&loaded), &expected)?;

    let printed = dump::message_to_json(&POOL, &M::full_name(), &dynamic.encode_to_vec());
    same(&printed, &expected, "")?;
    let reloaded: M = load_one(printed)?;
    exactly(&by_reflection(&reloaded), &expected)
}

/// The JSON of a typed message. Messages are compared as JSON, since a map inside an `Any` has many encodings.
fn by_reflection<M: Message + Name>(message: &M) -> Value {
    let descriptor = REFLECTION
        .get_message_by_name(&M::full_name())
        .expect("a resource type");
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
    to_json(&dynamic.expect("prost and prost-reflect agree"), true)
}

fn exactly(found: &Value, expected: &Value) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("found {found}\nexpected {expected}"))
    }
}

/// Equal, numbers by value: libraries differ in how they spell them.
fn same(one: &Value, other: &Value, path: &str) -> Result<(), String> {
    let equal = match (one, other) {
        (Value::Array(ones), Value::Array(others)) if ones.len() == others.len() => {
            return ones
                .iter()
                .zip(others)
                .try_for_each(|(one, other)| same(one, other, &format!("{path}[]")));
        }
        (Value::Object(ones), Value::Object(others)) if ones.len() == others.len() => {
            return ones.iter().try_for_each(|(key, one)| {
                let other = others
                    .get(key)
                    .ok_or_else(|| format!("{path}.{key} only printed here"))?;
                same(one, other, &format!("{path}.{key}"))
            });
        }
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (
                one.as_f64().unwrap_or_default(),
                other.as_f64().unwrap_or_default(),
            );
            // A float goes through its shortest digits here and through a double there.
            (one - other).abs() <= one.abs() * 1e-6
        }
        _ => one == other,
    };
    if equal {
        Ok(())
    } else {
        Err(format!("{path}: {one} printed, {other} expected"))
    }
}

proptest! {
    #[test]
    fn clusters_survive(entropy in vec(any::<u8>(), 0..ENTROPY_BYTES), proto_names: bool) {
        prop_assert_eq!(round_trip::<Cluster>(&entropy, proto_names), Ok(()));
    }

    #[test]
    fn listeners_survive(entropy in vec(any::<u8>(), 0..ENTROPY_BYTES), proto_names: bool) {
        prop_assert_eq!(round_trip::<Listener>(&entropy, proto_names), Ok(()));
    }

    #[test]
    fn routes_survive(entropy in vec(any::<u8>(), 0..ENTROPY_BYTES), proto_names: bool) {
        prop_assert_eq!(round_trip::<RouteConfiguration>(&entropy, proto_names), Ok(()));
    }

    /// Bytes of a real message with a few of them changed.
    #[test]
    fn printing_damaged_bytes_never_panics(
        entropy in vec(any::<u8>(), 0..ENTROPY_BYTES),
        damage in vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = random_message::<Listener>(&entropy).encode_to_vec();
        let length = bytes.len().max(1);
        for (place, value) in damage {
            if let Some(byte) = bytes.get_mut(place % length) {
                *byte = value;
            }
        }
        dump::message_to_json(&POOL, &Listener::full_name(), &bytes);
        dump::any_to_json(&POOL, &Any { type_url: Listener::type_url(), value: bytes });
    }

    /// The text of a real file with a few characters changed.
    #[test]
    fn reading_damaged_text_never_panics(
        entropy in vec(any::<u8>(), 0..ENTROPY_BYTES),
        damage in vec((any::<usize>(), any::<char>()), 1..8),
    ) {
        let json = to_json(&random_message::<Cluster>(&entropy), true);
        let mut text: Vec<char> = serde_json::json!({ "resources": [json] }).to_string().chars().collect();
        let length = text.len().max(1);
        for (place, value) in damage {
            if let Some(character) = text.get_mut(place % length) {
                *character = value;
            }
        }
        let _ = load::resources(&POOL, Path::new("r.json"), &text.into_iter().collect::<String>());
    }

    #[test]
    fn reading_anything_like_yaml_never_panics(text in "([a-c0-9 ]|[:\\-?,\\[\\]{}#&*!|>'\"%@`~<\\\\.]|\n|\n  |: |- |\t|\r|\u{85}|\u{2028}|é|&a |\\*a|<<: |\"@type\": ){0,120}") {
        let _ = load::bootstrap(&POOL, Path::new("b.yaml"), &text);
        let _ = load::resources(&POOL, Path::new("r.yaml"), &text);
    }

    /// Places found for any path lie in the file.
    #[test]
    fn locating_anything_never_panics(path in "(name|load_assignment|endpoints|[.\\[\\]\"0-9é]){0,12}") {
        let text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: a\n";
        let file = load::resources(&POOL, Path::new("r.yaml"), text).expect("valid");
        let origin = file.resources.first().expect("one").spans.locate(&path);
        prop_assert_eq!((2..=3).contains(&origin.line), true);
    }
}
