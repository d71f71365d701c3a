//! Where the walk begins: valid messages, and how each is decoded as part of its resource.

use std::fmt::Debug;
use std::rc::Rc;

use prost::Message;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::prost::encoding;
use serde_json::Value;
use serde_json::json;

use super::walk::Outcome;
use super::walk::Target;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::LEAF;
use crate::xds::decode::DecodeError;
use crate::xds::decode::Decoded;
use crate::xds::decode::tests::POOL;
use crate::xds::decode::tests::encode;
use crate::xds::decode::tests::merged;

/// Where a cluster carries a typed policy.
const POLICY: &[&str] = &[
    "load_balancing_policy",
    "policies",
    "typed_extension_config",
    "typed_config",
];

/// What must be in a message for it to be valid.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn base(message: &str) -> Value {
    let address = json!({"socket_address": {"address": "10.0.0.1", "port_value": 80}});
    match message.rsplit('.').next().expect("split gives one part") {
        "Bootstrap" => json!({
            "node": {"id": "i", "cluster": "c"},
            "static_resources": {"clusters": [{"name": "cp", "http2_protocol_options": {}}]},
        }),
        "AccessLog" => json!({"name": "l", "typed_config": typed(STDOUT)}),
        "Address" => address,
        "ApiConfigSource" => {
            json!({"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "cp"}}]})
        }
        "BufferFactoryConfig" => json!({"minimum_account_to_track_power_of_two": 10}),
        "ClusterLoadAssignment" => json!({"cluster_name": "a"}),
        "ClusterWeight" => json!({"name": "b", "weight": 1}),
        "ConfigSource" => json!({"ads": {}}),
        "ConnectionLimit" => json!({"stat_prefix": "l", "max_connections": 1}),
        "RuntimeLayer" => json!({
            "name": "a",
            "static_layer": {"overload.global_downstream_max_connections": 5},
        }),
        "OverloadManager" => {
            let mut monitor = base("ResourceMonitor");
            monitor["name"] = "m".into();
            json!({"resource_monitors": [monitor]})
        }
        "MatchPredicate" => json!({
            "http_response_headers_match": {"headers": [{"name": "a", "present_match": true}]},
        }),
        "MatchSet" => json!({"rules": [{"any_match": true}, {"any_match": true}]}),
        "LoadShedPoint" => json!({
            "name": "envoy.load_shed_points.tcp_listener_accept",
            "triggers": [base("Trigger")],
        }),
        "OverloadAction" => json!({
            "name": "envoy.overload_actions.stop_accepting_requests",
            "triggers": [base("Trigger")],
        }),
        "ResourceMonitor" => json!({"name": "n", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": 5,
        }}),
        "ScaledTrigger" => json!({"scaling_threshold": 0.2, "saturation_threshold": 0.8}),
        "ThresholdTrigger" => json!({"value": 0.5}),
        "Trigger" => json!({"name": "m", "threshold": {"value": 0.5}}),
        "RuntimeFeatureFlag" => json!({"default_value": false}),
        "DataSource" => json!({"inline_string": "y"}),
        "DropOverload" => json!({"category": "c", "drop_percentage": {"numerator": 5}}),
        "DirectResponseAction" => json!({"status": 200}),
        "EdsClusterConfig" => json!({"eds_config": {"ads": {}}}),
        "LbSubsetConfig" => json!({"subset_selectors": [{"keys": ["k"]}]}),
        "LbSubsetSelector" => json!({"keys": ["k", "l"]}),
        "StatefulSession" => {
            let mut state = typed(SESSION_HEADER);
            state["name"] = "x".into();
            json!({"strict": true, "session_state": {"name": "s", "typed_config": state}})
        }
        "OverrideHostSource" => json!({ "metadata": base("MetadataKey") }),
        "MetadataKey" => json!({"key": "n", "path": [base("PathSegment")]}),
        "PathSegment" => json!({"key": "k"}),
        "Endpoint" => json!({"address": address}),
        "EnvoyGrpc" => json!({"cluster_name": "cp"}),
        "FilterState" => json!({"key": "k"}),
        "FilterStateValue" => json!({
            "object_key": "k", "factory_key": "envoy.hashable_string",
            "format_string": base("SubstitutionFormatString"),
        }),
        "ExplicitHttpConfig" => json!({"http_protocol_options": {}}),
        "FileAccessLog" => json!({"path": "/a"}),
        "Filter" => network_filter(),
        "ConnectionBalanceConfig" => json!({"exact_balance": {}}),
        "FilterChain" => json!({"filters": [network_filter()]}),
        "GrpcService" => json!({"envoy_grpc": {"cluster_name": "cp"}}),
        "HashPolicy" if message.starts_with("envoy.type.") => json!({"source_ip": {}}),
        "HashPolicy" => json!({"query_parameter": {"name": "q"}}),
        "Cookie" => json!({"name": "c", "ttl": "5s"}),
        "CookieAttribute" => json!({"name": "a"}),
        "Header" => json!({"header_name": "x"}),
        "QueryParameter" => json!({"name": "q"}),
        "RegexMatchAndSubstitute" => json!({"pattern": {"regex": "a"}}),
        "SlowStartConfig" => {
            json!({"slow_start_window": "60s", "aggression": {"default_value": 2.0}})
        }
        "RuntimeDouble" => json!({"default_value": 2.0}),
        "HeaderMatcher" => json!({"name": "x"}),
        "HeaderValue" => json!({"key": "x"}),
        "HeaderValueOption" => json!({"header": {"key": "x", "value": "y"}}),
        "HttpConnectionManager" => json!({
            "stat_prefix": "s", "route_config": {}, "http_filters": [router()],
            "forward_client_cert_details": "SANITIZE_SET",
        }),
        "HealthCheck" if message.contains(".core.") => json!({
            "timeout": "1s", "interval": "10s", "unhealthy_threshold": 3, "healthy_threshold": 2,
            "tcp_health_check": {},
        }),
        "HealthCheckEventFileSink" => json!({"event_log_path": "/events"}),
        "HttpHealthCheck" => json!({"path": "/", "method": "POST"}),
        "TcpHealthCheck" => json!({"receive": [{"text": "00"}]}),
        "CustomHealthCheck" => json!({"name": "x"}),
        "Payload" => json!({"text": "00"}),
        "Int64Range" => json!({"start": 100, "end": 600}),
        "HttpFilter" => json!({
            "name": "y",
            "typed_config": typed("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"),
        }),
        "KeepaliveSettings" => json!({"timeout": "1s"}),
        "LbEndpoint" => json!({"endpoint": {"address": address}}),
        "ListenerFilter" => json!({
            "name": "y",
            "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
        }),
        "ListenerFilterChainMatchPredicate" => json!({"any_match": true}),
        "CidrRange" => json!({"address_prefix": "10.0.0.0"}),
        "DomainMatcher" => json!({"domains": ["a"], "on_match": base("OnMatch")}),
        "IPRangeMatcher" => {
            json!({"ranges": [base("CidrRange")], "on_match": base("OnMatch")})
        }
        "Matcher" => json!({"matcher_tree": base("MatcherTree")}),
        "MatcherTree" => {
            json!({"input": base("xds.core.v3.TypedExtensionConfig"), "exact_match_map": {}})
        }
        "OnMatch" => json!({"action": {
            "name": "a",
            "typed_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "n"},
        }}),
        "TypedExtensionConfig" if message.starts_with("xds.") => json!({
            "name": "i",
            "typed_config": typed("envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput"),
        }),
        "KeyValuePair" => json!({"key": "k"}),
        "Rule" => json!({"tlv_type": 1, "on_tlv_present": base("KeyValuePair")}),
        "Pipe" => json!({"path": "/p"}),
        "QueryParameterMatcher" => json!({"name": "q"}),
        "Rds" => json!({"route_config_name": "r", "config_source": {"ads": {}}}),
        "RegexMatcher" => json!({"regex": "a"}),
        "Route" => json!({"match": {"prefix": "/"}, "route": {"cluster": "c"}}),
        "RouteAction" => json!({"cluster": "c"}),
        "RouteMatch" => json!({"prefix": "/"}),
        "RuntimeFractionalPercent" => json!({"default_value": {"numerator": 1}}),
        "SocketAddress" => json!({"address": "10.0.0.1", "port_value": 80}),
        "StringMatcher" => json!({"exact": "a"}),
        "SubstitutionFormatString" => json!({"text_format_source": {"inline_string": "y"}}),
        "SocketOption" => json!({"level": 1, "name": 8, "int_value": 7000}),
        "AdditionalAddress" => json!({"address": address}),
        "Thresholds" => json!({"max_connections": 9}),
        "TransportSocketMatch" => json!({"name": "m"}),
        "TlsCertificate" => certificate(),
        "TlsSessionTicketKeys" => json!({"keys": [{"inline_string": "k".repeat(80)}]}),
        "CertificateValidationContext" => json!({"trusted_ca": {"inline_string": CA.pem}}),
        "CombinedCertificateValidationContext" => {
            json!({"default_validation_context": base("CertificateValidationContext")})
        }
        "CommonTlsContext" => json!({
            "tls_certificates": [certificate()],
            "validation_context": base("CertificateValidationContext"),
        }),
        "Secret" => json!({"name": "s", "tls_certificate": certificate()}),
        "SdsSecretConfig" => json!({"name": "s", "sds_config": {"ads": {}}}),
        "SubjectAltNameMatcher" => json!({"san_type": "DNS", "matcher": {"exact": "a"}}),
        "TrustDomain" => json!({"name": "td", "trust_bundle": {"inline_string": CA.pem}}),
        "TlvEntry" => json!({"type": 1, "value": "eQ=="}),
        "TcpProxy" => json!({"stat_prefix": "t", "cluster": "c"}),
        "BackoffStrategy" => json!({"base_interval": "1s"}),
        "RateLimitedRetryBackOff" => json!({"reset_headers": [base("ResetHeader")]}),
        "ResetHeader" => json!({"name": "x"}),
        "RetryBackOff" => json!({"base_interval": "1s"}),
        "RetryHostPredicate" => json!({"name": "p", "typed_config": typed(PREVIOUS_HOSTS)}),
        "RetryPriority" => json!({
            "name": "p",
            "typed_config": {"@type": format!("type.googleapis.com/{PREVIOUS_PRIORITIES}"), "update_frequency": 1},
        }),
        "UpgradeConfig" => json!({"upgrade_type": "websocket"}),
        "VirtualHost" => json!({"name": "h", "domains": ["h"], "routes": [base("Route")]}),
        "WatchedDirectory" | "PathConfigSource" => json!({"path": "/d"}),
        "WeightedCluster" => json!({"clusters": [{"name": "a", "weight": 1}]}),
        _ => json!({}),
    }
}

