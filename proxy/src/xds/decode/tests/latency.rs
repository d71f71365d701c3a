//! `LatencyWeightedRoundRobin`: every number has a range.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::latency::Guards;
use crate::config::latency::LatencyWeighted;
use crate::config::latency::Selector;
use crate::config::load_balancing::LbPolicy;

const TYPED: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

fn with(config: Value) -> Value {
    let url = "type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin";
    let any = merged(json!({"@type": url}), config);
    let round_robin =
        "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
    let policy = |any: Value| json!({"typed_extension_config": {"name": "p", "typed_config": any}});
    let standard = policy(json!({"@type": round_robin}));
    json!({"load_balancing_policy": {"policies": [policy(any), standard]}})
}

/// A policy that chooses, one that looks on, and what is known of neither.
#[test]
fn a_shadow_is_two_lists_of_which_the_first_known_counts() {
    let list = |names: &[&str]| {
        let one = |name: &&str| {
            let url = format!("type.googleapis.com/{name}");
            json!({"typed_extension_config": {"name": "p", "typed_config": {"@type": url}}})
        };
        json!({"policies": names.iter().map(one).collect::<Vec<_>>()})
    };
    let random = "envoy.extensions.load_balancing_policies.random.v3.Random";
    let latency = "weir.load_balancing.v1.LatencyWeightedRoundRobin";
    let nested = "weir.load_balancing.v1.Shadow";
    let shadow = |fields: Value| {
        let url = json!({"@type": "type.googleapis.com/weir.load_balancing.v1.Shadow"});
        let any = merged(url, fields);
        let policy = json!({"typed_extension_config": {"name": "p", "typed_config": any}});
        json!({"load_balancing_policy": {"policies": [policy]},
            "common_lb_config": {"healthy_panic_threshold": {"value": 7}}})
    };
    let both = json!({"active": list(&[random]), "shadow": list(&[latency])});
    let found = valid(shadow(both)).load_balancing;
    assert_eq!((&found.policy, found.panic_percent), (&LbPolicy::Random, 7));
    let looks_on = found.shadow.expect("one looks on");
    let expected = LbPolicy::Latency(LatencyWeighted::default());
    assert_eq!((looks_on.policy, looks_on.panic_percent), (expected, 7));
    assert!(looks_on.shadow.is_none());
    let refused = |fields: Value| {
        decode(cluster(shadow(fields)))
            .expect_err("refused")
            .to_string()
    };
    let text = refused(json!({"active": list(&[random])}));
    assert!(text.contains(&format!("{TYPED}.shadow")), "{text}");
    let text = refused(json!({"active": list(&[nested]), "shadow": list(&[random])}));
    assert!(text.contains(&format!("{TYPED}.active.policies")), "{text}");
}

#[test]
fn defaults_and_every_field_are_read() {
    let read = |config| valid(with(config)).load_balancing.policy;
    assert_eq!(
        read(json!({})),
        LbPolicy::Latency(LatencyWeighted::default())
    );
    let all = json!({
        "selector": "SMOOTH", "window": "20s", "update_period": "0.5s", "weight_base": 30,
        "weight_min": 2, "weight_max": 90, "epsilon": "0.001s",
        "guards": {
            "failure_penalty": 5, "retry_after_max": "3s", "min_samples": 7, "exploration": 4,
            "step_max": 3, "warm_up": "0s", "sample_expiry": "30s",
        },
        "ignore_load_reports": true,
    });
    let expected = LatencyWeighted {
        selector: Selector::Smooth,
        window: Duration::from_secs(20),
        update_period: Duration::from_millis(500),
        weight_base: 30.0,
        weight_min: 2.0,
        weight_max: 90.0,
        epsilon: Duration::from_millis(1),
        guards: Some(Guards {
            failure_penalty: 5.0,
            retry_after_max: Duration::from_secs(3),
            samples_min: 7.0,
            exploration: 0.04,
            step_max: 3.0,
            warm_up: Duration::ZERO,
            sample_expiry: Duration::from_secs(30),
        }),
        reads_reports: false,
    };
    assert_eq!(read(all), LbPolicy::Latency(expected));
    let plain = LatencyWeighted {
        guards: None,
        reads_reports: false,
        ..LatencyWeighted::default()
    };
    assert_eq!(read(json!({"plain": true})), LbPolicy::Latency(plain));
}

#[test]
fn numbers_outside_of_their_ranges_are_refused_at_their_place() {
    let place = |field: &str| format!("{TYPED}.{field}");
    let guards = |field: &str, value: Value| json!({"guards": {field: value}});
    let cases = [
        (json!({"window": "0s"}), place("window")),
        (json!({"window": "601s"}), place("window")),
        (json!({"update_period": "0.01s"}), place("update_period")),
        (
            json!({"window": "1s", "update_period": "2s"}),
            place("update_period"),
        ),
        (json!({"epsilon": "0s"}), place("epsilon")),
        (json!({"weight_min": 0}), place("weight_min")),
        (json!({"weight_max": 101}), place("weight_max")),
        (
            json!({"weight_base": 4_000_000_000_u32}),
            place("weight_base"),
        ),
        (json!({"weight_max": 10}), place("weight_base")),
        (json!({"selector": 7}), place("selector")),
        (
            guards("failure_penalty", json!(0.5)),
            place("guards.failure_penalty"),
        ),
        (
            guards("failure_penalty", json!("NaN")),
            place("guards.failure_penalty"),
        ),
        (guards("step_max", json!(1.0)), place("guards.step_max")),
        (
            guards("step_max", json!("Infinity")),
            place("guards.step_max"),
        ),
        (
            guards("exploration", json!(51)),
            place("guards.exploration"),
        ),
        (
            guards("exploration", json!(-1)),
            place("guards.exploration"),
        ),
        (guards("min_samples", json!(0)), place("guards.min_samples")),
        (
            guards("sample_expiry", json!("0s")),
            place("guards.sample_expiry"),
        ),
        (guards("warm_up", json!("3600s")), place("guards.warm_up")),
        (
            guards("retry_after_max", json!("1000s")),
            place("guards.retry_after_max"),
        ),
    ];
    let cases: Vec<(Value, &str)> = cases
        .iter()
        .map(|(config, place)| (with(config.clone()), place.as_str()))
        .collect();
    check_table(&cluster, &decode, &cases);
    let both = json!({"plain": true, "guards": {}});
    let warned = format!("warn {}", place("guards"));
    check_table(&cluster, &decode, &[(with(both), warned.as_str())]);
}
