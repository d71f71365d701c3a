//! `ClientSideWeightedRoundRobin`: what it may say, and what not.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_report::Metric;
use crate::config::load_report::ReportWeighted;

const TYPED: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

fn with(config: Value) -> Value {
    let url = "type.googleapis.com/envoy.extensions.load_balancing_policies.\
               client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
    let any = merged(json!({"@type": url}), config);
    let policy = json!({"typed_extension_config": {"name": "p", "typed_config": any}});
    json!({"load_balancing_policy": {"policies": [policy]}})
}

#[test]
fn defaults_and_every_field_are_read() {
    let read = |config| valid(with(config)).load_balancing;
    let default = read(json!({}));
    assert_eq!(
        default.policy,
        LbPolicy::Reported(ReportWeighted::default())
    );
    assert_eq!(default.slow_start, None);
    let all = json!({
        "enable_oob_load_report": false, "blackout_period": "0s", "weight_expiration_period": "5s",
        "weight_update_period": "0.25s", "error_utilization_penalty": 0.5,
        "metric_names_for_computing_utilization": ["utilization.gpu", "named_metrics.*", "eps"],
        "slow_start_config": {"slow_start_window": "5s"},
    });
    let all = read(all);
    let expected = ReportWeighted {
        blackout: Duration::ZERO,
        expiration: Duration::from_secs(5),
        update_period: Duration::from_millis(250),
        error_penalty: 0.5,
        utilization: [
            Metric::Utilization("gpu".into()),
            Metric::Named("*".into()),
            Metric::Eps,
        ]
        .into(),
    };
    assert_eq!(all.policy, LbPolicy::Reported(expected));
    let slow_start = all.slow_start.expect("it is given");
    assert_eq!(slow_start.window, Duration::from_secs(5));
    let short = read(json!({"weight_update_period": "0s"})).policy;
    let LbPolicy::Reported(short) = short else {
        panic!("another policy: {short:?}");
    };
    assert_eq!(short.update_period, Duration::from_millis(100));
}

#[test]
fn what_makes_no_sense_is_refused_at_its_place() {
    let place = |field: &str| format!("{TYPED}.{field}");
    let warned = |field: &str| format!("warn {TYPED}.{field}");
    let names = |names: Value| json!({"metric_names_for_computing_utilization": names});
    let many: Vec<String> = (0..33).map(|at| format!("named_metrics.{at}")).collect();
    let cases = [
        (
            json!({"enable_oob_load_report": true}),
            place("enable_oob_load_report"),
        ),
        (
            json!({"oob_reporting_period": "5s"}),
            warned("oob_reporting_period"),
        ),
        (
            json!({"error_utilization_penalty": -0.5}),
            place("error_utilization_penalty"),
        ),
        (
            json!({"error_utilization_penalty": "NaN"}),
            place("error_utilization_penalty"),
        ),
        (
            json!({"error_utilization_penalty": "Infinity"}),
            place("error_utilization_penalty"),
        ),
        (json!({"blackout_period": "-1s"}), place("blackout_period")),
        (
            json!({"weight_expiration_period": "-1s"}),
            place("weight_expiration_period"),
        ),
        (
            names(json!(["cpu_utilization", "cpu"])),
            warned("metric_names_for_computing_utilization[1]"),
        ),
        (
            names(json!(many)),
            place("metric_names_for_computing_utilization"),
        ),
    ];
    let cases: Vec<(Value, &str)> = cases
        .iter()
        .map(|(config, expected)| (with(config.clone()), expected.as_str()))
        .collect();
    check_table(&cluster, &decode, &cases);
}
