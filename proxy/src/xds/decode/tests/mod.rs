//! Tests of the decoders: tables of JSON resources with the exact field path expected, a walk over
//! every field (`fields`), and bytes that are no messages (`hostile`).

mod access_log;
mod circuit_breakers;
mod client_certificate;
mod cluster;
mod endpoint;
mod fields;
mod filter_chain;
mod filter_state;
mod hashing;
mod health;
mod hostile;
mod latency;
mod listener;
mod load_balancing;
mod outcome_breaker;
mod peak_ewma;
mod reported_weights;
mod retry;
mod route;
mod route_action;
mod secret;
mod session;
mod subset;
mod template;

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::prost_types::DescriptorProto;
use prost_reflect::prost_types::EnumDescriptorProto;
use prost_reflect::prost_types::FileDescriptorSet;
use serde_json::Value;

use super::DecodeError;
use super::Decoded;

/// The same descriptors that the loader uses.
static DESCRIPTORS: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../xds-proto/src/generated/descriptors.bin"
));

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).expect("the committed set is whole");
    for file in &mut set.file {
        allow_aliases(&mut file.enum_type);
        file.message_type.iter_mut().for_each(allow_nested_aliases);
    }
    DescriptorPool::from_file_descriptor_set(set).expect("the committed set is whole")
});

/// The committed set has no options; this one is needed to accept the set.
fn allow_aliases(enums: &mut [EnumDescriptorProto]) {
    for one in enums {
        one.options.get_or_insert_default().allow_alias = Some(true);
    }
}

fn allow_nested_aliases(message: &mut DescriptorProto) {
    allow_aliases(&mut message.enum_type);
    message
        .nested_type
        .iter_mut()
        .for_each(allow_nested_aliases);
}

/// The bytes of a message written as JSON.
fn encode(message: &str, json: Value) -> Vec<u8> {
    let descriptor = POOL.get_message_by_name(message).expect("it is in the set");
    DynamicMessage::deserialize(descriptor, json)
        .unwrap_or_else(|error| panic!("the JSON fits {message}: {error}"))
        .encode_to_vec()
}

/// `field: reason`, one per line, errors if there are any, else warnings.
fn reports<T>(result: &Result<Decoded<T>, DecodeError>) -> String {
    let list = match result {
        Ok(decoded) => &decoded.warnings,
        Err(error) => &error.errors,
    };
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Decodes one variation of a base resource per case and compares the outcome: `ok`, `warn FIELD` or
/// `FIELD` of the first error.
fn check_table<T>(
    base: &dyn Fn(Value) -> Value,
    decode: &dyn Fn(Value) -> Result<Decoded<T>, DecodeError>,
    cases: &[(Value, &str)],
) {
    for (change, expected) in cases {
        let result = decode(base(change.clone()));
        let actual = match &result {
            Ok(decoded) => decoded
                .warnings
                .first()
                .map_or_else(|| "ok".to_owned(), |w| format!("warn {}", w.field)),
            Err(error) => error
                .errors
                .first()
                .expect("an error has a reason")
                .field
                .clone(),
        };
        assert_eq!(actual, *expected, "{change}\n{}", reports(&result));
    }
}

/// Puts the members of `change` into the object `base`.
fn merged(mut base: Value, change: Value) -> Value {
    if let (Value::Object(base), Value::Object(change)) = (&mut base, change) {
        base.extend(change);
    }
    base
}
