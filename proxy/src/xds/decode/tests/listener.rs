//! `Listener`, its filters and access logs.

use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::encode;
use super::merged;
use crate::config::Listener;
use crate::config::access_log::AccessLog;
use crate::config::endpoint::Address;
use crate::config::filter_chain::NetworkFilter;
use crate::config::listener::Codec;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::HttpFilter;
use crate::config::listener::RouteSource;
use crate::config::listener::StripHostPort;
use crate::config::listener::Underscores;
use crate::xds::decode::DecodeError;
use crate::xds::decode::Decoded;
use crate::xds::decode::Origin;
use crate::xds::decode::listener_message;

const LISTENER: &str = "envoy.config.listener.v3.Listener";
const HCM: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

pub(super) fn decode(json: Value) -> Result<Decoded<Listener>, DecodeError> {
    crate::xds::decode::listener(&encode(LISTENER, json))
}

pub(super) fn typed(name: &str) -> Value {
    json!({"@type": format!("type.googleapis.com/{name}")})
}

fn address(port: u32) -> Value {
    json!({"socket_address": {"address": "0.0.0.0", "port_value": port}})
}

pub(super) fn filter(change: Value) -> Value {
    json!({"name": "f", "typed_config": change})
}

pub(super) fn router() -> Value {
    json!({"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")})
}

pub(super) fn manager(change: Value) -> Value {
    let manager = json!({
        "@type": format!("type.googleapis.com/{HCM}"),
        "stat_prefix": "s",
        "route_config": {},
        "http_filters": [router()],
    });
    merged(manager, change)
}

pub(super) fn listener(change: Value) -> Value {
    let chain = json!({"filters": [filter(manager(json!({})))]});
    merged(
        json!({"name": "l", "address": address(80), "filter_chains": [chain]}),
        change,
    )
}

pub(super) fn chain(change: Value) -> Value {
    let chain = json!({"filters": [filter(manager(json!({})))]});
    listener(json!({"filter_chains": [merged(chain, change)]}))
}

pub(super) fn http(change: Value) -> Value {
    chain(json!({"filters": [filter(manager(change))]}))
}

pub(super) fn only_manager(change: Value) -> HttpConnectionManager {
    let decoded = decode(http(change)).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let NetworkFilter::HttpConnectionManager(manager) = &decoded.value.filter_chains[0].filter
    else {
        unreachable!("it is HTTP")
    };
    HttpConnectionManager::clone(manager)
}

pub(super) fn only_log(name: &str, change: Value) -> AccessLog {
    let log = json!({"name": "log", "typed_config": merged(typed(name), change)});
    only_manager(json!({"access_log": [log]}))
        .access_logs
        .remove(0)
}

pub(super) const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
pub(super) const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

