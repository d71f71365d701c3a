//! Tests of the bootstrap: whole files, and one mistake at a time with its place.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::Bootstrap;
use super::ConfigSourceKind;
use super::load;
use crate::config::endpoint::Address;
use crate::config::filter_chain::NetworkFilter;
use crate::config::listener::RouteSource;

const DYNAMIC: &str = r#"
node:
  id: sidecar~10.0.0.1~web-1.shop~cluster.local
  cluster: web
  metadata: {NAMESPACE: shop, LABELS: {app: web}}
  locality: {zone: a}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 0}}
dynamic_resources:
  lds_config: {ads: {}, initial_fetch_timeout: 3s}
  cds_config: {ads: {}, resource_api_version: V3}
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - initial_metadata: [{key: x-token, value: secret}]
      envoy_grpc:
        cluster_name: control-plane
        authority: cp.example.com
        retry_policy: {retry_back_off: {base_interval: 0.1s, max_interval: 5s}}
static_resources:
  clusters:
  - name: control-plane
    type: STRICT_DNS
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: cp, port_value: 18000}}}
"#;

const STATIC: &str = r#"
static_resources:
  listeners:
  - address:
      socket_address: {address: 0.0.0.0, port_value: 10000}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: backend}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}
"#;

fn read(text: &str) -> Result<Bootstrap, Vec<xds_proto::load::LoadError>> {
    load(Path::new("weir.yaml"), text)
}

fn valid(text: &str) -> Bootstrap {
    let bootstrap = read(text).unwrap_or_else(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", errors.join("\n"));
    });
    assert_eq!(bootstrap.warnings, []);
    bootstrap
}

/// Replaces one text in a file; it must be there.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// The first mistake: its line, the word it points at, its field.
fn mistake(text: &str) -> (u32, String, String) {
    let errors = read(text).expect_err("there is a mistake");
    let first = errors.into_iter().next().expect("an error has a reason");
    let marked = first
        .snippet
        .text
        .chars()
        .skip(first.snippet.indent)
        .take(first.snippet.width);
    (first.origin.line, marked.collect(), first.field)
}

#[test]
fn a_static_bootstrap() {
    let bootstrap = valid(STATIC);
    assert!(bootstrap.admin.is_none() && bootstrap.dynamic.ads.is_none());
    let [listener] = bootstrap.static_listeners.as_slice() else {
        panic!("one listener")
    };
    assert_eq!(&*listener.value.name, "0.0.0.0:10000");
    assert!(
        listener
            .raw
            .type_url
            .ends_with("/envoy.config.listener.v3.Listener")
    );
    assert!(!listener.raw.value.is_empty());
    let NetworkFilter::HttpConnectionManager(manager) = &listener.value.filter_chains[0].filter
    else {
        unreachable!("it is HTTP")
    };
    let RouteSource::Inline(table) = &manager.routes else {
        panic!("inline")
    };
    assert_eq!(table.virtual_hosts.len(), 1);
    let [cluster] = bootstrap.static_clusters.as_slice() else {
        panic!("one cluster")
    };
    assert_eq!(&*cluster.value.name, "backend");
}

#[test]
fn a_dynamic_bootstrap() {
    let bootstrap = valid(DYNAMIC);
    assert_eq!(
        &*bootstrap.node_id,
        "sidecar~10.0.0.1~web-1.shop~cluster.local"
    );
    assert_eq!(&*bootstrap.node_cluster, "web");
    assert_eq!(
        bootstrap
            .node
            .metadata
            .as_ref()
            .map(|metadata| metadata.fields.len()),
        Some(2)
    );
    let admin = bootstrap.admin.as_ref().expect("given").address.clone();
    assert_eq!(
        admin,
        Address::Socket("127.0.0.1:0".parse().expect("literal"))
    );
    let dynamic = &bootstrap.dynamic;
    assert_eq!(
        (&dynamic.lds, &dynamic.cds),
        (&ConfigSourceKind::Ads, &ConfigSourceKind::Ads)
    );
    assert_eq!(dynamic.initial_fetch_timeout, Some(Duration::from_secs(3)));
    let ads = dynamic.ads.as_ref().expect("given");
    assert!(ads.delta && ads.set_node_on_first_message_only);
    assert_eq!(ads.clusters, ["control-plane".into()]);
    assert_eq!(ads.settings.authority.as_deref(), Some("cp.example.com"));
    let metadata: Vec<_> = ads.settings.metadata.iter().collect();
    assert_eq!(metadata, [("x-token", &b"secret"[..])]);
    assert!(!format!("{ads:?}").contains("secret"));
    let bounds = (
        Some(Duration::from_millis(100)),
        Some(Duration::from_secs(5)),
    );
    assert_eq!(ads.settings.backoff, bounds);
}

