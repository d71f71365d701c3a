//! `TlvEntry`: TLVs that are added to PROXY protocol headers.

use xds_proto::pb::envoy::config::core::v3::TlvEntry;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::ProxyProtocolTlvMergePolicy as Policy;

use super::Context;
use super::access_log;
use super::value;
use crate::config::access_log::Format;
use crate::config::added_tlv::AddedTlv;
use crate::config::added_tlv::TlvMerge;
use crate::config::added_tlv::TlvValue;

/// Reads one.
pub(crate) fn decode(context: &mut Context, tlv: TlvEntry) -> Option<AddedTlv> {
    let TlvEntry {
        r#type,
        value,
        format_string,
    } = tlv;
    let Ok(kind) = u8::try_from(r#type) else {
        return context.refuse("type", format!("{type} is not within 0 and 255"));
    };
    let value = match format_string {
        Some(_) if !value.is_empty() => {
            return context.refuse("format_string", "is given together with value");
        }
        Some(format) => {
            context.field("format_string", |context| {
                match access_log::log_format(context, format)? {
                    Format::Text(template) => Some(TlvValue::Template(template)),
                    Format::Json { .. } => context.unsupported("json_format", "not supported"),
                }
            })?
        }
        None if value.is_empty() => return context.refuse("value", "must not be empty"),
        None => TlvValue::Bytes(value.into()),
    };
    Some(AddedTlv { kind, value })
}

/// Reads what becomes of TLVs that came with the client.
pub(crate) fn merge(context: &mut Context, policy: i32) -> Option<TlvMerge> {
    let field = "proxy_protocol_tlv_merge_policy";
    Some(match value::enumeration(context, field, policy)? {
        Policy::AddIfAbsent => TlvMerge::AddIfAbsent,
        Policy::OverwriteByTypeIfExistsOrAdd => TlvMerge::Overwrite,
        Policy::AppendIfExistsOrAdd => TlvMerge::Append,
    })
}
