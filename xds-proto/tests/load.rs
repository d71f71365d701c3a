//! The rules of reading one message: what each form of a value means, and what each mistake looks like.

mod common;

use xds_proto::any::unpack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::core::v3::DataSource;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::config::listener::v3::Filter;
use xds_proto::pb::envoy::config::listener::v3::Listener;
use xds_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use xds_proto::pb::envoy::service::runtime::v3::Runtime;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Duration;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::value::Kind;

use crate::common::bootstrap;
use crate::common::bootstrap_errors;
use crate::common::resource;
use crate::common::summary;

/// The mistakes of a cluster, one line each: `line:column path: message (help)`.
fn check_cluster(fields: &str, expected: &[&str]) {
    let errors = resource::<Cluster>(fields).err().unwrap_or_default();
    assert_eq!(summary(&errors), expected, "{fields}");
}

#[test]
fn both_spellings_and_any_order_of_type() {
    let listener: Listener = resource(
        "name: a
filterChains:
- filters:
  - name: hcm
    typed_config:
      statPrefix: x
      route_config: { name: r }
      \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    )
    .expect("valid");
    let hcm: HttpConnectionManager = unpack(typed_config(&listener)).expect("an HCM");
    assert_eq!(hcm.stat_prefix, "x");
}

fn typed_config(listener: &Listener) -> &Any {
    let filter = listener
        .filter_chains
        .first()
        .and_then(|chain| chain.filters.first());
    match filter.and_then(|filter: &Filter| filter.config_type.as_ref()) {
        Some(ConfigType::TypedConfig(any)) => Some(any),
        Some(ConfigType::ConfigDiscovery(_)) | None => None,
    }
    .expect("a typed config")
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{"node": {"id": "n\u0041\/", "metadata": {"a": [1]}}, "admin": {}}"#;
    let node = bootstrap(json).node.expect("set");
    assert_eq!(node.id, "nA/");
    assert!(node.metadata.expect("set").fields.contains_key("a"));
}

#[test]
#[expect(deprecated, reason = "deprecated fields still occur in files")]
fn scalars_mean_what_their_field_says() {
    let cluster: Cluster = resource(
        "name: on
alt_stat_name: 1.10
connect_timeout: 0.25s
type: STRICT_DNS
lb_policy: 3
per_connection_buffer_limit_bytes: \"32768\"
respect_dns_ttl: yes
http2_protocol_options: {hpack_table_size: 4.096e3}
common_lb_config: {healthy_panic_threshold: {value: 12.5}}
wait_for_warm_on_init: false",
    )
    .expect("valid");
    assert_eq!(cluster.name, "on");
    assert_eq!(cluster.alt_stat_name, "1.10");
    assert_eq!(
        cluster.connect_timeout,
        Some(Duration {
            seconds: 0,
            nanos: 250_000_000
        })
    );
    assert_eq!(
        cluster
            .per_connection_buffer_limit_bytes
            .map(|limit| limit.value),
        Some(32_768)
    );
    assert!(cluster.respect_dns_ttl);
    assert_eq!(cluster.lb_policy, 3);
    let http2 = cluster.http2_protocol_options.expect("set");
    assert_eq!(http2.hpack_table_size.map(|size| size.value), Some(4_096));
    let threshold = cluster
        .common_lb_config
        .and_then(|common| common.healthy_panic_threshold);
    assert_eq!(threshold.map(|percent| percent.value), Some(12.5));
    assert_eq!(
        cluster.wait_for_warm_on_init.map(|flag| flag.value),
        Some(false)
    );
}

#[test]
fn integers_in_all_their_forms() {
    let good = [
        ("7", 7),
        ("\"7\"", 7),
        ("7.0", 7),
        ("7e2", 700),
        ("0x10", 16),
        ("0o644", 420),
        ("4294967295", u32::MAX),
    ];
    for (text, expected) in good {
        let cluster: Cluster =
            resource(&format!("per_connection_buffer_limit_bytes: {text}")).expect(text);
        assert_eq!(
            cluster
                .per_connection_buffer_limit_bytes
                .map(|limit| limit.value),
            Some(expected),
            "{text}"
        );
    }
    for text in [
        "7.5",
        "-1",
        "4294967296",
        "\"0x10\"",
        "1_000",
        "0644",
        "ten",
        "true",
        "\"\"",
        "[7]",
        "{value: 7}",
        "1e40",
    ] {
        let result: Result<Cluster, _> =
            resource(&format!("per_connection_buffer_limit_bytes: {text}"));
        assert!(result.is_err(), "{text}");
    }
}

