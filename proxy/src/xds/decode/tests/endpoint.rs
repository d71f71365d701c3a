//! `ClusterLoadAssignment`.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::encode;
use super::merged;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::xds::decode::DecodeError;
use crate::xds::decode::Decoded;

fn decode(json: Value) -> Result<Decoded<(Name, Endpoints)>, DecodeError> {
    let bytes = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", json);
    crate::xds::decode::endpoints(&bytes)
}

fn address(ip: &str, port: u32) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}

fn member(ip: &str, port: u32) -> Value {
    json!({"endpoint": {"address": address(ip, port)}})
}

fn assignment(change: Value) -> Value {
    merged(json!({"cluster_name": "a"}), change)
}

fn with_member(change: Value) -> Value {
    let member = merged(member("10.0.0.1", 80), change);
    json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": [member]}]})
}

#[test]
fn a_full_assignment_becomes_members() {
    let decoded = decode(json!({
        "cluster_name": "backend",
        "policy": {"overprovisioning_factor": 200},
        "endpoints": [
            {
                "locality": {"region": "r", "zone": "z", "sub_zone": "s"},
                "load_balancing_weight": 3,
                "lb_endpoints": [
                    {
                        "endpoint": {"address": address("10.0.0.1", 80), "hostname": "one"},
                        "load_balancing_weight": 5,
                        "health_status": "DRAINING",
                    },
                    {"endpoint": {"address": {"pipe": {"path": "/run/b"}}}},
                ],
            },
            {"priority": 1, "lb_endpoints": [member("::1", 8080)]},
        ],
    }))
    .expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let (name, endpoints) = decoded.value;
    assert_eq!(
        (&*name, endpoints.overprovisioning_factor),
        ("backend", 200)
    );
    let [first, second] = endpoints.localities.as_slice() else {
        panic!("two localities")
    };
    assert_eq!(
        (&*first.locality.zone, first.weight, first.priority),
        ("z", Some(3), 0)
    );
    let [one, two] = first.endpoints.as_slice() else {
        panic!("two members")
    };
    assert_eq!(
        one.address,
        Address::Socket("10.0.0.1:80".parse().expect("literal"))
    );
    assert_eq!(
        (&*one.hostname, one.weight, one.health),
        ("one", 5, HealthStatus::Draining)
    );
    assert_eq!(two.address, Address::Pipe("/run/b".into()));
    assert_eq!((two.weight, two.health), (1, HealthStatus::Unknown));
    assert_eq!((second.priority, second.weight), (1, None));
}

fn drop(numerator: u32, denominator: &str) -> Value {
    let part = json!({"numerator": numerator, "denominator": denominator});
    json!({"category": denominator, "drop_percentage": part})
}

#[test]
fn what_is_said_of_all_members() {
    let drops = [
        drop(0, "HUNDRED"),
        drop(3, "TEN_THOUSAND"),
        drop(1_000_000, "MILLION"),
    ];
    let policy = json!({"drop_overloads": drops, "weighted_priority_health": true});
    let decoded = decode(assignment(json!({ "policy": policy }))).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let (_, endpoints) = decoded.value;
    assert!(endpoints.weighted_priority_health);
    let drops = endpoints.drops.iter();
    let drops: Vec<_> = drops
        .map(|drop| (&*drop.category, drop.per_million))
        .collect();
    assert_eq!(drops, [("TEN_THOUSAND", 300), ("MILLION", 1_000_000)]);
}

#[test]
fn the_factor_defaults_to_envoys() {
    let (_, endpoints) = decode(json!({"cluster_name": "a"})).expect("valid").value;
    assert_eq!(endpoints.overprovisioning_factor, 140);
    assert!(endpoints.localities.is_empty());
}

#[test]
fn assignments() {
    let locality = |priority: u32| json!({"priority": priority});
    let weighted = |weight: u32| json!({"load_balancing_weight": weight});
    check_table(
        &assignment,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"cluster_name": ""}), "cluster_name"),
            (
                json!({"endpoints": [locality(0), locality(1), locality(0)]}),
                "ok",
            ),
            (json!({"endpoints": [locality(1)]}), "endpoints"),
            (
                json!({"endpoints": [locality(0), locality(2)]}),
                "endpoints",
            ),
            (json!({"endpoints": [{"priority": 129}]}), "endpoints"),
            (
                json!({"endpoints": [weighted(0)]}),
                "endpoints[0].load_balancing_weight",
            ),
            (
                json!({"endpoints": [weighted(u32::MAX), weighted(1)]}),
                "endpoints",
            ),
            (json!({"named_endpoints": {"a": {}}}), "named_endpoints"),
            (
                json!({"policy": {"overprovisioning_factor": 0}}),
                "policy.overprovisioning_factor",
            ),
            (
                json!({"policy": {"endpoint_stale_after": "0s"}}),
                "policy.endpoint_stale_after",
            ),
            (
                json!({"policy": {"drop_overloads": [{"category": "x"}]}}),
                "ok",
            ),
            (
                json!({"policy": {"drop_overloads": [drop(1, "HUNDRED"), {}]}}),
                "policy.drop_overloads[1].category",
            ),
            (
                json!({"policy": {"drop_overloads": [drop(101, "HUNDRED")]}}),
                "policy.drop_overloads[0].drop_percentage.numerator",
            ),
            (
                json!({"policy": {"drop_overloads": vec![drop(1, "MILLION"); 17]}}),
                "policy.drop_overloads",
            ),
            (
                json!({"endpoints": [{"leds_cluster_locality_config": {}}]}),
                "endpoints[0].leds_cluster_locality_config",
            ),
        ],
    );
}

