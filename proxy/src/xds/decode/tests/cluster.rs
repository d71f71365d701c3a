//! `Cluster`.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::encode;
use super::merged;
use crate::config::Cluster;
use crate::config::cluster::Discovery;
use crate::config::cluster::DnsFamily;
use crate::config::cluster::UpstreamProtocol;
use crate::config::load_balancing::LoadBalancing;
use crate::xds::decode::DecodeError;
use crate::xds::decode::Decoded;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn decode(json: Value) -> Result<Decoded<Cluster>, DecodeError> {
    crate::xds::decode::cluster(&encode("envoy.config.cluster.v3.Cluster", json))
}

pub(super) fn cluster(change: Value) -> Value {
    merged(json!({"name": "a"}), change)
}

pub(super) fn valid(change: Value) -> Cluster {
    let decoded = decode(cluster(change)).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    decoded.value
}

fn http(change: Value) -> Value {
    let any = merged(
        json!({
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": {"http_protocol_options": {}},
        }),
        change,
    );
    json!({"typed_extension_protocol_options": {HTTP_OPTIONS: any}})
}

fn assignment(host: &str) -> Value {
    let address = json!({"socket_address": {"address": host, "port_value": 80}});
    let member = json!({"endpoint": {"address": address}});
    json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": [member]}]})
}

#[test]
fn defaults_are_envoys() {
    let cluster = valid(json!({}));
    assert_eq!((&*cluster.name, &*cluster.stat_name), ("a", "a"));
    assert_eq!(
        cluster.discovery,
        Discovery::Static(std::sync::Arc::default())
    );
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(cluster.load_balancing, LoadBalancing::default());
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
    assert_eq!(
        (
            cluster.max_connection_duration,
            cluster.max_requests_per_connection
        ),
        (None, None)
    );
}

#[test]
fn eds_takes_the_service_name_or_the_clusters() {
    let eds = |service: &str| {
        json!({
            "type": "EDS",
            "eds_cluster_config": {"service_name": service, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
        })
    };
    for (service, expected) in [("", "a"), ("b", "b")] {
        let Discovery::Eds { service_name } = valid(eds(service)).discovery else {
            panic!("EDS")
        };
        assert_eq!(&*service_name, expected);
    }
}

#[test]
fn dns_targets_keep_host_and_place() {
    let cluster = valid(json!({
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "dns_refresh_rate": "30s",
        "load_assignment": assignment("example.com"),
    }));
    let Discovery::StrictDns(dns) = cluster.discovery else {
        panic!("DNS")
    };
    assert_eq!(
        (dns.family, dns.refresh_rate),
        (DnsFamily::V4Only, Duration::from_secs(30))
    );
    let [target] = dns.targets.as_slice() else {
        panic!("one target")
    };
    assert_eq!(
        (&*target.host, target.port, &*target.hostname),
        ("example.com", 80, "example.com")
    );
}

#[test]
fn the_dns_extension_replaces_the_fields() {
    let cluster = valid(json!({
        "cluster_type": {
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_lookup_family": "V6_ONLY",
            },
        },
        "load_assignment": assignment("example.com"),
    }));
    let Discovery::StrictDns(dns) = cluster.discovery else {
        panic!("DNS")
    };
    assert_eq!(dns.family, DnsFamily::V6Only);
}