#[test]
fn enums_by_name_in_any_case_or_by_number() {
    for text in [
        "LEAST_REQUEST",
        "least_request",
        "Least-Request",
        "\"LEAST_REQUEST\"",
        "1",
    ] {
        let cluster: Cluster = resource(&format!("lb_policy: {text}")).expect(text);
        assert_eq!(cluster.lb_policy, 1, "{text}");
    }
    for text in ["least", "17", "\"1\"", "1.0", "[LEAST_REQUEST]"] {
        assert!(
            resource::<Cluster>(&format!("lb_policy: {text}")).is_err(),
            "{text}"
        );
    }
}

#[test]
fn json_in_other_layouts() {
    let layouts = [
        "{\n\t\"node\": {\n\t\t\"id\": \"a\",\n\t\t\"metadata\": {}\n\t}\n}\n",
        "{\r\n  \"node\" : {\r\n    \"id\" : \"a\"\r\n  }\r\n  \r\n  \r\n}\r\n",
        "{\"node\":{\"id\":\"a\"}}",
        "{\n\"node\":\n{\n\"id\":\n\"a\"\n}\n}",
    ];
    for text in layouts {
        assert_eq!(bootstrap(text).node.expect("set").id, "a", "{text}");
    }
}

#[test]
fn null_is_absence() {
    let cluster: Cluster =
        resource("name: ~\nconnect_timeout: null\nload_assignment:").expect("valid");
    assert_eq!(cluster, Cluster::default());
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    for text in ["+/8=", "-_8", "+/8", "\"+/\\n8=\""] {
        let secret: Secret = resource(&format!(
            "generic_secret: {{secret: {{inline_bytes: {text}}}}}"
        ))
        .expect(text);
        let Some(Type::GenericSecret(generic)) = secret.r#type else {
            unreachable!("a generic secret was written")
        };
        let expected = DataSource {
            specifier: Some(Specifier::InlineBytes(vec![0xfb, 0xff])),
            ..DataSource::default()
        };
        assert_eq!(generic.secret, Some(expected), "{text}");
    }
    let wrong = resource::<Secret>("generic_secret: {secret: {inline_bytes: not base64!}}");
    assert_eq!(wrong.expect_err("spaces and a mark").len(), 1);
}

#[test]
fn structs_follow_the_core_schema() {
    let runtime: Runtime = resource(
        "layer: {s: on, q: \"1\", i: 5, f: 2.5, t: true, n: ~, oct: 007, big: 9007199254740993, l: [1, x], m: {k: v}}",
    )
    .expect("valid");
    let layer: Struct = runtime.layer.expect("set");
    let kind = |key: &str| layer.fields.get(key).and_then(|value| value.kind.clone());
    let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
    assert_eq!(kind("s"), text("on"));
    assert_eq!(kind("q"), text("1"));
    assert_eq!(kind("i"), Some(Kind::NumberValue(5.0)));
    assert_eq!(kind("f"), Some(Kind::NumberValue(2.5)));
    assert_eq!(kind("t"), Some(Kind::BoolValue(true)));
    assert_eq!(kind("n"), Some(Kind::NullValue(0)));
    assert_eq!(kind("oct"), text("007"));
    assert_eq!(kind("big"), text("9007199254740993"));
    assert!(matches!(kind("l"), Some(Kind::ListValue(list)) if list.values.len() == 2));
    assert!(matches!(kind("m"), Some(Kind::StructValue(inner)) if inner.fields.len() == 1));
}