fn certificate() -> Value {
    json!({
        "certificate_chain": {"inline_string": LEAF.pem},
        "private_key": {"inline_string": LEAF.key_pem()},
    })
}

/// A filter chain with this TLS.
fn downstream_tls(bytes: &[u8]) -> Outcome {
    let socket = delimited(3, &any(DOWNSTREAM_TLS, bytes)); // typed_config
    let chain = encode(LISTENER, json!({"name": "l", "address": base("Address")}));
    let filters = nested(
        LISTENER,
        &["filter_chains"],
        &[
            nested(CHAIN, &["transport_socket"], &socket),
            encode(CHAIN, json!({"filters": [network_filter()]})),
        ]
        .concat(),
    );
    listener(&[chain, filters].concat())
}

fn typed(name: &str) -> Value {
    json!({"@type": format!("type.googleapis.com/{name}")})
}

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const CONNECTION_LIMIT: &str =
    "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const SESSION: &str = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
const SESSION_HEADER: &str =
    "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState";
const HTTP_STATE: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";
const NETWORK_STATE: &str = "envoy.extensions.filters.network.set_filter_state.v3.Config";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const HTTP_FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const PREVIOUS_PRIORITIES: &str =
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
const DATA_SOURCE: &str = "envoy.config.core.v3.DataSource";
const CHAIN: &str = "envoy.config.listener.v3.FilterChain";
const DOWNSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
const SPIFFE: &str = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const HEALTH_CHECK: &str = "envoy.config.core.v3.HealthCheck";
const LISTENER: &str = "envoy.config.listener.v3.Listener";