#[test]
fn defaults_are_envoys() {
    let decoded = decode(listener(json!({}))).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let listener = decoded.value;
    assert_eq!(
        listener.address,
        Address::Socket("0.0.0.0:80".parse().expect("literal"))
    );
    assert_eq!((&*listener.name, listener.reuse_port), ("l", true));
    let manager = only_manager(json!({}));
    assert_eq!(manager.codec, Codec::Auto);
    assert_eq!(
        manager.http_filters,
        [HttpFilter::Router {
            suppress_envoy_headers: false,
            respects_expected_timeout: false,
        }]
    );
    assert_eq!(manager.server_name, HeaderValue::from_static("weir"));
    assert!(manager.generate_request_id && !manager.use_remote_address && !manager.normalize_path);
    assert_eq!(manager.stream_idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(manager.delayed_close_timeout, Some(Duration::from_secs(1)));
    assert_eq!(manager.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(manager.request_timeout, None);
    assert_eq!(
        (manager.request_headers_bytes_max, manager.header_count_max),
        (61_440, 100)
    );
}

#[test]
fn settings_of_the_manager() {
    let manager = only_manager(json!({
        "codec_type": "HTTP2",
        "route_config": null,
        "rds": {"route_config_name": "r", "config_source": {"ads": {}}},
        "server_name": "x",
        "via": "v",
        "use_remote_address": true,
        "xff_num_trusted_hops": 2,
        "stream_idle_timeout": "0s",
        "delayed_close_timeout": "0s",
        "drain_timeout": "3s",
        "drain_timeout_jitter": {"value": 50},
        "max_request_headers_kb": 8,
        "common_http_protocol_options": {"max_connection_duration": "4s", "max_connection_duration_jitter": {"value": 25}, "max_headers_count": 7, "headers_with_underscores_action": "REJECT_REQUEST"},
        "http_protocol_options": {"accept_http_10": true},
        "http2_protocol_options": {"connection_keepalive": {"interval": "3s", "timeout": "1s"}},
        "strip_any_host_port": true,
    }));
    assert!(matches!(&manager.routes, RouteSource::Rds(name) if &**name == "r"));
    let jittered = [Some(manager.drain_timeout), manager.max_connection_duration];
    let longest = jittered.map(|time| time.map(|time| time.of(1.0)));
    assert_eq!(
        longest,
        [4500, 5000].map(|ms| Some(Duration::from_millis(ms)))
    );
    assert_eq!(
        (
            manager.codec,
            manager.stream_idle_timeout,
            manager.delayed_close_timeout
        ),
        (Codec::Http2, None, None)
    );
    assert_eq!(
        (manager.request_headers_bytes_max, manager.header_count_max),
        (8192, 7)
    );
    assert_eq!(
        (manager.underscores, manager.strip_host_port),
        (Underscores::Reject, StripHostPort::Any)
    );
    assert!(manager.accept_http_10);
    assert_eq!(
        manager.http2.keepalive_interval,
        Some(Duration::from_secs(3))
    );
    assert_eq!(manager.http2.keepalive_timeout, Duration::from_secs(1));
}

#[test]
fn only_the_bootstrap_may_leave_port_and_name_open() {
    let open = json!({"name": "", "address": address(0)});
    let error = decode(listener(open.clone())).expect_err("from a control plane");
    let fields: Vec<_> = error
        .errors
        .iter()
        .map(|error| error.field.as_str())
        .collect();
    assert_eq!(fields, ["address.socket_address.port_value"]);
    let bytes = encode(LISTENER, listener(open));
    let message = prost::Message::decode(bytes.as_slice()).expect("just encoded");
    let decoded = listener_message(message, Origin::Bootstrap).expect("from the bootstrap");
    assert_eq!(&*decoded.value.name, "0.0.0.0:0");
}

#[test]
fn listeners() {
    let tls_inspector = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector");
    let proxy_protocol = typed("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol");
    let one = json!({"filters": [filter(manager(json!({})))]});
    check_table(
        &listener,
        &decode,
        &[
            (json!({"name": ""}), "name"),
            (json!({"address": null}), "address"),
            (json!({"address": {}}), "address"),
            (
                json!({"address": address(0)}),
                "address.socket_address.port_value",
            ),
            (
                json!({"address": {"socket_address": {"address": "localhost", "port_value": 1}}}),
                "address.socket_address.address",
            ),
            (
                json!({"address": {"socket_address": {"protocol": "UDP", "address": "::", "port_value": 1}}}),
                "address.socket_address.protocol",
            ),
            (json!({"address": {"pipe": {"path": "/run/x"}}}), "ok"),
            (
                json!({"address": {"pipe": {"path": "/run/x", "mode": 511}}}),
                "ok",
            ),
            (json!({"filter_chains": []}), "filter_chains"),
            (
                json!({"filter_chains": [one, one]}),
                "filter_chains[1].filter_chain_match",
            ),
            (
                json!({"filter_chains": [], "default_filter_chain": one}),
                "ok",
            ),
            (json!({"api_listener": {}}), "api_listener"),
            (json!({"use_original_dst": false}), "ok"),
            (json!({"use_original_dst": true}), "ok"),
            (json!({"bind_to_port": true}), "ok"),
            (json!({"bind_to_port": false}), "ok"),
            (json!({"internal_listener": {}}), "internal_listener"),
            (
                json!({"max_connections_to_accept_per_socket_event": 0}),
                "max_connections_to_accept_per_socket_event",
            ),
            (json!({"listener_filters": [filter(tls_inspector)]}), "ok"),
            (json!({"listener_filters": [filter(proxy_protocol)]}), "ok"),
            (
                json!({"traffic_direction": "INBOUND"}),
                "warn traffic_direction",
            ),
            (json!({"udp_listener_config": {}}), "udp_listener_config"),
            (json!({"drain_type": "MODIFY_ONLY"}), "ok"),
            (json!({"bypass_overload_manager": true}), "ok"),
            (
                json!({"connection_balance_config": {"exact_balance": {}}}),
                "ok",
            ),
            (
                json!({"connection_balance_config": {"extend_balance": {"name": "x"}}}),
                "connection_balance_config.extend_balance",
            ),
            (
                json!({"connection_balance_config": {}}),
                "connection_balance_config",
            ),
        ],
    );
}

#[test]
fn buffers() {
    let bytes = |more: Value| {
        let decoded = decode(listener(more)).expect("it is sound");
        decoded.value.filter_chains[0].allowance.buffer_bytes
    };
    let limit = |bytes: u32| json!({"per_connection_buffer_limit_bytes": bytes});
    assert_eq!(bytes(json!({})), 1024 * 1024);
    assert_eq!((bytes(limit(9)), bytes(limit(0))), (9, usize::MAX));
}

#[test]
fn sockets() {
    check_table(
        &listener,
        &decode,
        &[
            (
                json!({"additional_addresses": [{}]}),
                "additional_addresses[0].address",
            ),
            (
                json!({"additional_addresses": [{"address": address(81)}]}),
                "ok",
            ),
            (
                json!({"additional_addresses": [{
                    "address": address(81),
                    "socket_options": {"socket_options": [{"level": 1, "name": 9}]},
                    "tcp_keepalive": {"keepalive_time": 40_000},
                }]}),
                "additional_addresses[0].socket_options.socket_options[0]",
            ),
            (json!({"enable_mptcp": true}), "ok"),
            (json!({"tcp_fast_open_queue_length": 5}), "ok"),
            (
                json!({"tcp_fast_open_queue_length": u32::MAX}),
                "tcp_fast_open_queue_length",
            ),
            (json!({"tcp_fast_open_queue_length": 0}), "ok"),
            (json!({"freebind": true, "transparent": true}), "ok"),
            (json!({"tcp_keepalive": {"keepalive_time": 9}}), "ok"),
            (json!({"tcp_keepalive": {"keepalive_time": 0}}), "ok"),
            (
                json!({"tcp_keepalive": {"keepalive_time": 40_000}}),
                "tcp_keepalive.keepalive_time",
            ),
        ],
    );
}

#[test]
fn options_of_sockets() {
    check_table(
        &listener,
        &decode,
        &[
            (
                json!({"socket_options": [{"level": 1, "name": 9, "int_value": 1}]}),
                "ok",
            ),
            (
                json!({"socket_options": [{"level": 1, "name": 9, "int_value": u64::MAX >> 2}]}),
                "socket_options[0].int_value",
            ),
            (
                json!({"socket_options": [{"level": u64::MAX >> 2, "name": 9, "int_value": 1}]}),
                "socket_options[0].name",
            ),
            (
                json!({"socket_options": [{
                    "level": 6, "name": 13, "buf_value": "AA==", "state": "STATE_LISTENING",
                    "type": {"stream": {}}, "ip_version": "SOCKET_IP_VERSION_IPV6",
                }]}),
                "ok",
            ),
            (
                json!({"socket_options": [{"level": 1, "name": 9, "buf_value": "A".repeat(5464)}]}),
                "socket_options[0].buf_value",
            ),
            (
                json!({
                    "address": {"pipe": {"path": "/s", "mode": 0o600}},
                    "tcp_keepalive": {"keepalive_time": 9},
                }),
                "warn address",
            ),
            (
                json!({"address": {"pipe": {"path": "/s", "mode": 0o1000}}}),
                "address.pipe.mode",
            ),
            (
                json!({"address": {"pipe": {"path": "@s", "mode": 0o600}}}),
                "address.pipe.mode",
            ),
            (
                json!({"address": {"pipe": {"path": "/s"}}, "enable_mptcp": true}),
                "address",
            ),
            (
                json!({"socket_options": [{"level": 1, "name": 9}]}),
                "socket_options[0]",
            ),
        ],
    );
}

#[test]
fn rules_for_tlvs() {
    let filtered = |more: Value| {
        let proxy_protocol =
            typed("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol");
        listener(json!({"listener_filters": [filter(merged(proxy_protocol, more))]}))
    };
    let rule =
        |kind: u32, pair: Value| json!({"rules": [{"tlv_type": kind, "on_tlv_present": pair}]});
    let at = |field: &str| format!("listener_filters[0].typed_config.{field}");
    check_table(
        &filtered,
        &decode,
        &[
            (
                rule(2, json!({"key": "k", "value_string_encoding": "BASE64"})),
                "ok",
            ),
            (rule(256, json!({"key": "k"})), &at("rules[0].tlv_type")),
            (rule(2, json!({})), &at("rules[0].on_tlv_present.key")),
            (
                json!({"rules": [{"tlv_type": 2}]}),
                &at("rules[0].on_tlv_present"),
            ),
            (json!({"tlv_location": "FILTER_STATE"}), "ok"),
        ],
    );
}

#[test]
fn chains() {
    let at = |field: &str| format!("filter_chains[0].{field}");
    let tcp_proxy = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    let rbac = typed("envoy.extensions.filters.network.rbac.v3.RBAC");
    let http = || filter(manager(json!({})));
    let exchange = json!({
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
        "value": {},
    });
    let tls = typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    check_table(
        &chain,
        &decode,
        &[
            (json!({"filter_chain_match": {}}), "ok"),
            (json!({"filter_chain_match": {"server_names": ["a"]}}), "ok"),
            (
                json!({"transport_socket": {"name": "tls", "typed_config": tls}}),
                &at("transport_socket.typed_config.common_tls_context.tls_certificates"),
            ),
            (
                json!({"transport_socket": {"name": "tls"}}),
                &at("transport_socket.name"),
            ),
            (json!({"use_proxy_proto": true}), &at("use_proxy_proto")),
            (json!({"filters": []}), &at("filters")),
            (
                json!({"filters": [filter(tcp_proxy.clone())]}),
                &at("filters[0].typed_config.stat_prefix"),
            ),
            (
                json!({"filters": [filter(merged(tcp_proxy, json!({"stat_prefix": "t", "cluster": "c"})))]}),
                "ok",
            ),
            (
                json!({"filters": [filter(rbac), http()]}),
                &at("filters[0].typed_config"),
            ),
            (
                json!({"filters": [http(), http()]}),
                &at("filters[0].typed_config"),
            ),
            (
                json!({"filters": [{"name": "x"}]}),
                &at("filters[0].typed_config"),
            ),
            (
                json!({"filters": [filter(exchange.clone()), http()]}),
                &format!("warn {}", at("filters[0].typed_config")),
            ),
            (
                json!({"filters": [filter(exchange)]}),
                &at("filters[0].typed_config"),
            ),
        ],
    );
}

#[test]
fn connection_limits() {
    let at = |field: &str| format!("filter_chains[0].filters{field}");
    let http = || filter(manager(json!({})));
    let limit = |change: Value| {
        let limit = typed("envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit");
        let whole = json!({"stat_prefix": "l", "max_connections": 1});
        filter(merged(merged(limit, whole), change))
    };
    check_table(
        &chain,
        &decode,
        &[
            (json!({"filters": [limit(json!({})), http()]}), "ok"),
            (
                json!({"filters": [limit(json!({})), limit(json!({"delay": "1s"})), http()]}),
                "ok",
            ),
            (
                json!({"filters": [http(), limit(json!({}))]}),
                &at("[0].typed_config"),
            ),
            (
                json!({"filters": [limit(json!({"max_connections": 0})), http()]}),
                &at("[0].typed_config.max_connections"),
            ),
            (
                json!({"filters": [limit(json!({"runtime_enabled": {}})), http()]}),
                &at("[0].typed_config.runtime_enabled.default_value"),
            ),
        ],
    );
}

#[test]
fn upgrades() {
    let at = |field: &str| format!("filter_chains[0].filters[0].typed_config.{field}");
    check_table(
        &http,
        &decode,
        &[
            (
                json!({"upgrade_configs": [
                    {"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT", "enabled": false},
                ]}),
                "ok",
            ),
            (
                json!({"upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "WebSocket"}]}),
                &at("upgrade_configs[1].upgrade_type"),
            ),
            (
                json!({"upgrade_configs": [{}]}),
                &at("upgrade_configs[0].upgrade_type"),
            ),
            (
                json!({"upgrade_configs": [{"upgrade_type": "CONNECT"}]}),
                &at("upgrade_configs[0].upgrade_type"),
            ),
        ],
    );
}

#[test]
fn managers() {
    let at = |field: &str| {
        format!(
            "filter_chains[0].filters[0].typed_config{}{field}",
            if field.is_empty() { "" } else { "." }
        )
    };
    let warn = |field: &str| format!("warn {}", at(field));
    check_table(
        &http,
        &decode,
        &[
            (json!({"stat_prefix": ""}), &at("stat_prefix")),
            (json!({"codec_type": "HTTP3"}), &at("codec_type")),
            (json!({"route_config": null}), &at("")),
            (
                json!({"route_config": null, "scoped_routes": {}}),
                &at("scoped_routes"),
            ),
            (
                json!({"route_config": null, "rds": {}}),
                &at("rds.config_source"),
            ),
            (
                json!({"route_config": {"virtual_hosts": [{"name": "h", "domains": ["*"], "routes": [{}]}]}}),
                &at("route_config.virtual_hosts[0].routes[0].match"),
            ),
            (json!({"server_name": "a\nb"}), &at("server_name")),
            (
                json!({"max_request_headers_kb": 8193}),
                &at("max_request_headers_kb"),
            ),
            (
                json!({"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}),
                "ok",
            ),
            (
                json!({"path_with_escaped_slashes_action": 9}),
                &at("path_with_escaped_slashes_action"),
            ),
            (
                json!({"forward_client_cert_details": 9}),
                &at("forward_client_cert_details"),
            ),
            (json!({"tracing": {}}), &warn("tracing")),
            (json!({"local_reply_config": {}}), &at("local_reply_config")),
            (
                json!({"strip_matching_host_port": true, "strip_any_host_port": true}),
                &at("strip_any_host_port"),
            ),
            (
                json!({"http2_protocol_options": {"connection_keepalive": {"interval": "1s"}}}),
                &at("http2_protocol_options.connection_keepalive.timeout"),
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn http_filters() {
    let at = |field: &str| format!("filter_chains[0].filters[0].typed_config.http_filters{field}");
    let named = |name: &str, change: Value| json!({"name": name, "typed_config": change});
    let lua = || named("lua", typed("envoy.extensions.filters.http.lua.v3.Lua"));
    let cors = || named("cors", typed("envoy.extensions.filters.http.cors.v3.Cors"));
    let fault = |change| {
        named(
            "fault",
            merged(
                typed("envoy.extensions.filters.http.fault.v3.HTTPFault"),
                change,
            ),
        )
    };
    let stats = named(
        "stats",
        typed("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"),
    );
    let istio = json!({
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": "type.googleapis.com/stats.PluginConfig",
        "value": {"a": 1},
    });
    let filters = |list: Value| json!({"http_filters": list});
    let first = || at("[0].typed_config");
    check_table(
        &http,
        &decode,
        &[
            (filters(json!([])), &at("")),
            (filters(json!([lua()])), &at("[0]")),
            (filters(json!([router(), router()])), &at("[0]")),
            (
                filters(json!([lua(), lua(), router()])),
                &at("[0].typed_config"),
            ),
            (
                filters(json!([
                    merged(lua(), json!({"is_optional": true})),
                    router()
                ])),
                &format!("warn {}", first()),
            ),
            (
                filters(json!([merged(lua(), json!({"disabled": true})), router()])),
                &format!("warn {}", at("[0].disabled")),
            ),
            (
                filters(json!([merged(router(), json!({"disabled": true}))])),
                &at("[0].disabled"),
            ),
            (
                filters(json!([{"name": "router"}])),
                &at("[0].typed_config"),
            ),
            (
                filters(json!([cors(), router()])),
                &format!("warn {}", first()),
            ),
            (
                filters(json!([fault(json!({})), router()])),
                &format!("warn {}", first()),
            ),
            (
                filters(json!([fault(json!({"abort": {}})), router()])),
                &first(),
            ),
            (
                filters(json!([stats, router()])),
                &format!("warn {}", first()),
            ),
            (
                filters(json!([named("istio.stats", istio), router()])),
                &format!("warn {}", first()),
            ),
            (
                filters(json!([merged(router(), json!({"name": ""}))])),
                &at("[0].name"),
            ),
        ],
    );
    let twice = json!([
        merged(lua(), json!({"is_optional": true})),
        merged(router(), json!({"name": "lua"}))
    ]);
    let error = decode(http(filters(twice))).expect_err("the name is used twice");
    assert_eq!(error.errors[0].field, at("[1].name"));
}