#[test]
fn protocols_old_and_new() {
    let spoken = |change| valid(change).protocol;
    assert_eq!(
        spoken(json!({"http2_protocol_options": {}})),
        UpstreamProtocol::Http2
    );
    assert_eq!(
        spoken(json!({"protocol_selection": "USE_DOWNSTREAM_PROTOCOL"})),
        UpstreamProtocol::SameAsDownstream
    );
    assert_eq!(spoken(http(json!({}))), UpstreamProtocol::Http1);
    let http2 =
        json!({"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 7}}});
    let cluster = valid(http(http2));
    assert_eq!(
        (cluster.protocol, cluster.http2.max_concurrent_streams),
        (UpstreamProtocol::Http2, 7)
    );
    let same = json!({"explicit_http_config": null, "use_downstream_protocol_config": {}});
    assert_eq!(spoken(http(same)), UpstreamProtocol::SameAsDownstream);
}

#[test]
fn timeouts_of_zero_are_none() {
    let common = |change| http(json!({"common_http_protocol_options": change}));
    let cluster = valid(common(
        json!({"idle_timeout": "0s", "max_connection_duration": "60s"}),
    ));
    assert_eq!(cluster.idle_timeout, None);
    assert_eq!(
        cluster.max_connection_duration,
        Some(Duration::from_secs(60))
    );
    let cluster = valid(common(json!({"max_requests_per_connection": 9})));
    assert_eq!(cluster.max_requests_per_connection, Some(9));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn fields() {
    let options =
        |field: &str| format!("typed_extension_protocol_options[\"{HTTP_OPTIONS}\"].{field}");
    let tls = json!({
        "name": "tls",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
    });
    let raw = json!({
        "name": "raw",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
    });
    check_table(
        &cluster,
        &decode,
        &[
            (json!({"name": ""}), "name"),
            (json!({"connect_timeout": "0s"}), "connect_timeout"),
            (json!({"connect_timeout": "-1s"}), "connect_timeout"),
            (
                json!({"type": "LOGICAL_DNS", "load_assignment": assignment("b.c")}),
                "warn type",
            ),
            (json!({"type": "ORIGINAL_DST"}), "lb_policy"),
            (
                json!({"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}),
                "ok",
            ),
            (
                json!({
                    "type": "ORIGINAL_DST",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "original_dst_lb_config": {"use_http_header": true},
                }),
                "original_dst_lb_config.use_http_header",
            ),
            (json!({"type": 9}), "type"),
            (json!({"type": "STRICT_DNS"}), "load_assignment"),
            (json!({"type": "EDS"}), "eds_cluster_config"),
            (
                json!({"type": "EDS", "eds_cluster_config": {}}),
                "eds_cluster_config.eds_config",
            ),
            (
                json!({"type": "EDS", "eds_cluster_config": {"eds_config": {"path": "/x"}}}),
                "eds_cluster_config.eds_config.path",
            ),
            (
                json!({"type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V2"}}}),
                "eds_cluster_config.eds_config.resource_api_version",
            ),
            (json!({"eds_cluster_config": {}}), "eds_cluster_config"),
            (
                json!({"load_assignment": assignment("example.com")}),
                "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
            ),
            (json!({"cluster_type": {"name": "x"}}), "cluster_type.name"),
            (
                json!({"transport_socket": tls}),
                "warn transport_socket.typed_config.common_tls_context.validation_context",
            ),
            (json!({"transport_socket": raw}), "ok"),
            (
                json!({"transport_socket_matches": [{"name": "m", "transport_socket": raw}, {"name": "n", "transport_socket": tls}]}),
                "warn transport_socket_matches[1].transport_socket.typed_config.common_tls_context.validation_context",
            ),
            (json!({"upstream_bind_config": {}}), "upstream_bind_config"),
            (json!({"lb_subset_config": {}}), "ok"),
            (
                json!({"lb_subset_config": {"subset_selectors": [{"keys": ["k"]}]}}),
                "ok",
            ),
            (json!({"outlier_detection": {}}), "ok"),
            (json!({"lb_policy": "CLUSTER_PROVIDED"}), "lb_policy"),
            (
                json!({"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}),
                "load_balancing_policy",
            ),
            (
                http(json!({"explicit_http_config": null})),
                &options("upstream_protocol_options"),
            ),
            (
                http(json!({"explicit_http_config": {}})),
                &options("explicit_http_config.protocol_config"),
            ),
            (
                http(json!({"explicit_http_config": {"http3_protocol_options": {}}})),
                &options("explicit_http_config.http3_protocol_options"),
            ),
            (
                http(
                    json!({"explicit_http_config": {"http2_protocol_options": {"initial_stream_window_size": 65534}}}),
                ),
                &options("explicit_http_config.http2_protocol_options.initial_stream_window_size"),
            ),
            (
                http(json!({"explicit_http_config": null, "auto_config": {}})),
                &format!("warn {}", options("auto_config")),
            ),
            (
                http(
                    json!({"http_filters": [{"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}}]}),
                ),
                &options("http_filters[0].typed_config"),
            ),
            (
                merged(http(json!({})), json!({"http2_protocol_options": {}})),
                "warn http2_protocol_options",
            ),
        ],
    );
}