fn metadata(key: &str, value: Value) -> Value {
    json!({"metadata": {"filter_metadata": {key: {"a": value}}}})
}

#[test]
fn members() {
    let at = "endpoints[0].lb_endpoints[0]";
    let field = |name: &str| format!("{at}.{name}");
    let socket = |change: Value| {
        let socket = merged(json!({"address": "10.0.0.1", "port_value": 80}), change);
        json!({"endpoint": {"address": {"socket_address": socket}}})
    };
    let socket_field = |name: &str| field(&format!("endpoint.address.socket_address.{name}"));
    check_table(
        &with_member,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"endpoint": null}), &field("endpoint")),
            (
                json!({"endpoint": null, "endpoint_name": "x"}),
                &field("endpoint_name"),
            ),
            (json!({"endpoint": {}}), &field("endpoint.address")),
            (
                json!({"endpoint": {"address": {}}}),
                &field("endpoint.address"),
            ),
            (
                json!({"load_balancing_weight": 0}),
                &field("load_balancing_weight"),
            ),
            (json!({"health_status": 17}), &field("health_status")),
            (
                metadata("envoy.transport_socket_match", json!(["b", {"c": 1}])),
                "ok",
            ),
            (metadata("envoy.lb", json!("b")), "ok"),
            (
                socket(json!({"port_value": 0})),
                &socket_field("port_value"),
            ),
            (
                socket(json!({"port_value": 65536})),
                &socket_field("port_value"),
            ),
            (
                socket(json!({"port_value": null})),
                &socket_field("port_value"),
            ),
            (
                socket(json!({"port_value": null, "named_port": "http"})),
                &socket_field("named_port"),
            ),
            (
                socket(json!({"protocol": "UDP"})),
                &socket_field("protocol"),
            ),
            (socket(json!({"address": ""})), &socket_field("address")),
            (
                socket(json!({"address": "example.com"})),
                &socket_field("address"),
            ),
            (
                socket(json!({"resolver_name": "x"})),
                &socket_field("resolver_name"),
            ),
            (
                json!({"endpoint": {"address": {"pipe": {"path": ""}}}}),
                &field("endpoint.address.pipe.path"),
            ),
        ],
    );
}

#[test]
fn a_repeated_address_is_kept_once() {
    let twice = json!({"lb_endpoints": [member("10.0.0.1", 80), member("10.0.0.1", 80)]});
    let elsewhere = json!({"lb_endpoints": [member("10.0.0.1", 80)]});
    let decoded = decode(assignment(json!({"endpoints": [twice, elsewhere]}))).expect("valid");
    let counts: Vec<_> = decoded
        .value
        .1
        .localities
        .iter()
        .map(|locality| locality.endpoints.len())
        .collect();
    assert_eq!(counts, [1, 1]);
    let fields: Vec<_> = decoded
        .warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect();
    assert_eq!(fields, ["endpoints[0].lb_endpoints[1]"]);
}

#[test]
fn all_errors_are_told_up_to_a_bound() {
    let two = json!({"lb_endpoints": [member("", 80), member("10.0.0.1", 0)]});
    let error = decode(assignment(json!({"endpoints": [two]}))).expect_err("invalid");
    assert_eq!(
        error.to_string(),
        "a: endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: must not be empty; \
         endpoints[0].lb_endpoints[1].endpoint.address.socket_address.port_value: 0 is not within 1 and 65535"
    );

    let many: Vec<_> = (0..100).map(|_| member("10.0.0.1", 0)).collect();
    let error =
        decode(assignment(json!({"endpoints": [{"lb_endpoints": many}]}))).expect_err("invalid");
    assert_eq!(error.errors.len(), 33);
    assert_eq!(
        error.errors.last().map(ToString::to_string).as_deref(),
        Some("and 68 more")
    );
}

#[test]
fn the_key_of_a_member_is_read_of_its_metadata() {
    let metadata =
        |lb: Value| with_member(json!({"metadata": {"filter_metadata": {"envoy.lb": lb}}}));
    let found = decode(metadata(json!({"hash_key": "k"}))).expect("valid");
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let (_, endpoints) = found.value;
    let endpoint = &endpoints.localities[0].endpoints[0];
    assert_eq!(endpoint.hash_key.as_deref(), Some("k"));
    let warned = "warn endpoints[0].lb_endpoints[0].metadata";
    check_table(
        &|lb| metadata(lb),
        &decode,
        &[
            (json!({"hash_key": 7}), warned),
            (json!({"hash_key": "k", "canary": true}), "ok"),
            (json!({"hash_key": ""}), "ok"),
        ],
    );
}