#[test]
fn files_as_sources() {
    let bootstrap = valid(
        "dynamic_resources:\n  lds_config: {path: /etc/lds.yaml, initial_fetch_timeout: 0s}\n  \
         cds_config: {path_config_source: {path: /etc/cds.yaml, watched_directory: {path: /etc}}}\n",
    );
    let path = |path: &str, directory: Option<&str>| ConfigSourceKind::Path {
        path: path.into(),
        watched_directory: directory.map(PathBuf::from),
    };
    assert_eq!(bootstrap.dynamic.lds, path("/etc/lds.yaml", None));
    assert_eq!(bootstrap.dynamic.cds, path("/etc/cds.yaml", Some("/etc")));
    assert_eq!(bootstrap.dynamic.initial_fetch_timeout, None);
}

#[test]
fn an_empty_bootstrap_waits_for_nothing() {
    let bootstrap = valid("{}");
    assert!(bootstrap.static_listeners.is_empty() && bootstrap.dynamic.ads.is_none());
    assert_eq!(bootstrap.dynamic.lds, ConfigSourceKind::None);
}

/// Replaces `from` in a file and expects the mistake in a line that contains `to`.
fn check(file: &str, from: &str, to: &str, word: &str, field: &str) {
    let text = with(file, from, to);
    let (line, marked, found) = mistake(&text);
    assert_eq!((marked.as_str(), found.as_str()), (word, field), "{to}");
    let line = usize::try_from(line).expect("few lines");
    assert!(
        text.lines()
            .nth(line - 1)
            .is_some_and(|line| line.contains(word)),
        "{to}"
    );
}

#[test]
fn mistakes_of_sources() {
    let ads = |field: &str| format!("dynamic_resources.ads_config.{field}");
    let check =
        |from: &str, to: &str, word: &str, field: &str| check(DYNAMIC, from, to, word, field);
    check("DELTA_GRPC", "REST", "api_type", &ads("api_type"));
    check(
        "api_version: V3\n    set",
        "api_version: V2\n    set",
        "transport_api_version",
        &ads("transport_api_version"),
    );
    let name = ads("grpc_services[0].envoy_grpc.cluster_name");
    check(
        "cluster_name: control-plane\n",
        "cluster_name: x\n",
        "cluster_name",
        &name,
    );
    let http1 = "explicit_http_config: {http_protocol_options: {}}\n        header_validation_config: {}\n#";
    let header_validation = "static_resources.clusters[0].typed_extension_protocol_options\
        [\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].header_validation_config";
    let explicit = "explicit_http_config:\n          http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}";
    check(
        explicit,
        http1,
        "header_validation_config",
        header_validation,
    );
    check(
        explicit,
        "explicit_http_config: {http_protocol_options: {}}",
        "cluster_name",
        &name,
    );
    let matches = "    transport_socket_matches:\n    - {name: a, match: {a: b}, transport_socket: {name: raw, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}\n    typed";
    check(
        "    connect_timeout: 1s\n    typed",
        matches,
        "cluster_name",
        &name,
    );
    check(
        "id: sidecar~10.0.0.1~web-1.shop~cluster.local",
        "id: ''",
        "node",
        "node",
    );
    check(
        "lds_config: {ads: {}",
        "lds_config: {self: {}",
        "self",
        "dynamic_resources.lds_config.self",
    );
    check(
        "cds_config: {ads: {}",
        "cds_config: {api_config_source: {}",
        "api_config_source",
        "dynamic_resources.cds_config.api_config_source",
    );
    check(
        "key: x-token",
        "key: 'x y'",
        "key",
        &ads("grpc_services[0].initial_metadata[0].key"),
    );
    check(
        "max_interval: 5s",
        "max_interval: 0.01s",
        "max_interval",
        &ads("grpc_services[0].envoy_grpc.retry_policy.retry_back_off.max_interval"),
    );
}