#[test]
fn every_mistake_has_its_place() {
    check_cluster(
        "nmae: a
connect_timeout: 250ms
lb_policy: ROUND_ROBBIN
type: EDS
cluster_type: {name: x}
name: [a]
load_assignment: 5
per_connection_buffer_limit_bytes: 70000000000
respect_dns_ttl: \"true\"
health_checks: {}
eds_cluster_config: {serviceName: a, service_name: b}",
        &[
            "3:3 resources[0].nmae: unknown field `nmae` (did you mean `name`?)",
            "4:20 resources[0].connect_timeout: expected a duration such as `0.25s`, found the string \"250ms\" (write `0.250s`)",
            "5:14 resources[0].lb_policy: unknown value: the string \"ROUND_ROBBIN\" (did you mean `ROUND_ROBIN`?)",
            "7:3 resources[0].cluster_type: `type` and `cluster_type` exclude each other: only one of `cluster_discovery_type` can be set",
            "8:9 resources[0].name: expected a string, found a list",
            "9:20 resources[0].load_assignment: expected a mapping, found the number `5`",
            "10:38 resources[0].per_connection_buffer_limit_bytes: 70000000000 is out of range, 0 to 4294967295",
            "11:20 resources[0].respect_dns_ttl: expected true or false, found the string \"true\"",
            "12:18 resources[0].health_checks: expected a list, found a mapping (put `- ` before it, or brackets around it)",
            "13:40 resources[0].eds_cluster_config.service_name: `service_name` is set twice, in two spellings",
        ],
    );
}

#[test]
fn more_mistakes() {
    check_cluster(
        "connect_timeout: 5",
        &[
            "3:20 resources[0].connect_timeout: expected a duration such as `0.25s`, found the number `5` (write `5s`)",
        ],
    );
    check_cluster(
        "name: a\nname: b",
        &["4:3 : key `name` appears twice in this mapping"],
    );
    check_cluster(
        "upstream_bind_config: {source_address: {address: a, port_value: 0644}}",
        &[
            "3:67 resources[0].upstream_bind_config.source_address.port_value: expected an integer, found the number `0644` \
         (a leading zero is octal to some readers and not to others; write `0o644` or `420`)",
        ],
    );
    check_cluster(
        "transport_socket: {name: t, typed_config: {\"@type\": type.googleapis.com/envoy.api.v2.auth.UpstreamTlsContext}}",
        &[
            "3:55 resources[0].transport_socket.typed_config: unknown type `type.googleapis.com/envoy.api.v2.auth.UpstreamTlsContext` \
         (did you mean `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext`?)",
        ],
    );
    check_cluster(
        "transport_socket: {typed_config: {\"@type\": envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}",
        &[
            "3:46 resources[0].transport_socket.typed_config: type URL `envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer` has no `/` \
         (write `type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer`)",
        ],
    );
    check_cluster(
        "transport_socket: {typed_config: {sni: a}}",
        &[
            "3:36 resources[0].transport_socket.typed_config: `@type` is missing \
         (add a line such as `\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener`)",
        ],
    );
    check_cluster(
        "typed_extension_protocol_options: {a: [1]}",
        &[
            "3:41 resources[0].typed_extension_protocol_options[\"a\"]: expected a mapping, found a list",
        ],
    );
    check_cluster(
        "dns_refresh_rate: {value: 5s}",
        &[
            "3:21 resources[0].dns_refresh_rate: expected a duration such as `0.25s`, found a mapping",
        ],
    );
    check_cluster(
        "per_connection_buffer_limit_bytes: {value: 5}",
        &[
            "3:38 resources[0].per_connection_buffer_limit_bytes: expected a bare value, found a mapping \
         (write what follows `value:` in its place)",
        ],
    );
}

#[test]
fn a_route_with_two_matches_is_refused_at_the_second() {
    let result: Result<RouteConfiguration, _> = resource(
        "virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - match: {path: /a, prefix: /}
    direct_response: {status: 200}",
    );
    let expected = "7:25 resources[0].virtual_hosts[0].routes[0].match.prefix: \
                    `path` and `prefix` exclude each other: only one of `path_specifier` can be set";
    assert_eq!(summary(&result.expect_err("two matches")), [expected]);
}

#[test]
fn an_error_displays_like_a_compilers() {
    let errors = bootstrap_errors("admin:\n  access_log_pth: /dev/null\nnode: 5\n");
    let expected = "\
error[W1007]: unknown field `access_log_pth`
 --> b.yaml:2:3
  |
2 |   access_log_pth: /dev/null
  |   ^^^^^^^^^^^^^^
  = at: admin.access_log_pth
  = help: did you mean `access_log_path`?";
    assert_eq!(
        errors.first().map(ToString::to_string).as_deref(),
        Some(expected)
    );
    assert_eq!(errors.len(), 2);
}

#[test]
fn no_more_than_fifty_mistakes_are_reported() {
    let text: String = (0..200)
        .map(|number| format!("unknown_{number}: 1\n"))
        .collect();
    assert_eq!(bootstrap_errors(&text).len(), 50);
}