fn router() -> Value {
    json!({"name": "router", "typed_config": typed(ROUTER)})
}

fn network_filter() -> Value {
    let manager = merged(typed(MANAGER), base(MANAGER));
    json!({"name": "http", "typed_config": manager})
}

fn target(message: &str, bases: Vec<Value>, decode: impl Fn(&[u8]) -> Outcome + 'static) -> Target {
    let bases = bases
        .into_iter()
        .map(|base| encode(message, base))
        .collect();
    Target {
        message: descriptor(message),
        bases,
        decode: Rc::new(decode),
    }
}

fn cluster(bytes: &[u8]) -> Outcome {
    outcome(crate::xds::decode::cluster(bytes))
}

fn listener(bytes: &[u8]) -> Outcome {
    outcome(crate::xds::decode::listener(bytes))
}

/// An extension of a cluster: `path` leads to its `Any`, `rest` makes the cluster whole.
fn in_cluster(message: &str, base: Value, path: &'static [&str], rest: Value) -> Target {
    let rest = encode(CLUSTER, rest);
    let name = message.to_owned();
    target(message, vec![base], move |bytes| {
        cluster(&[nested(CLUSTER, path, &any(&name, bytes)), rest.clone()].concat())
    })
}

/// A listener filter.
fn listener_filter(message: &str) -> Target {
    let name = message.to_owned();
    let base = if name.ends_with(".ProxyProtocol") {
        json!({"rules": [base("Rule")]})
    } else {
        json!({})
    };
    target(message, vec![base], move |bytes| {
        // The name is field 1, typed_config field 3.
        let element = [delimited(1, b"x"), delimited(3, &any(&name, bytes))].concat();
        listener(
            &[
                encode(LISTENER, whole()),
                nested(LISTENER, &["listener_filters"], &element),
            ]
            .concat(),
        )
    })
}

