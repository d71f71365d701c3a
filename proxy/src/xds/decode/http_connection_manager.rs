//! `HttpConnectionManager`: what happens on an HTTP connection before and after routing.

use std::sync::Arc;

use http::HeaderValue;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::InternalAddressConfig;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ServerHeaderTransformation;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::StripPortMode;

use super::Context;
use super::access_log;
use super::client_certificate;
use super::config_source;
use super::filter_chain;
use super::http_filter;
use super::protocol;
use super::protocol::Side;
use super::route;
use super::upgrade;
use super::value;
use crate::config::limits;
use crate::config::listener::Codec;
use crate::config::listener::EscapedSlashes;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::Jittered;
use crate::config::listener::RouteSource;
use crate::config::listener::ServerHeader;
use crate::config::listener::StripHostPort;
use crate::config::prefix_map::IpPrefix;

/// Envoy's bound of a request head, KiB.
const REQUEST_HEADERS_KB_MAX: u32 = 8192;

/// Value of the `server` header when none is configured.
const SERVER_NAME: &str = "weir";

/// Reads a connection manager.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
pub(crate) fn decode(
    context: &mut Context,
    manager: pb::HttpConnectionManager,
) -> Option<HttpConnectionManager> {
    let pb::HttpConnectionManager {
        codec_type,
        stat_prefix,
        http_filters,
        add_user_agent,
        tracing,
        common_http_protocol_options,
        http1_safe_max_connection_duration,
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
        server_name,
        server_header_transformation,
        scheme_header_transformation,
        max_request_headers_kb,
        stream_idle_timeout,
        stream_flush_timeout,
        request_timeout,
        request_headers_timeout,
        drain_timeout,
        drain_timeout_jitter,
        delayed_close_timeout,
        access_log,
        access_log_flush_interval,
        flush_access_log_on_new_request,
        access_log_options,
        use_remote_address,
        xff_num_trusted_hops,
        original_ip_detection_extensions,
        early_header_mutation_extensions,
        internal_address_config,
        skip_xff_append,
        via,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        forward_client_cert_details,
        set_current_client_cert_details,
        forward_client_cert_matcher,
        proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        upgrade_configs,
        normalize_path,
        merge_slashes,
        path_with_escaped_slashes_action,
        request_id_extension,
        local_reply_config,
        strip_matching_host_port,
        stream_error_on_invalid_http_message,
        path_normalization_options,
        strip_trailing_host_dot,
        proxy_status_config,
        typed_header_validation_config,
        append_x_forwarded_port,
        append_local_overload,
        add_proxy_protocol_connection_state,
        forward_proto_config,
        route_specifier,
        strip_port_mode,
    } = manager;
    // Tuning, observation, and headers that tell more.
    let add_user_agent = value::is_true(add_user_agent);
    unsupported!(context, warn: add_user_agent, tracing, http1_safe_max_connection_duration,
        http3_protocol_options,
        access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
        proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6, request_id_extension,
        stream_error_on_invalid_http_message, proxy_status_config, append_x_forwarded_port,
        append_local_overload, add_proxy_protocol_connection_state);
    // Who the client is, what path and authority the request has, what is answered.
    unsupported!(context, reject: scheme_header_transformation, original_ip_detection_extensions,
        early_header_mutation_extensions, local_reply_config,
        path_normalization_options, strip_trailing_host_dot, typed_header_validation_config,
        forward_proto_config);
    unsupported!(context, reject "is not supported, forward_client_cert_details is for all requests": forward_client_cert_matcher);
    let client_certificate = client_certificate::decode(
        context,
        forward_client_cert_details,
        set_current_client_cert_details,
    );
    let escaped_slashes = escaped_slashes(context, path_with_escaped_slashes_action);
    let upgrades = upgrade::of_manager(context, upgrade_configs);

    if stat_prefix.is_empty() {
        context.reject("stat_prefix", "must not be empty");
    }
    let codec = codec(context, codec_type);
    let routes = match route_specifier {
        Some(specifier) => routes(context, specifier),
        None => context.refuse("", "needs a route_config or rds"),
    };
    let http_filters = http_filter::downstream(context, "http_filters", http_filters);
    let access_logs = access_log::decode(context, "access_log", access_log);
    let server_name = match server_name.as_str() {
        "" => Some(HeaderValue::from_static(SERVER_NAME)),
        name => value::header_value(context, "server_name", name),
    };
    let server_header = server_header(context, server_header_transformation);
    let via = match via.as_str() {
        "" => None,
        via => value::header_value(context, "via", via),
    };
    let common = context
        .optional(
            "common_http_protocol_options",
            common_http_protocol_options,
            |context, options| protocol::common(context, options, Side::Downstream),
        )
        .unwrap_or_default();
    let accept_http_10 = context.optional(
        "http_protocol_options",
        http_protocol_options,
        |context, options| protocol::http1(context, options, Side::Downstream),
    );
    let http2 = context.optional(
        "http2_protocol_options",
        http2_protocol_options,
        protocol::http2,
    );
    let internal_addresses = context.optional(
        "internal_address_config",
        internal_address_config,
        internal_addresses,
    );
    let request_timeout = value::timeout(context, "request_timeout", request_timeout, None);
    let request_headers_timeout = value::timeout(
        context,
        "request_headers_timeout",
        request_headers_timeout,
        None,
    );
    let stream_idle_timeout = value::timeout(
        context,
        "stream_idle_timeout",
        stream_idle_timeout,
        Some(limits::STREAM_IDLE_TIMEOUT),
    );
    let stream_flush_timeout = stream_flush_timeout
        .map(|given| value::timeout(context, "stream_flush_timeout", Some(given), None));
    let delayed_close_timeout = value::timeout(
        context,
        "delayed_close_timeout",
        delayed_close_timeout,
        Some(limits::DELAYED_CLOSE_TIMEOUT),
    );
    let drain_time = value::duration(context, "drain_timeout", drain_timeout);
    let drain_jitter = context.optional("drain_timeout_jitter", drain_timeout_jitter, value::share);
    let request_headers_kb = value::number(
        context,
        "max_request_headers_kb",
        max_request_headers_kb,
        (1, REQUEST_HEADERS_KB_MAX),
    );
    let strip_host_port = strip(context, strip_matching_host_port, strip_port_mode);
    Some(HttpConnectionManager {
        stat_prefix: stat_prefix.into(),
        codec: codec?,
        routes: routes?,
        http_filters: http_filters?,
        access_logs,
        server_name: server_name?,
        server_header: server_header?,
        via,
        use_remote_address: value::is_true(use_remote_address),
        xff_trusted_hops: xff_num_trusted_hops,
        skip_xff_append,
        generate_request_id: !value::is_false(generate_request_id),
        preserve_external_request_id,
        always_set_request_id_in_response,
        client_certificate: client_certificate?,
        request_timeout,
        request_headers_timeout,
        stream_idle_timeout,
        stream_flush_timeout,
        delayed_close_timeout,
        drain_timeout: Jittered {
            time: drain_time.unwrap_or(limits::HTTP2_DRAIN_TIMEOUT),
            jitter: drain_jitter.unwrap_or_default(),
        },
        idle_timeout: common.idle_timeout(),
        max_connection_duration: common.max_connection_duration.map(|time| Jittered {
            time,
            jitter: common.max_connection_duration_jitter,
        }),
        max_requests_per_connection: common.max_requests_per_connection,
        max_stream_duration: common.max_stream_duration,
        internal_addresses,
        request_headers_bytes_max: request_headers_kb
            .map_or(limits::REQUEST_HEADERS_BYTES_MAX, kibibytes),
        header_count_max: common
            .max_headers_count
            .map_or(limits::HEADER_COUNT_MAX, |most| {
                usize::try_from(most).unwrap_or(usize::MAX)
            }),
        underscores: common.underscores,
        normalize_path: value::is_true(normalize_path),
        merge_slashes,
        escaped_slashes: escaped_slashes?,
        strip_host_port,
        accept_http_10: accept_http_10.unwrap_or(false),
        http2: http2.unwrap_or_default(),
        upgrades,
    })
}

