//! `ListenerFilter`s: what is found out of a connection before a filter chain is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_proto::pb::envoy::config::core::v3::ProxyProtocolPassThroughTlVs;
use xds_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version as PbVersion;
use xds_proto::pb::envoy::config::core::v3::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType;
use xds_proto::pb::envoy::config::listener::v3 as pb;
use xds_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use xds_proto::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::MatchSet;
use xds_proto::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use xds_proto::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use xds_proto::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use xds_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as pb_proxy_protocol;
use xds_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3::proxy_protocol::TlvLocation;
use xds_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3::proxy_protocol::key_value_pair::ValueStringEncoding as Encoding;
use xds_proto::pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
use xds_proto::pb::envoy::r#type::v3::Int32Range;

use super::Context;
use super::extension;
use super::value;
use crate::config::limits;
use crate::config::listener_filter::FilterPredicate;
use crate::config::listener_filter::KeptTlvs;
use crate::config::listener_filter::ListenerFilter;
use crate::config::listener_filter::ListenerFilterKind;
use crate::config::listener_filter::ProxyProtocol;
use crate::config::listener_filter::TlsInspector;
use crate::config::listener_filter::TlvRule;
use crate::downstream::Label;
use crate::downstream::TLV_STATE;
use crate::net::proxy_protocol::Version;

/// Deepest nesting of predicates: enough for anything written by hand, and for the stack.
const PREDICATE_DEPTH_MAX: usize = 8;

/// Where TLVs are found as dynamic metadata, unless a rule says otherwise.
const PROXY_PROTOCOL_NAMESPACE: &str = "envoy.filters.listener.proxy_protocol";

/// Envoy's bounds of `max_client_hello_size`.
const CLIENT_HELLO_BYTES: (u32, u32) = (256, 16 * 1024);

/// Reads a listener filter; none if it is left out.
pub(crate) fn decode(context: &mut Context, filter: pb::ListenerFilter) -> Option<ListenerFilter> {
    let pb::ListenerFilter {
        name,
        filter_disabled,
        config_type,
    } = filter;
    let disabled = match filter_disabled {
        None => None,
        Some(rule) => Some(context.field("filter_disabled", |context| {
            predicate(context, rule, PREDICATE_DEPTH_MAX)
        })?),
    };
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return context.unsupported("config_discovery", "not supported");
        }
        None => return context.refuse("typed_config", format!("is required for {name:?}")),
    };
    let kind = context.field("typed_config", |context| {
        if extension::holds::<HttpInspector>(&any) {
            let HttpInspector {} = extension::unpack(context, &any)?;
            Some(ListenerFilterKind::HttpInspector)
        } else if extension::holds::<OriginalDst>(&any) {
            let OriginalDst {} = extension::unpack(context, &any)?;
            Some(ListenerFilterKind::OriginalDst)
        } else if extension::holds::<pb_proxy_protocol::ProxyProtocol>(&any) {
            let filter = extension::unpack(context, &any)?;
            proxy_protocol(context, filter).map(ListenerFilterKind::ProxyProtocol)
        } else if extension::holds::<tls_inspector::TlsInspector>(&any) {
            let filter = extension::unpack(context, &any)?;
            Some(ListenerFilterKind::TlsInspector(tls(context, filter)))
        } else {
            extension::unknown(context, &any, false);
            None
        }
    })?;
    Some(ListenerFilter { kind, disabled })
}

/// The TLS inspector as Envoy adds it where filter chains need one.
/// What `use_original_dst` needs.
pub(crate) fn original_dst() -> ListenerFilter {
    ListenerFilter {
        kind: ListenerFilterKind::OriginalDst,
        disabled: None,
    }
}

pub(crate) fn default_tls_inspector() -> ListenerFilter {
    ListenerFilter {
        kind: ListenerFilterKind::TlsInspector(TlsInspector {
            bytes_max: limits::CLIENT_HELLO_BYTES_MAX,
            close_broken: false,
        }),
        disabled: None,
    }
}

fn tls(context: &mut Context, filter: tls_inspector::TlsInspector) -> TlsInspector {
    let tls_inspector::TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = filter;
    let enable_ja3_fingerprinting = value::is_true(enable_ja3_fingerprinting);
    let enable_ja4_fingerprinting = value::is_true(enable_ja4_fingerprinting);
    unsupported!(context, warn: enable_ja3_fingerprinting, enable_ja4_fingerprinting);
    unsupported!(context, warn "has no effect, nothing is read before the end": initial_read_buffer_size);
    let size = value::number(
        context,
        "max_client_hello_size",
        max_client_hello_size,
        CLIENT_HELLO_BYTES,
    );
    TlsInspector {
        bytes_max: size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(limits::CLIENT_HELLO_BYTES_MAX),
        close_broken: close_connection_on_client_hello_parsing_errors,
    }
}