/// A cluster that trusts by SPIFFE.
fn spiffe(bytes: &[u8]) -> Outcome {
    let validator = delimited(2, &any(SPIFFE, bytes)); // typed_config of the extension
    let path = &[
        "common_tls_context",
        "validation_context",
        "custom_validator_config",
    ];
    upstream_tls(&nested(UPSTREAM_TLS, path, &validator))
}

/// A cluster with TLS.
fn over_tls() -> Value {
    json!({"name": "a", "transport_socket": {"name": "t", "typed_config": typed(UPSTREAM_TLS)}})
}

/// A cluster with this TLS.
fn upstream_tls(bytes: &[u8]) -> Outcome {
    let socket = delimited(3, &any(UPSTREAM_TLS, bytes)); // typed_config
    let name = encode(CLUSTER, json!({"name": "a"}));
    cluster(&[name, nested(CLUSTER, &["transport_socket"], &socket)].concat())
}

/// A custom matcher of the tree that chooses the chain.
fn custom_matcher(message: &str) -> Target {
    let name = message.to_owned();
    target(message, vec![json!({})], move |bytes| {
        let path = &["filter_chain_matcher", "matcher_tree"];
        let tree = json!({"filter_chain_matcher": {"matcher_tree": {"input": base("xds.core.v3.TypedExtensionConfig")}}});
        let rest = encode(LISTENER, merged(whole(), tree));
        let custom = [delimited(1, b"x"), delimited(2, &any(&name, bytes))].concat();
        let custom = delimited(4, &custom); // of MatcherTree
        listener(&[rest, nested(LISTENER, path, &custom)].concat())
    })
}

fn whole() -> Value {
    // Another match than that of the chain the walk adds.
    let conditions = json!({"destination_port": 9});
    let chain =
        json!({"name": "n", "filter_chain_match": conditions, "filters": [network_filter()]});
    json!({"name": "l", "address": base("Address"), "filter_chains": [chain]})
}