/// TLS of the control plane's cluster, with a certificate by name from this source.
fn with_tls(source: &str) -> String {
    let tls = format!(
        "    transport_socket:\n      name: tls\n      typed_config:\n        '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n        common_tls_context:\n          tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]\n          validation_context_sds_secret_config: {{name: roots, sds_config: {{path_config_source: {{path: /etc/roots.yaml}}}}}}\n    typed"
    );
    with(DYNAMIC, "    connect_timeout: 1s\n    typed", &tls)
}

#[test]
fn a_control_plane_may_want_tls_whose_secrets_come_before_it() {
    let bootstrap = valid(&with_tls("{path_config_source: {path: /etc/own.yaml}}"));
    assert!(bootstrap.static_clusters[0].value.transport.tls.is_some());
    let own = "{api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: control-plane}}]}}";
    for circle in ["{ads: {}}", own] {
        let errors = read(&with_tls(circle)).expect_err("it waits for itself");
        assert_eq!(errors[0].field, "static_resources.clusters[0]", "{circle}");
        let expected = "its TLS waits for the secret \"own\", which only comes once \"control-plane\" is reached";
        assert!(errors[0].message.starts_with(expected), "{}", errors[0]);
    }
}

/// The bootstrap with an identity, its control plane at this address.
fn with_identity(more: &str, address: &str) -> String {
    let identity = format!(
        "bootstrap_extensions:\n- name: identity\n  typed_config:\n    '@type': type.googleapis.com/weir.identity.v1.Identity\n    signer: {{envoy_grpc: {{cluster_name: control-plane}}}}\n{more}\nnode:\n"
    );
    with(
        &with(DYNAMIC, "node:\n", &identity),
        "address: cp,",
        address,
    )
}

#[test]
fn an_identity_of_our_own() {
    let more = "    token: {inline_string: once}\n    spiffe_id: spiffe://mesh.example/cart\n    requested_life: 3600s";
    let bootstrap = valid(&with_identity(more, "address: 127.0.0.1,"));
    let identity = bootstrap.identity.as_ref().expect("given");
    assert_eq!(&*identity.signer, "control-plane");
    let names = [&*identity.certificate_name, &*identity.trust_name];
    assert_eq!(names, ["default", "ROOTCA"]);
    assert!(!format!("{identity:?}").contains("once"));
    valid(&with_identity(
        "    token: {filename: /not/yet/there}",
        "address: '::1',",
    ));

    let check = |more: &str, address: &str, field: &str, reason: &str| {
        let errors = read(&with_identity(more, address)).expect_err("it is no good");
        let expected = format!("bootstrap_extensions[0].typed_config{field}");
        assert_eq!(errors[0].field, expected, "{}", errors[0]);
        assert!(errors[0].message.contains(reason), "{}", errors[0]);
    };
    let here = "address: 127.0.0.1,";
    let token = "    token: {inline_string: once}";
    check(
        token,
        "address: cp,",
        ".token",
        "anybody on the way could read it",
    );
    let spaced = "    token: {inline_string: 'a b'}";
    check(spaced, here, ".token", "has bytes no token has");
    let spiffe = "    spiffe_id: https://mesh.example/cart";
    check(spiffe, here, ".spiffe_id", "is no SPIFFE ID");
    let same = "    trust_name: default";
    check(same, here, ".trust_name", "is the certificate_name too");
}

#[test]
fn ads_without_a_server_is_a_mistake() {
    let (_, word, field) = mistake("dynamic_resources:\n  cds_config: {ads: {}}\n");
    assert_eq!(
        (word.as_str(), field.as_str()),
        ("cds_config", "dynamic_resources.cds_config")
    );
}

#[test]
fn mistakes_of_static_resources() {
    let check =
        |from: &str, to: &str, word: &str, field: &str| check(STATIC, from, to, word, field);
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let route = format!("{manager}.route_config.virtual_hosts[0].routes[0]");
    check(
        "{cluster: backend}",
        "{cluster: backend, regex_rewrite: {}}",
        "regex_rewrite",
        &format!("{route}.route.regex_rewrite"),
    );
    check(
        "{prefix: /}",
        "{safe_regex: {regex: '('}}",
        "regex",
        &format!("{route}.match.safe_regex.regex"),
    );
    check(
        "type: STATIC",
        "type: EDS",
        "name",
        "static_resources.clusters[0].eds_cluster_config",
    );
    let listener = "  - address:\n      socket_address: {address: 0.0.0.0, port_value: 10000}\n";
    check(
        listener,
        "  - name: l\n",
        "name",
        "static_resources.listeners[0].address",
    );
}