fn proxy_protocol(
    context: &mut Context,
    filter: pb_proxy_protocol::ProxyProtocol,
) -> Option<ProxyProtocol> {
    let pb_proxy_protocol::ProxyProtocol {
        rules,
        allow_requests_without_proxy_protocol,
        pass_through_tlvs,
        disallowed_versions,
        stat_prefix,
        tlv_location,
    } = filter;
    unsupported!(context, warn: stat_prefix);
    let location = value::enumeration::<TlvLocation>(context, "tlv_location", tlv_location)?;
    let is_state = location == TlvLocation::FilterState;
    let rules = context.each("rules", rules, |context, one| rule(context, one, is_state));
    let disallowed = context.each("disallowed_versions", disallowed_versions, version);
    let kept_tlvs = context.optional("pass_through_tlvs", pass_through_tlvs, kept_tlvs);
    Some(ProxyProtocol {
        is_optional: allow_requests_without_proxy_protocol,
        disallowed,
        kept_tlvs: kept_tlvs.unwrap_or_default(),
        rules: one_of_each_type(rules),
    })
}

/// Of several rules for one type the last counts, as in Envoy.
fn one_of_each_type(rules: Vec<TlvRule>) -> Vec<TlvRule> {
    let by_type = rules.into_iter().map(|rule| (rule.kind, rule));
    let by_type: BTreeMap<_, _> = by_type.collect();
    by_type.into_values().collect()
}

fn rule(
    context: &mut Context,
    rule: pb_proxy_protocol::proxy_protocol::Rule,
    is_state: bool,
) -> Option<TlvRule> {
    let pb_proxy_protocol::proxy_protocol::Rule {
        tlv_type,
        on_tlv_present,
    } = rule;
    let Ok(kind) = u8::try_from(tlv_type) else {
        return context.refuse("tlv_type", format!("{tlv_type} is not within 0 and 255"));
    };
    let (mut label, is_base64) = context.required("on_tlv_present", on_tlv_present, label)?;
    if is_state {
        label.namespace = TLV_STATE.into(); // one object holds them all
        label.is_state = true;
    }
    Some(TlvRule {
        kind,
        label: Arc::new(label),
        is_base64,
    })
}

/// Where the value is found, and whether as base64.
fn label(
    context: &mut Context,
    pair: pb_proxy_protocol::proxy_protocol::KeyValuePair,
) -> Option<(Label, bool)> {
    let pb_proxy_protocol::proxy_protocol::KeyValuePair {
        metadata_namespace,
        key,
        value_string_encoding,
    } = pair;
    let field = "value_string_encoding";
    let encoding = value::enumeration::<Encoding>(context, field, value_string_encoding)?;
    if key.is_empty() {
        return context.refuse("key", "must not be empty");
    }
    let namespace = match metadata_namespace.as_str() {
        "" => PROXY_PROTOCOL_NAMESPACE,
        namespace => namespace,
    };
    let label = Label {
        namespace: namespace.into(),
        key: key.into(),
        is_state: false,
    };
    Some((label, encoding == Encoding::Base64))
}

/// A version of the PROXY protocol.
pub(crate) fn version(context: &mut Context, version: i32) -> Option<Version> {
    Some(match value::enumeration(context, "", version)? {
        PbVersion::V1 => Version::V1,
        PbVersion::V2 => Version::V2,
    })
}

/// Which TLVs are kept, or passed on.
pub(crate) fn kept_tlvs(
    context: &mut Context,
    tlvs: ProxyProtocolPassThroughTlVs,
) -> Option<KeptTlvs> {
    let ProxyProtocolPassThroughTlVs {
        match_type,
        tlv_type,
    } = tlvs;
    let kinds = context.each("tlv_type", tlv_type, |context, kind| {
        u8::try_from(kind).map_or_else(
            |_| context.refuse("", format!("{kind} is not within 0 and 255")),
            Some,
        )
    });
    Some(
        match value::enumeration(context, "match_type", match_type)? {
            PassTlVsMatchType::IncludeAll => KeptTlvs::All,
            PassTlVsMatchType::Include => KeptTlvs::Of(kinds),
        },
    )
}

fn predicate(
    context: &mut Context,
    predicate: pb::ListenerFilterChainMatchPredicate,
    depth: usize,
) -> Option<FilterPredicate> {
    let pb::ListenerFilterChainMatchPredicate { rule } = predicate;
    let Some(depth) = depth.checked_sub(1) else {
        return context.refuse("", "is nested too deeply");
    };
    let set = |context: &mut Context, field: &str, set: MatchSet| {
        let MatchSet { rules } = set;
        context.field(field, |context| {
            let count = rules.len();
            let rules = context.each("rules", rules, |context, rule| {
                self::predicate(context, rule, depth)
            });
            (rules.len() == count).then_some(rules)
        })
    };
    match rule {
        Some(Rule::AndMatch(rules)) => set(context, "and_match", rules).map(FilterPredicate::All),
        Some(Rule::OrMatch(rules)) => set(context, "or_match", rules).map(FilterPredicate::Any),
        Some(Rule::NotMatch(rule)) => context.field("not_match", |context| {
            self::predicate(context, *rule, depth).map(|rule| FilterPredicate::Not(Box::new(rule)))
        }),
        Some(Rule::AnyMatch(true)) => Some(FilterPredicate::Always),
        Some(Rule::AnyMatch(false)) => context.refuse("any_match", "must be true"),
        Some(Rule::DestinationPortRange(Int32Range { start, end })) => {
            let bounds = (u32::try_from(start), u32::try_from(end));
            let (Ok(start), Ok(end)) = bounds else {
                return context.refuse("destination_port_range", "must not be negative");
            };
            Some(FilterPredicate::DestinationPort(start..end))
        }
        None => context.refuse("", "needs a rule"),
    }
}