fn kibibytes(kb: u32) -> usize {
    usize::try_from(kb)
        .unwrap_or(usize::MAX)
        .saturating_mul(1024)
}

fn codec(context: &mut Context, codec: i32) -> Option<Codec> {
    Some(match value::enumeration(context, "codec_type", codec)? {
        CodecType::Auto => Codec::Auto,
        CodecType::Http1 => Codec::Http1,
        CodecType::Http2 => Codec::Http2,
        CodecType::Http3 => return context.unsupported("codec_type", "HTTP3 is not supported"),
    })
}

fn server_header(context: &mut Context, transformation: i32) -> Option<ServerHeader> {
    let field = "server_header_transformation";
    Some(match value::enumeration(context, field, transformation)? {
        ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn routes(context: &mut Context, specifier: RouteSpecifier) -> Option<RouteSource> {
    match specifier {
        RouteSpecifier::RouteConfig(table) => context
            .field("route_config", |context| route::decode(context, table))
            .map(|table| RouteSource::Inline(Arc::new(table))),
        RouteSpecifier::Rds(rds) => context.field("rds", |context| self::rds(context, rds)),
        RouteSpecifier::ScopedRoutes(_) => context.unsupported("scoped_routes", "not supported"),
    }
}

fn rds(context: &mut Context, rds: pb::Rds) -> Option<RouteSource> {
    let pb::Rds {
        config_source,
        route_config_name,
    } = rds;
    context.required("config_source", config_source, config_source::aggregated);
    if route_config_name.is_empty() {
        return context.refuse("route_config_name", "must not be empty");
    }
    Some(RouteSource::Rds(route_config_name.into()))
}

/// The default is Envoy's.
fn escaped_slashes(context: &mut Context, action: i32) -> Option<EscapedSlashes> {
    let field = "path_with_escaped_slashes_action";
    Some(match value::enumeration(context, field, action)? {
        PathWithEscapedSlashesAction::ImplementationSpecificDefault
        | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
        PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
        PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
    })
}

fn strip(context: &mut Context, matching: bool, mode: Option<StripPortMode>) -> StripHostPort {
    let any = match mode {
        Some(StripPortMode::StripAnyHostPort(any)) => any,
        None => false,
    };
    match (matching, any) {
        (true, true) => {
            context.reject(
                "strip_any_host_port",
                "stands beside strip_matching_host_port",
            );
            StripHostPort::Any
        }
        (false, true) => StripHostPort::Any,
        (true, false) => StripHostPort::Matching,
        (false, false) => StripHostPort::None,
    }
}

fn internal_addresses(
    context: &mut Context,
    config: InternalAddressConfig,
) -> Option<Vec<IpPrefix>> {
    let InternalAddressConfig {
        unix_sockets,
        cidr_ranges,
    } = config;
    unsupported!(context, warn: unix_sockets);
    Some(context.each("cidr_ranges", cidr_ranges, filter_chain::range))
}
