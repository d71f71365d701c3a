//! `PeakEwma`: what it may say, and what not.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::latency::PeakEwma;
use crate::config::load_balancing::LbPolicy;

const TYPED: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

fn with(config: Value) -> Value {
    let url =
        "type.googleapis.com/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma";
    let any = merged(json!({"@type": url}), config);
    let policy = json!({"typed_extension_config": {"name": "p", "typed_config": any}});
    json!({"load_balancing_policy": {"policies": [policy]}})
}

#[test]
fn defaults_and_every_field_are_read() {
    let read = |config| valid(with(config)).load_balancing.policy;
    assert_eq!(read(json!({})), LbPolicy::PeakEwma(PeakEwma::default()));
    let all = json!({
        "decay_time": "5s", "aggregation_interval": "0.2s", "default_rtt": "0.003s",
        "penalty_value": 500,
    });
    let expected = PeakEwma {
        decay: Duration::from_secs(5),
        interval: Duration::from_millis(200),
        default: Duration::from_millis(3),
        penalty: 500.0,
    };
    assert_eq!(read(all), LbPolicy::PeakEwma(expected));
}

#[test]
fn what_makes_no_sense_is_refused_at_its_place() {
    let place = |field: &str| format!("{TYPED}.{field}");
    let warned = |field: &str| format!("warn {TYPED}.{field}");
    let cases = [
        (json!({"decay_time": "0s"}), place("decay_time")),
        (json!({"decay_time": "-1s"}), place("decay_time")),
        (
            json!({"aggregation_interval": "0s"}),
            place("aggregation_interval"),
        ),
        (
            json!({"aggregation_interval": "0.01s"}),
            warned("aggregation_interval"),
        ),
        (
            json!({"max_samples_per_host": 10}),
            warned("max_samples_per_host"),
        ),
        (json!({"default_rtt": "-1s"}), place("default_rtt")),
        (json!({"penalty_value": -1}), place("penalty_value")),
        (json!({"penalty_value": "NaN"}), place("penalty_value")),
        (json!({"penalty_value": "Infinity"}), place("penalty_value")),
    ];
    let cases: Vec<(Value, &str)> = cases
        .iter()
        .map(|(config, expected)| (with(config.clone()), expected.as_str()))
        .collect();
    check_table(&cluster, &decode, &cases);
}