#[test]
fn names_of_static_resources_are_unique() {
    let text = with(STATIC, "  clusters:\n", "  clusters:\n  - name: backend\n");
    let (_, word, field) = mistake(&text);
    assert_eq!(
        (word.as_str(), field.as_str()),
        ("name", "static_resources.clusters[1].name")
    );
}

#[test]
fn what_has_no_effect_is_told_with_its_place() {
    let text = with(
        STATIC,
        "    type: STATIC\n",
        "    type: STATIC\n    metadata: {filter_metadata: {a: {}}}\n",
    );
    let warnings = read(&text).expect("valid").warnings;
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert_eq!(
        warning.field,
        "static_resources.clusters[0].metadata.filter_metadata"
    );
    assert_eq!(warning.message, "not supported, has no effect");
    assert_eq!(
        warning.snippet.text,
        "    metadata: {filter_metadata: {a: {}}}"
    );
}

#[test]
fn what_would_change_the_meaning_is_refused() {
    for (text, field) in [
        (
            "admin: {allow_paths: [{exact: /stats}]}",
            "admin.allow_paths",
        ),
        ("header_prefix: x-foo", "header_prefix"),
        (
            "cluster_manager: {upstream_bind_config: {}}",
            "cluster_manager.upstream_bind_config",
        ),
        (
            "bootstrap_extensions: [{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}]",
            "bootstrap_extensions[0].typed_config",
        ),
        (
            "default_regex_engine: {name: x}",
            "default_regex_engine.typed_config",
        ),
    ] {
        assert_eq!(mistake(text).2, field);
    }
}

#[test]
fn the_local_cluster_is_one_of_the_file_with_one_priority() {
    let text = |node: &str, name: &str| {
        format!("node: {{{node}}}\n{STATIC}cluster_manager: {{local_cluster_name: {name}}}\n")
    };
    let place = "locality: {region: r, zone: z}";
    let home = valid(&text(place, "backend")).home.expect("it was said");
    let locality = home.locality.expect("it was said");
    assert_eq!(&*home.cluster, "backend");
    assert_eq!((&*locality.region, &*locality.zone), ("r", "z"));
    assert_eq!(valid(STATIC).home, None);
    let field = "cluster_manager.local_cluster_name";
    assert_eq!(mistake(&text(place, "other")).2, field);
    let two = with(
        &text(place, "backend"),
        "      endpoints:\n",
        "      endpoints:\n      - {priority: 1}\n",
    );
    assert_eq!(mistake(&two).2, field);
    let nowhere = read(&text("id: i", "backend")).expect("it can be used");
    assert_eq!(nowhere.warnings[0].field, field);
}

#[test]
fn limits_of_connections_come_from_the_runtime() {
    let text = |layers: &str| format!("{STATIC}layered_runtime: {{layers: {layers}}}\n");
    let limits = read(&text(
        "[{name: a, static_layer: {envoy: {resource_limits: {listener: {in: {connection_limit: 7}, \
         a.b: {connection_limit: 8}}}}, overload.global_downstream_max_connections: 1}}, \
         {name: b, static_layer: {overload: {global_downstream_max_connections: '9'}}}, \
         {name: c, admin_layer: {}}, {name: d, static_layer: {re2.max_program_size.error_level: 1}}]",
    ));
    let bootstrap = limits.unwrap_or_else(|errors| unreachable!("{}", errors[0]));
    let limits = &bootstrap.connection_limits;
    assert_eq!(limits.process, 9);
    assert_eq!(
        ["in", "a.b", "c"].map(|name| limits.listener(name)),
        [7, 8, 10_000]
    );
    let warned: Vec<_> = bootstrap
        .warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect();
    assert_eq!(
        warned,
        [
            "layered_runtime.layers[2].admin_layer",
            "layered_runtime.layers[3].static_layer.re2.max_program_size.error_level"
        ]
    );
    for wrong in ["-1", "1.5", "many", "true"] {
        let layer = format!(
            "[{{name: a, static_layer: {{overload.global_downstream_max_connections: {wrong}}}}}]"
        );
        assert!(read(&text(&layer)).is_err(), "{wrong}");
    }
}
