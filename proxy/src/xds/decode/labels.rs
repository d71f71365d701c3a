//! Labels that choose a member's transport: `core.v3.Metadata`, and the `Struct` they are compared with.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value as Json;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::Value;
use xds_proto::pb::google::protobuf::value::Kind;

use super::Context;
use crate::config::Name;
use crate::config::endpoint::Labels;
use crate::config::endpoint::Traits;

/// Where the labels stand.
const KEY: &str = "envoy.transport_socket_match";

/// Where the key of a member stands, under [`HASH_KEY`].
pub(super) const LB_KEY: &str = "envoy.lb";

const HASH_KEY: &str = "hash_key";

/// Values nested deeper are no labels; prost itself stops at 100.
const DEPTH_MAX: usize = 16;

/// What is used of the metadata of a member.
#[derive(Debug, Default)]
pub(crate) struct OfMember {
    pub(crate) labels: Option<Arc<Labels>>,
    pub(crate) hash_key: Option<Name>,
    pub(crate) traits: Option<Arc<Traits>>,
}

/// Reads the metadata of a member; what is not used has no effect.
pub(crate) fn of_member(context: &mut Context, mut metadata: Option<core::Metadata>) -> OfMember {
    let of_balancing = metadata
        .as_mut()
        .and_then(|all| all.filter_metadata.remove(LB_KEY));
    let mut of_balancing = of_balancing.unwrap_or_default();
    let key = of_balancing.fields.remove(HASH_KEY);
    let hash_key = match key.and_then(|key| key.kind) {
        None => None,
        Some(Kind::StringValue(key)) => Some(key).filter(|key| !key.is_empty()),
        Some(_) => {
            let reason = format!("{HASH_KEY} of {LB_KEY:?} is no text, has no effect");
            context.warn("metadata", reason);
            None
        }
    };
    OfMember {
        labels: of_metadata(context, metadata),
        hash_key: hash_key.map(Name::from),
        traits: traits(context, of_balancing).map(Arc::new),
    }
}

/// Reads the labels of a locality; other metadata has no effect.
pub(crate) fn of_metadata(
    context: &mut Context,
    metadata: Option<core::Metadata>,
) -> Option<Arc<Labels>> {
    let core::Metadata {
        mut filter_metadata,
        typed_filter_metadata,
    } = metadata?;
    let labels = filter_metadata.remove(KEY);
    let rest = filter_metadata.keys().chain(typed_filter_metadata.keys());
    if let Some(other) = rest.min() {
        context.warn(
            "metadata",
            format!("{other:?} is not supported, has no effect"),
        );
    }
    context.field("metadata", |context| {
        labels.and_then(|labels| of_struct(context, labels).map(Arc::new))
    })
}

/// Reads labels.
pub(crate) fn of_struct(context: &mut Context, labels: Struct) -> Option<Labels> {
    let Struct { fields } = labels;
    let mut read = Labels::new();
    for (name, value) in fields {
        let Some(json) = json(value, DEPTH_MAX) else {
            return context.refuse("", format!("{name:?} is nested too deep, or not a number"));
        };
        read.insert(name.into(), json.to_string().into());
    }
    Some(read)
}

/// What retries may avoid a member by; what cannot be compared has no effect.
fn traits(context: &mut Context, of_balancing: Struct) -> Option<Traits> {
    let mut traits = Traits::new();
    for (name, value) in of_balancing.fields {
        let Some(json) = json(value, DEPTH_MAX) else {
            let reason = format!("{name:?} of {LB_KEY:?} is nested too deep, has no effect");
            context.warn("metadata", reason);
            continue;
        };
        let mut texts: Vec<Box<str>> = Vec::new();
        if let Json::Array(values) = &json {
            texts.extend(values.iter().map(|value| value.to_string().into()));
        }
        texts.push(json.to_string().into());
        traits.insert(name.into(), texts.into());
    }
    Some(traits).filter(|traits| !traits.is_empty())
}

/// What a member must have to be avoided.
pub(crate) fn avoided(context: &mut Context, metadata: core::Metadata) -> Option<Labels> {
    let core::Metadata {
        mut filter_metadata,
        typed_filter_metadata,
    } = metadata;
    let labels = filter_metadata.remove(LB_KEY).unwrap_or_default();
    let rest = filter_metadata.keys().chain(typed_filter_metadata.keys());
    if let Some(other) = rest.min() {
        context.warn("", format!("{other:?} is not {LB_KEY:?}, has no effect"));
    }
    of_struct(context, labels)
}

fn json(value: Value, depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::NumberValue(value)) => serde_json::Number::from_f64(value)?.into(),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter().map(|value| json(value, depth));
            Json::Array(values.collect::<Option<_>>()?)
        }
        // The keys of serde_json's maps are sorted.
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.into_iter();
            let fields = fields.map(|(name, value)| Some((name, json(value, depth)?)));
            Json::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
    })
}
