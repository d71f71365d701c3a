//! What is spoken upstream: `HttpProtocolOptions` of the extension map, or the deprecated fields of
//! the cluster where that is missing.

use std::collections::HashMap;

use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::AutoHttpConfig;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::ExplicitHttpConfig;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UseDownstreamHttpConfig;
use xds_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::extension;
use super::http_filter;
use super::matcher;
use super::protocol;
use super::protocol::Common;
use super::protocol::Side;
use super::value;
use crate::config::cluster::AutoNames;
use crate::config::cluster::Http2Options;
use crate::config::cluster::UpstreamProtocol;
use crate::config::matcher::ResponseMatch;

/// All fields of a cluster that have a say.
pub(crate) struct Sources {
    pub(crate) typed: HashMap<String, Any>,
    pub(crate) upstream: Option<core::UpstreamHttpProtocolOptions>,
    pub(crate) common: Option<core::HttpProtocolOptions>,
    pub(crate) http1: Option<core::Http1ProtocolOptions>,
    pub(crate) http2: Option<core::Http2ProtocolOptions>,
    pub(crate) protocol_selection: i32,
    pub(crate) max_requests_per_connection: Option<UInt32Value>,
    /// Some connections are TLS.
    pub(crate) has_tls: bool,
}

/// What they say together.
#[derive(Debug, Default)]
pub(crate) struct Http {
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) auto_names: AutoNames,
    pub(crate) common: Common,
    pub(crate) http2: Http2Options,
    /// Answers that outlier detection takes for errors.
    pub(crate) errors: Option<ResponseMatch>,
}

/// Reads them.
pub(crate) fn decode(context: &mut Context, sources: Sources) -> Option<Http> {
    let Sources {
        typed,
        upstream: upstream_http_protocol_options,
        common: common_http_protocol_options,
        http1: http_protocol_options,
        http2: http2_protocol_options,
        protocol_selection,
        max_requests_per_connection,
        has_tls,
    } = sources;
    if let Some(http) = typed_options(context, typed, has_tls) {
        // Envoy refuses the two together; the newer one is the one that was meant.
        unsupported!(context, warn "typed_extension_protocol_options holds instead":
            upstream_http_protocol_options, common_http_protocol_options, http_protocol_options,
            http2_protocol_options, protocol_selection, max_requests_per_connection);
        return http;
    }
    let auto_names = context.optional(
        "upstream_http_protocol_options",
        upstream_http_protocol_options,
        |context, options| tls_options(context, options, has_tls),
    );
    let mut common = context
        .optional(
            "common_http_protocol_options",
            common_http_protocol_options,
            common_options,
        )
        .unwrap_or_default();
    if let Some(most) = max_requests_per_connection.filter(|most| most.value > 0) {
        common.max_requests_per_connection = Some(most.value);
    }
    context.optional(
        "http_protocol_options",
        http_protocol_options,
        |context, options| protocol::http1(context, options, Side::Upstream),
    );
    let is_http2 = http2_protocol_options.is_some();
    let http2 = context.optional(
        "http2_protocol_options",
        http2_protocol_options,
        protocol::http2,
    );
    let protocol = match value::enumeration(context, "protocol_selection", protocol_selection)? {
        ClusterProtocolSelection::UseDownstreamProtocol => UpstreamProtocol::SameAsDownstream,
        ClusterProtocolSelection::UseConfiguredProtocol if is_http2 => UpstreamProtocol::Http2,
        ClusterProtocolSelection::UseConfiguredProtocol => UpstreamProtocol::Http1,
    };
    Some(Http {
        protocol,
        auto_names: auto_names.unwrap_or_default(),
        common,
        http2: http2.unwrap_or_default(),
        errors: None,
    })
}

/// The outer `None` says that the map has no HTTP options.
fn typed_options(
    context: &mut Context,
    typed: HashMap<String, Any>,
    has_tls: bool,
) -> Option<Option<Http>> {
    let mut http = None;
    let mut entries: Vec<_> = typed.into_iter().collect();
    entries.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    for (name, any) in entries {
        context.item(
            "typed_extension_protocol_options",
            format!("{name:?}"),
            |context| {
                if extension::holds::<HttpProtocolOptions>(&any) {
                    let unpacked = extension::unpack(context, &any);
                    http = Some(unpacked.and_then(|o| options(context, o, has_tls)));
                } else {
                    extension::unknown(context, &any, false);
                }
            },
        );
    }
    http
}

