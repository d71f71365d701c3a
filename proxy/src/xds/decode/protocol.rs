//! `core.v3` HTTP protocol options, which listeners and clusters share.

use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;

use super::Context;
use super::IsSet;
use super::value;
use crate::config::cluster::Http2Options;
use crate::config::limits;
use crate::config::listener::Underscores;

/// Envoy's bounds of both HTTP/2 windows (RFC 9113 section 6.9 sets the upper one).
const WINDOW_BOUNDS: (u32, u32) = (65_535, i32::MAX.unsigned_abs());

/// What of `HttpProtocolOptions` is supported; absent fields are absent here too.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// Absent: the default; `Some(None)`: no limit.
    pub(crate) idle_timeout: Option<Option<Duration>>,
    /// Absent and zero are no limit.
    pub(crate) max_connection_duration: Option<Duration>,
    /// Downstream only; of 1.
    pub(crate) max_connection_duration_jitter: f64,
    /// Downstream only.
    pub(crate) max_headers_count: Option<u32>,
    /// Absent and zero are no limit.
    pub(crate) max_requests_per_connection: Option<u32>,
    /// Downstream only; absent and zero are no limit.
    pub(crate) max_stream_duration: Option<Duration>,
    /// Downstream only.
    pub(crate) underscores: Underscores,
}

/// Which side the options are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of a connection manager.
    Downstream,
    /// Of a cluster.
    Upstream,
}

impl Common {
    /// The idle timeout, `default` if it was not given.
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
            .unwrap_or(Some(limits::CONNECTION_IDLE_TIMEOUT))
    }
}

/// Reads `HttpProtocolOptions`.
pub(crate) fn common(
    context: &mut Context,
    options: core::HttpProtocolOptions,
    side: Side,
) -> Option<Common> {
    let core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = options;
    unsupported!(context, warn: max_response_headers_kb);
    if side == Side::Upstream {
        unsupported!(context, warn: max_connection_duration_jitter, max_headers_count, headers_with_underscores_action,
            max_stream_duration);
    }
    let underscores = value::enumeration(
        context,
        "headers_with_underscores_action",
        headers_with_underscores_action,
    )?;
    let field = "max_connection_duration_jitter";
    let jitter = context.optional(field, max_connection_duration_jitter, value::share);
    Some(Common {
        idle_timeout: idle_timeout
            .map(|idle_timeout| value::timeout(context, "idle_timeout", Some(idle_timeout), None)),
        max_connection_duration: value::timeout(
            context,
            "max_connection_duration",
            max_connection_duration,
            None,
        ),
        max_connection_duration_jitter: jitter.unwrap_or_default(),
        max_headers_count: value::number(
            context,
            "max_headers_count",
            max_headers_count,
            (1, u32::MAX),
        ),
        max_stream_duration: value::timeout(
            context,
            "max_stream_duration",
            max_stream_duration,
            None,
        ),
        max_requests_per_connection: max_requests_per_connection
            .map(|most| most.value)
            .filter(|most| *most > 0),
        underscores: match underscores {
            HeadersWithUnderscoresAction::Allow => Underscores::Allow,
            HeadersWithUnderscoresAction::RejectRequest => Underscores::Reject,
            HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
        },
    })
}

/// Reads `Http1ProtocolOptions`: whether HTTP/1.0 is accepted.
pub(crate) fn http1(
    context: &mut Context,
    options: core::Http1ProtocolOptions,
    side: Side,
) -> Option<bool> {
    let core::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser,
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = options;
    // What we refuse here is refused request by request; the stricter side is safe to take.
    unsupported!(context, warn: default_host_for_http_10, header_key_format, enable_trailers,
        allow_chunked_length, override_stream_error_on_invalid_http_message, use_balsa_parser,
        allow_custom_methods, ignore_http_11_upgrade);
    // An upstream that is a forward proxy cannot work with origin-form targets.
    unsupported!(context, reject: send_fully_qualified_url);
    let allow_absolute_url = value::is_false(allow_absolute_url);
    unsupported!(context, warn "absolute targets are always accepted": allow_absolute_url);
    if side == Side::Upstream {
        unsupported!(context, warn: accept_http_10);
    }
    Some(accept_http_10)
}

/// Reads `Http2ProtocolOptions`.
pub(crate) fn http2(
    context: &mut Context,
    options: core::Http2ProtocolOptions,
) -> Option<Http2Options> {
    let core::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        use_oghttp2_codec,
        max_metadata_size,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = options;
    // Flood limits are our own (`config::limits`) and on by default.
    unsupported!(context, warn "our own limits hold": max_outbound_frames, max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent, max_header_field_size_kb,
        stream_reset_burst, stream_reset_rate);
    unsupported!(context, warn: hpack_table_size, allow_metadata,
        stream_error_on_invalid_http_messaging, override_stream_error_on_invalid_http_message,
        custom_settings_parameters, use_oghttp2_codec, max_metadata_size, enable_huffman_encoding);
    let disallow_obs_text = value::is_true(disallow_obs_text);
    unsupported!(context, reject: disallow_obs_text);
    let default = Http2Options::default();
    let mut window = |field, size, default| {
        value::number(context, field, size, WINDOW_BOUNDS).unwrap_or(default)
    };
    let initial_stream_window = window(
        "initial_stream_window_size",
        initial_stream_window_size,
        default.initial_stream_window,
    );
    let initial_connection_window = window(
        "initial_connection_window_size",
        initial_connection_window_size,
        default.initial_connection_window,
    );
    let streams = value::number(
        context,
        "max_concurrent_streams",
        max_concurrent_streams,
        (1, i32::MAX.unsigned_abs()),
    );
    let (keepalive_interval, keepalive_timeout) = context
        .optional("connection_keepalive", connection_keepalive, keepalive)
        .unwrap_or((None, default.keepalive_timeout));
    Some(Http2Options {
        allow_connect,
        max_concurrent_streams: streams.unwrap_or(default.max_concurrent_streams),
        initial_stream_window,
        initial_connection_window,
        keepalive_interval,
        keepalive_timeout,
    })
}

fn keepalive(
    context: &mut Context,
    settings: core::KeepaliveSettings,
) -> Option<(Option<Duration>, Duration)> {
    let core::KeepaliveSettings {
        interval,
        timeout,
        interval_jitter,
        connection_idle_interval,
    } = settings;
    unsupported!(context, warn: interval_jitter, connection_idle_interval);
    if !timeout.is_set() {
        return context.missing("timeout");
    }
    let interval = value::duration(context, "interval", interval);
    let timeout = value::duration(context, "timeout", timeout)?;
    // Envoy's least value of both: shorter ones are a PING flood of our own making.
    let least = Duration::from_millis(1);
    if interval.is_some_and(|interval| interval < least) {
        context.reject("interval", "must be at least 1ms");
    }
    if timeout < least {
        context.reject("timeout", "must be at least 1ms");
    }
    Some((interval, timeout))
}
