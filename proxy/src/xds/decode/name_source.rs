//! Where members are named: `OverrideHostSource`.

use xds_proto::pb::envoy::extensions::load_balancing_policies::override_host::v3::override_host::OverrideHostSource;
use xds_proto::pb::envoy::r#type::metadata::v3::MetadataKey;
use xds_proto::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;

use super::Context;
use super::value;
use crate::config::load_balancing::NameSource;

/// Where members are named.
pub(super) fn decode(context: &mut Context, source: OverrideHostSource) -> Option<NameSource> {
    let OverrideHostSource { header, metadata } = source;
    match (header.is_empty(), metadata) {
        (false, Some(_)) => context.refuse("metadata", "must not be set beside header"),
        (true, None) => context.refuse("", "needs header or metadata"),
        (false, None) => value::header_name(context, "header", &header).map(NameSource::Header),
        (true, Some(key)) => context.field("metadata", |context| metadata_source(context, key)),
    }
}

/// What the PROXY protocol filter says of a connection is all the metadata there is.
fn metadata_source(context: &mut Context, key: MetadataKey) -> Option<NameSource> {
    let MetadataKey { key, path } = key;
    if key.is_empty() {
        context.reject("key", "must not be empty");
    }
    if path.is_empty() {
        context.reject("path", "must not be empty");
    }
    if path.len() > 1 {
        let nested = "with more than one segment it is never there, as all metadata is text";
        context.warn("path", nested);
    }
    let count = path.len();
    let path = context.each("path", path, |context, segment| match segment.segment {
        Some(Segment::Key(key)) if !key.is_empty() => Some(key.into_boxed_str()),
        Some(Segment::Index(_)) => {
            context.warn("index", "is never there, as no metadata is a list");
            None
        }
        Some(Segment::Key(_)) | None => context.refuse("key", "must not be empty"),
    });
    if path.len() < count {
        return None;
    }
    Some(NameSource::Metadata {
        namespace: key.into(),
        path: path.into(),
    })
}
