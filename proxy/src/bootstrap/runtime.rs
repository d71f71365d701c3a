//! `layered_runtime`: of Envoy's runtime, the limits of downstream connections.
//!
//! Only what stands in the file counts. A key without effect is named, as a field would be.

use std::collections::BTreeMap;

use xds_proto::pb::envoy::config::bootstrap::v3::LayeredRuntime;
use xds_proto::pb::envoy::config::bootstrap::v3::RuntimeLayer;
use xds_proto::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::Value;
use xds_proto::pb::google::protobuf::value::Kind;

use crate::config::ConnectionLimits;
use crate::xds::decode::Context;

const PROCESS: &str = "overload.global_downstream_max_connections";
const LISTENER: &str = "envoy.resource_limits.listener.";
const LISTENER_END: &str = ".connection_limit";

/// Deepest nesting of keys: one level for each word of the longest, and a name with dots; for the
/// stack.
const DEPTH_MAX: usize = 16;

/// Reads the layers; later ones win.
pub(super) fn decode(context: &mut Context, runtime: LayeredRuntime) -> Option<ConnectionLimits> {
    let LayeredRuntime { layers } = runtime;
    let mut limits = ConnectionLimits::default();
    context.each("layers", layers, |context, layer| {
        self::layer(context, layer, &mut limits);
        Some(())
    });
    Some(limits)
}

fn layer(context: &mut Context, layer: RuntimeLayer, limits: &mut ConnectionLimits) {
    let RuntimeLayer {
        name,
        layer_specifier,
    } = layer;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    match layer_specifier {
        Some(LayerSpecifier::StaticLayer(layer)) => context.field("static_layer", |context| {
            keys(context, ("", DEPTH_MAX), layer, limits);
        }),
        Some(LayerSpecifier::DiskLayer(_)) => context.warn("disk_layer", NO_EFFECT),
        Some(LayerSpecifier::AdminLayer(_)) => context.warn("admin_layer", NO_EFFECT),
        Some(LayerSpecifier::RtdsLayer(_)) => context.warn("rtds_layer", NO_EFFECT),
        None => context.reject_missing("static_layer"),
    }
}

const NO_EFFECT: &str = "not supported, has no effect";
const OTHER_KEY: &str = "of the runtime, only limits of connections have an effect";

/// Nested keys are joined by dots.
fn keys(
    context: &mut Context,
    (before, depth): (&str, usize),
    layer: Struct,
    limits: &mut ConnectionLimits,
) {
    let Struct { fields } = layer;
    let fields: BTreeMap<String, Value> = fields.into_iter().collect(); // always in the same order
    for (key, Value { kind }) in fields {
        let whole = format!("{before}{key}");
        context.field(&key, |context| match (kind, depth.checked_sub(1)) {
            (Some(Kind::StructValue(inner)), Some(depth)) => {
                keys(context, (&format!("{whole}."), depth), inner, limits);
            }
            (Some(Kind::StructValue(_)), None) => context.reject("", "is nested too deeply"),
            (kind, _) => self::key(context, &whole, kind, limits),
        });
    }
}

fn key(context: &mut Context, key: &str, kind: Option<Kind>, limits: &mut ConnectionLimits) {
    let listener = key.strip_prefix(LISTENER);
    let listener = listener.and_then(|rest| rest.strip_suffix(LISTENER_END));
    if key != PROCESS && listener.is_none() {
        return context.warn("", OTHER_KEY);
    }
    let Some(limit) = count(kind) else {
        return context.reject("", "must be a whole number of connections");
    };
    match listener {
        Some(name) => drop(limits.listeners.insert(name.into(), limit)),
        None => limits.process = limit,
    }
}

/// A number, or a number in text, as Envoy reads both.
fn count(kind: Option<Kind>) -> Option<usize> {
    let text = match kind? {
        Kind::NumberValue(number) => number.to_string(),
        Kind::StringValue(text) => text,
        Kind::NullValue(_) | Kind::BoolValue(_) | Kind::StructValue(_) | Kind::ListValue(_) => {
            return None;
        }
    };
    text.parse().ok()
}
