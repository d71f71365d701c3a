//! Resource files: their shapes, wrappers, packed types, and the places of what they hold.

mod common;

use std::time::Duration;

use prost::Name;
use xds_proto::any::effective_type_url;
use xds_proto::any::unpack;
use xds_proto::load::ResourcesFile;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::StringValue;
use xds_proto::pb::xds::r#type::v3::TypedStruct;
use xds_proto::type_url;

use crate::common::resource;
use crate::common::resources;
use crate::common::summary;

fn valid(text: &str) -> ResourcesFile {
    resources(text)
        .map_err(|errors| summary(&errors))
        .expect("a valid file")
}

fn names(text: &str) -> Vec<String> {
    valid(text)
        .resources
        .into_iter()
        .map(|resource| resource.name)
        .collect()
}

fn check(text: &str, expected: &[&str]) {
    let errors = resources(text).err().unwrap_or_default();
    assert_eq!(summary(&errors), expected, "{text}");
}

#[test]
fn a_response_as_envoy_reads_it() {
    let file = valid(
        "version_info: 0
resources:
- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
- name: b
  \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
",
    );
    assert_eq!(file.version_info, "0");
    let found: Vec<_> = file
        .resources
        .iter()
        .map(|resource| {
            (
                resource.name.as_str(),
                resource.origin.line,
                resource.any.type_url.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [("a", 3, type_url::CLUSTER), ("b", 5, type_url::CLUSTER)]
    );
}

#[test]
fn other_shapes_of_a_file() {
    let cluster = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert_eq!(
        names(&format!(
            "- {{{cluster}, name: a}}\n- {{{cluster}, name: b}}"
        )),
        ["a", "b"]
    );
    assert_eq!(names(&format!("{{{cluster}, name: a}}")), ["a"]);
    let url = "type_url: type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert_eq!(names(&format!("{url}\nresources: [{{name: a}}]")), ["a"]);
    assert_eq!(names("versionInfo: x\nresources: []"), Vec::<String>::new());
    assert_eq!(names("version_info: x\nresources:\n"), Vec::<String>::new());
    let response = "\"@type\": type.googleapis.com/envoy.service.discovery.v3.DiscoveryResponse";
    assert_eq!(
        names(&format!(
            "{{{response}, resources: [{{{cluster}, name: a}}]}}"
        )),
        ["a"]
    );
}

#[test]
fn a_wrapped_resource() {
    let file = valid(
        "resources:
- \"@type\": type.googleapis.com/envoy.service.discovery.v3.Resource
  name: outer
  version: \"7\"
  ttl: 1.5s
  resource:
    \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
    connect_timeout: 1s
",
    );
    let first = file.resources.first().expect("one");
    assert_eq!(
        (first.name.as_str(), first.version.as_str()),
        ("outer", "7")
    );
    assert_eq!(first.ttl, Some(Duration::from_millis(1_500)));
    assert_eq!(first.any.type_url, type_url::CLUSTER);
    assert_eq!(first.spans.locate("connect_timeout").line, 8);
}

#[test]
fn mistakes_around_resources() {
    let cluster = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    check(
        "5",
        &["1:1 : expected a mapping with `resources`, found the number `5`"],
    );
    check(
        "resources: {}",
        &["1:12 resources: expected a list, found a mapping"],
    );
    check(
        "resource: []",
        &["1:1 resource: unknown field `resource` (did you mean `resources`?)"],
    );
    check(
        "resources: [5]",
        &["1:13 resources[0]: expected a resource, found the number `5`"],
    );
    check(
        &format!("- {{{cluster}, name: a}}\n- {{{cluster}, name: a}}"),
        &["2:3 [1]: a second envoy.config.cluster.v3.Cluster named `a`"],
    );
    check(
        "[{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}]",
        &[
            "1:2 [0]: type.googleapis.com/envoy.extensions.filters.http.router.v3.Router is not a resource type",
        ],
    );
    check(
        "[{\"@type\": type.googleapis.com/envoy.service.discovery.v3.Resource, versoin: a}]",
        &[
            "1:2 [0]: `resource` is missing",
            "1:69 [0].versoin: unknown field `versoin` (did you mean `version`?)",
        ],
    );
    let both = format!("[{{{cluster}, nam: a}}, {{{cluster}, nam: a}}]");
    check(
        &both,
        &[
            "1:65 [0].nam: unknown field `nam` (did you mean `name`?)",
            "1:137 [1].nam: unknown field `nam` (did you mean `name`?)",
        ],
    );
}

fn extension(typed_config: &str) -> Any {
    let config: TypedExtensionConfig =
        resource(&format!("name: e\ntyped_config: {typed_config}")).expect("valid");
    config.typed_config.expect("set")
}

#[test]
fn typed_structs_of_known_types_are_unwrapped() {
    let router = Router::type_url();
    for outer in ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"] {
        for member in ["type_url", "typeUrl"] {
            let any = extension(&format!(
                "{{\"@type\": type.googleapis.com/{outer}, value: {{suppress_envoy_headers: true}}, {member}: {router}}}"
            ));
            let router: Router = unpack(&any).expect("a router");
            assert!(router.suppress_envoy_headers);
        }
    }
}

#[test]
fn mistakes_inside_typed_structs_have_the_path_the_decoder_sees() {
    let text = "name: e\ntyped_config:\n  \"@type\": type.googleapis.com/xds.type.v3.TypedStruct\n  \
                type_url: type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n  value:\n    \
                suppress_envoy_header: true";
    let errors = resource::<TypedExtensionConfig>(text).expect_err("a misspelled field");
    let expected = "8:7 resources[0].typed_config.suppress_envoy_header: unknown field `suppress_envoy_header` \
                    (did you mean `suppress_envoy_headers`?)";
    assert_eq!(summary(&errors), [expected]);
}

#[test]
fn unknown_types_in_typed_structs_and_istios_own_are_kept() {
    let kept = extension(
        "{\"@type\": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: example.com/some.Config, value: {a: 1}}",
    );
    assert_eq!(kept.type_url, type_url::UDPA_TYPED_STRUCT);
    assert_eq!(
        effective_type_url(&kept).expect("whole"),
        "example.com/some.Config"
    );

    for name in [
        "stats.PluginConfig",
        "io.istio.http.peer_metadata.Config",
        "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    ] {
        let any = extension(&format!(
            "{{\"@type\": type.googleapis.com/{name}, anything: [1]}}"
        ));
        let inner: TypedStruct = unpack(&any).expect("a TypedStruct");
        assert_eq!(inner.type_url, format!("type.googleapis.com/{name}"));
        assert!(
            inner
                .value
                .is_some_and(|value| value.fields.contains_key("anything"))
        );
    }
}

#[test]
fn scalars_in_any_stand_under_value() {
    let any = extension("{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: x}");
    assert_eq!(unpack::<StringValue>(&any).expect("a string").value, "x");
    let any = extension("{\"@type\": example.com/google.protobuf.StringValue, value: x}");
    assert_eq!(
        any.type_url,
        "type.googleapis.com/google.protobuf.StringValue"
    );
}

#[test]
fn places_of_fields_are_found_through_packed_messages() {
    let file = valid(
        "resources:
- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
  loadAssignment:
    endpoints:
    - lb_endpoints:
      - endpoint: {address: {socket_address: {address: b, port_value: 1}}}
  transport_socket:
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: x
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {http2_protocol_options: {}}
",
    );
    let first = file.resources.first().expect("one");
    assert_eq!(first.any.type_url, Cluster::type_url());
    let cases = [
        ("", 2, 3),
        ("load_assignment", 4, 3),
        (
            "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
            7,
            59,
        ),
        ("load_assignment.endpoints[0].priority", 6, 7),
        ("transport_socket.typed_config.sni", 11, 7),
        (
            "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]",
            13,
            5,
        ),
        (
            "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].explicit_http_config.http2_protocol_options.x",
            15,
            30,
        ),
    ];
    for (path, line, column) in cases {
        let origin = first.spans.locate(path);
        assert_eq!((origin.line, origin.column), (line, column), "{path}");
    }
}

#[test]
fn equal_messages_have_equal_bytes() {
    let one = "resources: [{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, \
               typedExtensionProtocolOptions: {b: {}, a: {}}, connect_timeout: 1.0s}]";
    let other = "- connect_timeout: 1s\n  typed_extension_protocol_options: {a: {}, b: {}}\n  name: \"a\"\n  \
                 \"@type\": x/envoy.config.cluster.v3.Cluster\n";
    let bytes = |text| {
        valid(text)
            .resources
            .into_iter()
            .map(|resource| resource.any)
            .collect::<Vec<_>>()
    };
    assert_eq!(bytes(one), bytes(other));
}