/// An extension of the connection manager of a listener.
fn in_manager(message: &str, base: Value, list: &'static str, rest: Value) -> Target {
    let rest = encode(MANAGER, rest);
    let name = message.to_owned();
    target(message, vec![base], move |bytes| {
        // Both lists have the name as field 1 and typed_config as field 4.
        let element = [delimited(1, b"x"), delimited(4, &any(&name, bytes))].concat();
        manager(&[rest.clone(), nested(MANAGER, &[list], &element)].concat())
    })
}

/// A listener with this connection manager.
fn manager(bytes: &[u8]) -> Outcome {
    // The name is field 1, typed_config field 4.
    network(&[delimited(1, b"f"), delimited(4, &any(MANAGER, bytes))].concat())
}

/// A connection manager with this filter before the router.
fn http_filter(bytes: &[u8]) -> Outcome {
    let rest = encode(MANAGER, json!({"stat_prefix": "s", "route_config": {}}));
    let router = encode(MANAGER, json!({"http_filters": [router()]}));
    manager(&[rest, nested(MANAGER, &["http_filters"], bytes), router].concat())
}

/// A connection manager with this session filter.
fn session(bytes: &[u8]) -> Outcome {
    http_filter(&[delimited(1, b"s"), delimited(4, &any(SESSION, bytes))].concat())
}

/// The same with this state.
fn session_state(message: &str, base: Value) -> Target {
    let name = message.to_owned();
    target(message, vec![base], move |bytes| {
        session(&nested(
            SESSION,
            &["session_state", "typed_config"],
            &any(&name, bytes),
        ))
    })
}

/// A listener with this filter.
fn network(bytes: &[u8]) -> Outcome {
    let chain = nested(LISTENER, &["filter_chains", "filters"], bytes);
    listener(&[addressed(), chain].concat())
}

/// A listener with this filter and the last one.
fn network_before(bytes: &[u8], last: &[u8]) -> Outcome {
    // Field 3 of a chain are its filters, field 3 of a listener its chains.
    let chain = [delimited(3, bytes), delimited(3, last)].concat();
    listener(&[addressed(), delimited(3, &chain)].concat())
}

fn addressed() -> Vec<u8> {
    encode(LISTENER, json!({"name": "l", "address": base("Address")}))
}

