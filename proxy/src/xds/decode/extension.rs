//! `Any`: what type it holds, how to take it out, and which extensions may be left out unasked.

use prost::Message;
use xds_proto::pb::google::protobuf::Any;

use super::Context;

/// Extensions that only observe; a proxy without them answers the same.
const OBSERVING: &[&str] = &[
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
];

/// Packages whose extensions are Istio's own telemetry and negotiation helpers.
const OBSERVING_PACKAGES: &[&str] = &["io.istio.", "istio."];

/// The two spellings of a message that carries another one as JSON.
const TYPED_STRUCTS: &[&str] = &["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// The part of a `TypedStruct` we want; the linked API does not have the message.
#[derive(Clone, PartialEq, Message)]
struct TypedStructHead {
    #[prost(string, tag = "1")]
    type_url: String,
}

/// Full name of the message inside; of a `TypedStruct`, the one it stands for.
pub(crate) fn type_name(any: &Any) -> String {
    let outer = last_segment(&any.type_url);
    if !TYPED_STRUCTS.contains(&outer) {
        return outer.to_owned();
    }
    TypedStructHead::decode(any.value.as_slice()).map_or_else(
        |_| outer.to_owned(),
        |head| last_segment(&head.type_url).to_owned(),
    )
}

/// Whether it holds this message itself, not in a `TypedStruct`.
pub(crate) fn holds<M: prost::Name>(any: &Any) -> bool {
    last_segment(&any.type_url) == M::full_name()
}

/// Takes the message out.
pub(crate) fn unpack<M: Message + prost::Name + Default>(
    context: &mut Context,
    any: &Any,
) -> Option<M> {
    if !holds::<M>(any) {
        return context.refuse("", format!("{:?} is not {}", any.type_url, M::full_name()));
    }
    M::decode(any.value.as_slice()).map_or_else(|error| context.refuse("", error.to_string()), Some)
}

/// Whether leaving the extension out changes nothing but what can be observed.
pub(crate) fn is_observing(any: &Any) -> bool {
    let name = type_name(any);
    OBSERVING.contains(&name.as_str())
        || OBSERVING_PACKAGES
            .iter()
            .any(|package| name.starts_with(package))
}

/// Reports an extension we do not have, at the current field: a warning if it may be left out.
pub(crate) fn unknown(context: &mut Context, any: &Any, is_optional: bool) {
    let name = type_name(any);
    if is_optional {
        context.warn(
            "",
            format!("{name} is not supported and left out, being optional"),
        );
    } else if is_observing(any) {
        context.warn(
            "",
            format!("{name} is not supported and left out, it only observes"),
        );
    } else {
        context.reject_unsupported("", format!("{name} is not supported"));
    }
}

fn last_segment(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}