fn options(context: &mut Context, options: HttpProtocolOptions, has_tls: bool) -> Option<Http> {
    let HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = options;
    unsupported!(context, warn: request_mirror_policies, hash_policy, retry_policy);
    unsupported!(context, reject: header_validation_config);
    http_filter::upstream(context, "http_filters", http_filters);
    let auto_names = context.optional(
        "upstream_http_protocol_options",
        upstream_http_protocol_options,
        |context, options| tls_options(context, options, has_tls),
    );
    let errors = context.optional(
        "outlier_detection",
        outlier_detection,
        |context, options| {
            let OutlierDetection { error_matcher } = options;
            context.optional("error_matcher", error_matcher, matcher::response)
        },
    );
    let common = context
        .optional(
            "common_http_protocol_options",
            common_http_protocol_options,
            common_options,
        )
        .unwrap_or_default();
    let (protocol, http2) = match upstream_protocol_options {
        None => context.missing("upstream_protocol_options"),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => {
            context.field("explicit_http_config", |context| explicit(context, config))
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => context
            .field("use_downstream_protocol_config", |context| {
                same_as_downstream(context, config)
            }),
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            context.field("auto_config", |context| automatic(context, config, has_tls))
        }
    }?;
    Some(Http {
        protocol,
        auto_names: auto_names.unwrap_or_default(),
        common,
        http2,
        errors,
    })
}

type Spoken = (UpstreamProtocol, Http2Options);

fn explicit(context: &mut Context, config: ExplicitHttpConfig) -> Option<Spoken> {
    let ExplicitHttpConfig { protocol_config } = config;
    match protocol_config {
        None => context.missing("protocol_config"),
        Some(ProtocolConfig::HttpProtocolOptions(options)) => {
            context.field("http_protocol_options", |context| {
                protocol::http1(context, options, Side::Upstream)
            })?;
            Some((UpstreamProtocol::Http1, Http2Options::default()))
        }
        Some(ProtocolConfig::Http2ProtocolOptions(options)) => context
            .field("http2_protocol_options", |context| {
                protocol::http2(context, options)
            })
            .map(|http2| (UpstreamProtocol::Http2, http2)),
        Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
            context.unsupported("http3_protocol_options", "HTTP/3 is not supported")
        }
    }
}

fn same_as_downstream(context: &mut Context, config: UseDownstreamHttpConfig) -> Option<Spoken> {
    let UseDownstreamHttpConfig {
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
    } = config;
    // There is no HTTP/3 downstream to follow.
    unsupported!(context, warn: http3_protocol_options);
    context.optional(
        "http_protocol_options",
        http_protocol_options,
        |context, options| protocol::http1(context, options, Side::Upstream),
    );
    let http2 = context.optional(
        "http2_protocol_options",
        http2_protocol_options,
        protocol::http2,
    );
    Some((
        UpstreamProtocol::SameAsDownstream,
        http2.unwrap_or_default(),
    ))
}

/// ALPN decides.
fn automatic(context: &mut Context, config: AutoHttpConfig, has_tls: bool) -> Option<Spoken> {
    let AutoHttpConfig {
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
        alternate_protocols_cache_options,
    } = config;
    // Where HTTP/3 cannot be spoken the others are.
    unsupported!(context, warn: http3_protocol_options, alternate_protocols_cache_options);
    context.optional(
        "http_protocol_options",
        http_protocol_options,
        |context, options| protocol::http1(context, options, Side::Upstream),
    );
    let http2 = context.optional(
        "http2_protocol_options",
        http2_protocol_options,
        protocol::http2,
    );
    if !has_tls {
        context.warn("", "without TLS there is no ALPN: HTTP/1.1 is spoken");
        return Some((UpstreamProtocol::Http1, Http2Options::default()));
    }
    Some((UpstreamProtocol::Alpn, http2.unwrap_or_default()))
}

fn common_options(context: &mut Context, options: core::HttpProtocolOptions) -> Option<Common> {
    protocol::common(context, options, Side::Upstream)
}

/// Names of servers that come from requests.
fn tls_options(
    context: &mut Context,
    options: core::UpstreamHttpProtocolOptions,
    has_tls: bool,
) -> Option<AutoNames> {
    let core::UpstreamHttpProtocolOptions {
        auto_sni,
        auto_san_validation,
        override_auto_sni_header,
    } = options;
    if !has_tls {
        unsupported!(context, warn "has no effect without TLS": auto_sni, auto_san_validation,
            override_auto_sni_header);
    }
    let header = match override_auto_sni_header.as_str() {
        "" => None,
        name => value::header_name(context, "override_auto_sni_header", name),
    };
    Some(AutoNames {
        sni: auto_sni,
        san: auto_san_validation,
        header,
    })
}