/// Where the walk begins; it goes on into the messages found on the way.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn roots() -> Vec<Target> {
    let member =
        json!({"endpoint": {"address": {"socket_address": {"address": "b.c", "port_value": 1}}}});
    let dns = json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": [member]}]});
    let eds = json!({"name": "a", "type": "EDS", "eds_cluster_config": base("EdsClusterConfig")});
    let routes = json!({"stat_prefix": "s", "route_config": {}});
    let whole = base(MANAGER);
    let name = || json!({"name": "a"});
    let raw = json!({
        "name": "r",
        "typed_config": typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
    });
    let answer = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "y"}}});
    let host = json!({"name": "v", "domains": ["v"], "routes": [answer]});
    let answering = json!({"name": "t", "virtual_hosts": [host]});
    let secrets = [
        "tls_certificate",
        "validation_context",
        "session_ticket_keys",
    ];
    let messages = [
        "TlsCertificate",
        "CertificateValidationContext",
        "TlsSessionTicketKeys",
    ];
    let secrets = secrets.into_iter().zip(messages);
    let secrets = secrets.map(|(field, message)| json!({"name": "s", field: base(message)}));
    vec![
        target(SECRET, secrets.collect(), |bytes| {
            outcome(crate::xds::decode::secret(bytes))
        }),
        target(LISTENER, vec![self::whole()], listener),
        target(
            DATA_SOURCE,
            vec![json!({"inline_string": CA.pem})],
            |bytes| {
                let path = &["common_tls_context", "validation_context", "trusted_ca"];
                let tls = nested(UPSTREAM_TLS, path, bytes);
                upstream_tls(&tls)
            },
        ),
        listener_filter("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"),
        listener_filter("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
        target(TCP_PROXY, vec![base("TcpProxy")], |bytes| {
            network(&[delimited(1, b"f"), delimited(4, &any(TCP_PROXY, bytes))].concat())
        }),
        target(CONNECTION_LIMIT, vec![base("ConnectionLimit")], |bytes| {
            let filter = [
                delimited(1, b"f"),
                delimited(4, &any(CONNECTION_LIMIT, bytes)),
            ];
            let last = encode("envoy.config.listener.v3.Filter", network_filter());
            network_before(&filter.concat(), &last)
        }),
        target(
            NETWORK_STATE,
            vec![json!({"on_new_connection": [base("FilterStateValue")]})],
            |bytes| {
                let filter = [delimited(1, b"f"), delimited(4, &any(NETWORK_STATE, bytes))];
                let last = encode("envoy.config.listener.v3.Filter", network_filter());
                network_before(&filter.concat(), &last)
            },
        ),
        custom_matcher("xds.type.matcher.v3.IPMatcher"),
        custom_matcher("xds.type.matcher.v3.ServerNameMatcher"),
        target(MANAGER, vec![whole.clone()], manager),
        target(
            "envoy.config.listener.v3.Filter",
            vec![network_filter()],
            network,
        ),
        target(HTTP_FILTER, vec![base(HTTP_FILTER)], http_filter),
        in_manager(ROUTER, json!({}), "http_filters", routes),
        target(
            SESSION,
            vec![
                base("StatefulSession"),
                merged(base("StatefulSession"), json!({"strict": false})),
            ],
            session,
        ),
        session_state(
            "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
            json!({"cookie": {"name": "c"}}),
        ),
        session_state(SESSION_HEADER, json!({"name": "x"})),
        target(
            HTTP_STATE,
            vec![json!({"on_request_headers": [base("FilterStateValue")]})],
            |bytes| {
                http_filter(&[delimited(1, b"s"), delimited(4, &any(HTTP_STATE, bytes))].concat())
            },
        ),
        target(
            "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
            vec![json!({"stateful_session": base("StatefulSession")})],
            |bytes| {
                let any = any(
                    "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
                    bytes,
                );
                let table = "envoy.config.route.v3.RouteConfiguration";
                let config = nested(table, &["typed_per_filter_config", "value"], &any);
                let rest = encode(table, json!({"name": "t"}));
                outcome(crate::xds::decode::route_config(&[rest, config].concat()))
            },
        ),
        in_manager(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            base("FileAccessLog"),
            "access_log",
            whole.clone(),
        ),
        in_manager(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            json!({}),
            "access_log",
            whole,
        ),
        target(
            "envoy.config.route.v3.RouteConfiguration",
            vec![json!({"name": "t"}), answering],
            |bytes| outcome(crate::xds::decode::route_config(bytes)),
        ),
        target(
            CLUSTER,
            vec![
                name(),
                eds,
                json!({"name": "a", "type": "STRICT_DNS", "load_assignment": dns}),
                json!({"name": "a", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}),
                json!({"name": "a", "lb_policy": "LEAST_REQUEST"}),
                json!({"name": "a", "lb_policy": "MAGLEV"}),
                json!({"name": "a", "lb_policy": "RING_HASH"}),
            ],
            cluster,
        ),
        target(
            "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
            vec![base("EdsClusterConfig")],
            |bytes| {
                let rest = encode(CLUSTER, json!({"name": "a", "type": "EDS"}));
                cluster(&[rest, nested(CLUSTER, &["eds_cluster_config"], bytes)].concat())
            },
        ),
        target(
            "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
            vec![json!({})],
            |bytes| {
                let rest = encode(CLUSTER, json!({"name": "a", "lb_policy": "MAGLEV"}));
                let path = ["common_lb_config", "consistent_hashing_lb_config"];
                cluster(&[rest, nested(CLUSTER, &path, bytes)].concat())
            },
        ),
        in_cluster(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({"explicit_http_config": {"http2_protocol_options": {}}}),
            &["typed_extension_protocol_options", "value"],
            over_tls(),
        ),
        target(HEALTH_CHECK, vec![base(HEALTH_CHECK)], |bytes| {
            let check = nested(CLUSTER, &["health_checks"], bytes);
            cluster(&[encode(CLUSTER, over_tls()), check].concat())
        }),
        in_cluster(
            "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
            json!({"transport_socket": raw}),
            &["transport_socket", "typed_config"],
            name(),
        ),
        target(
            DOWNSTREAM_TLS,
            vec![json!({"common_tls_context": base("CommonTlsContext")})],
            downstream_tls,
        ),
        in_cluster(
            UPSTREAM_TLS,
            json!({"common_tls_context": base("CommonTlsContext")}),
            &["transport_socket", "typed_config"],
            name(),
        ),
        target(
            SPIFFE,
            vec![json!({"trust_domains": [merged(base("TrustDomain"), json!({"name": "other"}))]})],
            spiffe,
        ),
        in_cluster(
            "envoy.extensions.clusters.dns.v3.DnsCluster",
            json!({}),
            &["cluster_type", "typed_config"],
            json!({"name": "a", "load_assignment": dns}),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
            json!({
                "override_host_sources": [{"header": "x"}],
                "fallback_policy": {"policies": [{"typed_extension_config": {
                    "name": "r",
                    "typed_config": typed("envoy.extensions.load_balancing_policies.random.v3.Random"),
                }}]},
            }),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.random.v3.Random",
            json!({}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.subset.v3.Subset",
            json!({
                "subset_selectors": [{"keys": ["k"]}],
                "subset_lb_policy": {"policies": [{"typed_extension_config": {
                    "name": "r",
                    "typed_config": typed("envoy.extensions.load_balancing_policies.random.v3.Random"),
                }}]},
            }),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
            json!({"endpoint_picking_policy": {"policies": [{"typed_extension_config": {
                "name": "r",
                "typed_config": typed("envoy.extensions.load_balancing_policies.random.v3.Random"),
            }}]}}),
            POLICY,
            name(),
        ),
        in_cluster(
            "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
            json!({}),
            POLICY,
            name(),
        ),
        target(
            "envoy.config.endpoint.v3.ClusterLoadAssignment",
            vec![base("ClusterLoadAssignment")],
            |bytes| outcome(crate::xds::decode::endpoints(bytes)),
        ),
        target(
            "envoy.config.bootstrap.v3.Bootstrap",
            vec![base("Bootstrap")],
            bootstrap,
        ),
    ]
}

fn outcome<T: Debug>(result: Result<Decoded<T>, DecodeError>) -> Outcome {
    match result {
        Ok(Decoded { value, warnings }) => Outcome {
            value: format!("{value:?}"),
            errors: Vec::new(),
            warnings,
        },
        Err(DecodeError {
            resource: _,
            errors,
        }) => Outcome {
            value: String::new(),
            errors,
            warnings: Vec::new(),
        },
    }
}

fn bootstrap(bytes: &[u8]) -> Outcome {
    let message = Message::decode(bytes).expect("the walk writes valid messages");
    let mut result = crate::bootstrap::from_pb(message).map_err(|errors| DecodeError {
        resource: String::new(),
        errors,
    });
    if let Ok(decoded) = &mut result {
        // The copy for dumps has every field, understood or not.
        decoded.value.raw = xds_proto::pb::google::protobuf::Any::default();
    }
    outcome(result)
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).expect("it is in the set")
}

/// One length-delimited field.
pub(super) fn delimited(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding::encode_key(number, encoding::WireType::LengthDelimited, &mut bytes);
    encoding::encode_varint(payload.len() as u64, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// `payload` inside the fields named in `path`, from outermost to innermost.
fn nested(message: &str, path: &[&str], payload: &[u8]) -> Vec<u8> {
    let Some((name, rest)) = path.split_first() else {
        return payload.to_vec();
    };
    let field = descriptor(message)
        .get_field_by_name(name)
        .expect("the path exists");
    let inner = match field.kind() {
        Kind::Message(inner) => nested(inner.full_name(), rest, payload),
        _ => payload.to_vec(),
    };
    delimited(field.number(), &inner)
}

pub(super) fn any(type_name: &str, payload: &[u8]) -> Vec<u8> {
    let url = format!("type.googleapis.com/{type_name}");
    [delimited(1, url.as_bytes()), delimited(2, payload)].concat()
}
