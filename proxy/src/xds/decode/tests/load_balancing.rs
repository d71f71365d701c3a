//! Which member is taken: `lb_policy`, `load_balancing_policy`, `common_lb_config`.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::hash_policy::HashPolicy;
use crate::config::hash_policy::HashSource;
use crate::config::load_balancing::HashFunction;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LeastRequest;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::Maglev;
use crate::config::load_balancing::PickFirst;
use crate::config::load_balancing::RingHash;
use crate::config::load_balancing::Selection;
use crate::config::load_balancing::SlowStart;
use crate::config::zone::ZoneAware;

/// Where a typed policy stands.
const TYPED: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

#[test]
fn the_first_known_policy_wins() {
    let typed = |package: &str, name: &str| {
        let url = format!(
            "type.googleapis.com/envoy.extensions.load_balancing_policies.{package}.v3.{name}"
        );
        json!({"typed_extension_config": {"name": package, "typed_config": {"@type": url}}})
    };
    let list = |policies: Value| json!({"load_balancing_policy": {"policies": policies}});
    let round_robin = || typed("round_robin", "RoundRobin");
    let least_request = || typed("least_request", "LeastRequest");
    let pick_first = || typed("pick_first", "PickFirst");
    let by_load = || typed("load_aware_locality", "LoadAwareLocality");
    let provided = || typed("cluster_provided", "ClusterProvided");
    check_table(
        &cluster,
        &decode,
        &[
            (list(json!([round_robin()])), "ok"),
            (list(json!([round_robin(), least_request()])), "ok"),
            (
                list(json!([by_load(), least_request(), round_robin()])),
                "warn load_balancing_policy.policies[0]",
            ),
            (
                list(json!([by_load()])),
                "warn load_balancing_policy.policies[0]",
            ),
            (list(json!([pick_first()])), "ok"),
            (list(json!([provided()])), "load_balancing_policy.policies"),
            (list(json!([])), "load_balancing_policy.policies"),
            (
                merged(list(json!([round_robin()])), json!({"lb_policy": "MAGLEV"})),
                "ok",
            ),
        ],
    );
}

/// A cluster with one typed policy.
fn with_policy(package: &str, name: &str, config: Value) -> Value {
    let url =
        format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{package}.v3.{name}");
    let any = merged(json!({"@type": url}), config);
    let policy = json!({"typed_extension_config": {"name": package, "typed_config": any}});
    json!({"load_balancing_policy": {"policies": [policy]}})
}

#[test]
fn localities_may_be_chosen_before_any_policy_that_chooses_members() {
    let by_locality = |package: &str, name: &str, config: Value| {
        let inner = with_policy(package, name, config);
        let picking = json!({"endpoint_picking_policy": inner["load_balancing_policy"]});
        with_policy("wrr_locality", "WrrLocality", picking)
    };
    let reported = "client_side_weighted_round_robin";
    let config = by_locality(reported, "ClientSideWeightedRoundRobin", json!({}));
    let found = valid(config).load_balancing;
    assert!(found.by_locality && matches!(found.policy, LbPolicy::Reported(_)));
    let found = valid(by_locality("random", "Random", json!({}))).load_balancing;
    assert!(found.by_locality && found.policy == LbPolicy::Random);
    let inner = format!("{TYPED}.endpoint_picking_policy");
    let zones = json!({"locality_lb_config": {"zone_aware_lb_config": {"min_cluster_size": "1"}}});
    let subsets = json!({
        "subset_selectors": [{"keys": ["k"]}],
        "subset_lb_policy": with_policy("random", "Random", json!({}))["load_balancing_policy"],
    });
    check_table(
        &cluster,
        &decode,
        &[
            (
                with_policy("wrr_locality", "WrrLocality", json!({})),
                &inner,
            ),
            (by_locality("maglev", "Maglev", json!({})), &inner),
            (by_locality("pick_first", "PickFirst", json!({})), &inner),
            (by_locality("subset", "Subset", subsets), &inner),
            (
                by_locality("random", "Random", zones),
                &format!("warn {inner}"),
            ),
        ],
    );
}

#[test]
fn least_request_and_random_are_read_in_both_spellings() {
    let least = |selection, bias| LbPolicy::LeastRequest(LeastRequest { selection, bias });
    let typed = |config| with_policy("least_request", "LeastRequest", config);
    let legacy =
        |config: Value| json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": config});
    let bias = json!({"choice_count": 5, "active_request_bias": {"default_value": 0.5}});
    for (change, expected) in [
        (json!({"lb_policy": "RANDOM"}), LbPolicy::Random),
        (with_policy("random", "Random", json!({})), LbPolicy::Random),
        (
            json!({"lb_policy": "LEAST_REQUEST"}),
            least(Selection::Choices(2), 1.0),
        ),
        (legacy(bias.clone()), least(Selection::Choices(5), 0.5)),
        (typed(json!({})), least(Selection::Choices(2), 1.0)),
        (typed(bias), least(Selection::Choices(5), 0.5)),
        (
            typed(json!({"selection_method": "FULL_SCAN"})),
            least(Selection::FullScan, 1.0),
        ),
        (
            typed(json!({"enable_full_scan": true})),
            least(Selection::FullScan, 1.0),
        ),
    ] {
        assert_eq!(valid(change).load_balancing.policy, expected);
    }
}

#[test]
fn zones_are_read_in_both_spellings() {
    let usual = ZoneAware::default();
    let legacy = |config: Value| json!({"common_lb_config": {"zone_aware_lb_config": config}});
    let typed = |config: Value| {
        let zones = json!({"locality_lb_config": {"zone_aware_lb_config": config}});
        with_policy("random", "Random", zones)
    };
    let size = |cluster_size_min| ZoneAware {
        cluster_size_min,
        ..usual
    };
    let forced = |from| ZoneAware {
        forced_from: Some(from),
        ..usual
    };
    for (change, expected) in [
        (json!({}), usual),
        (typed(json!({})), usual),
        (legacy(json!({"min_cluster_size": 0})), size(0)),
        (typed(json!({"min_cluster_size": "9"})), size(9)),
        (
            legacy(json!({"routing_enabled": {"value": 49.6}})),
            ZoneAware {
                enabled_percent: 50,
                ..usual
            },
        ),
        (typed(json!({"force_local_zone": {}})), forced(1)),
        (
            typed(
                json!({"force_local_zone": {"min_size": 3}, "force_locality_direct_routing": true}),
            ),
            forced(3),
        ),
        (
            typed(json!({"force_locality_direct_routing": true})),
            forced(1),
        ),
        (
            typed(json!({"locality_basis": "HEALTHY_HOSTS_WEIGHT"})),
            ZoneAware {
                by_weight: true,
                ..usual
            },
        ),
    ] {
        assert_eq!(valid(change).load_balancing.zone_aware, expected);
    }
}

#[test]
fn zones_without_sense_are_refused_and_those_without_effect_named() {
    let legacy = |config: Value| json!({"common_lb_config": {"zone_aware_lb_config": config}});
    let typed = |config: Value| {
        let zones = json!({"locality_lb_config": {"zone_aware_lb_config": config}});
        with_policy("random", "Random", zones)
    };
    let without = |policy: &str, config: Value| {
        let common = json!({"zone_aware_lb_config": config});
        json!({"lb_policy": policy, "common_lb_config": common})
    };
    let zones = "common_lb_config.zone_aware_lb_config";
    check_table(
        &cluster,
        &decode,
        &[
            (
                legacy(json!({"routing_enabled": {"value": "NaN"}})),
                &format!("{zones}.routing_enabled.value"),
            ),
            (
                typed(json!({"routing_enabled": {"value": 100.5}})),
                &format!("{TYPED}.locality_lb_config.zone_aware_lb_config.routing_enabled.value"),
            ),
            (
                without("MAGLEV", json!({"min_cluster_size": 1})),
                &format!("warn {zones}"),
            ),
            (
                merged(
                    typed(json!({})),
                    json!({"common_lb_config": {"zone_aware_lb_config": {"min_cluster_size": 1}}}),
                ),
                &format!("warn {zones}"),
            ),
        ],
    );
}

#[test]
fn pick_first_is_read() {
    let policy = |config| {
        valid(with_policy("pick_first", "PickFirst", config))
            .load_balancing
            .policy
    };
    let first = |shuffles| LbPolicy::PickFirst(PickFirst { shuffles });
    assert_eq!(policy(json!({})), first(false));
    assert_eq!(policy(json!({"shuffle_address_list": true})), first(true));
}

#[test]
fn least_request_without_sense_is_refused() {
    let typed = |config| with_policy("least_request", "LeastRequest", config);
    let legacy =
        |config: Value| json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": config});
    let bias = |value: Value| json!({"active_request_bias": {"default_value": value}});
    let in_typed = |field: &str| format!("{TYPED}.{field}");
    check_table(
        &cluster,
        &decode,
        &[
            (typed(json!({"choice_count": 1})), &in_typed("choice_count")),
            (
                typed(json!({"choice_count": 65})),
                &format!("warn {}", in_typed("choice_count")),
            ),
            (
                typed(bias(json!("NaN"))),
                &in_typed("active_request_bias.default_value"),
            ),
            (
                typed(bias(json!(-1.0))),
                &in_typed("active_request_bias.default_value"),
            ),
            (
                legacy(bias(json!("Infinity"))),
                "least_request_lb_config.active_request_bias.default_value",
            ),
            (
                legacy(json!({"choice_count": 0})),
                "least_request_lb_config.choice_count",
            ),
            (
                json!({"least_request_lb_config": {}}),
                "warn least_request_lb_config",
            ),
            (
                json!({"lb_policy": "LEAST_REQUEST", "round_robin_lb_config": {}}),
                "warn round_robin_lb_config",
            ),
        ],
    );
}

fn ring(hashing: Hashing) -> RingHash {
    RingHash {
        function: HashFunction::Xx,
        size_min: 1024,
        size_max: 8 * 1024 * 1024,
        hashing,
    }
}

fn maglev(table_size: u64, hashing: Hashing) -> LbPolicy {
    LbPolicy::Maglev(Maglev {
        table_size,
        hashing,
    })
}

#[test]
fn policies_that_hash_are_read_in_both_spellings() {
    let none = Hashing::default;
    let sizes = json!({
        "hash_function": "MURMUR_HASH_2", "minimum_ring_size": 7, "maximum_ring_size": 9,
    });
    let sized = LbPolicy::RingHash(RingHash {
        function: HashFunction::Murmur2,
        size_min: 7,
        size_max: 9,
        hashing: none(),
    });
    let common = json!({"use_hostname_for_hashing": true, "hash_balance_factor": 120});
    let hashing = || Hashing {
        by_hostname: true,
        balance_factor: Some(120),
        policies: Vec::new(),
    };
    let legacy = |policy: &str, field: &str, config: Value| {
        json!({
            "lb_policy": policy, field: config,
            "common_lb_config": {"consistent_hashing_lb_config": common.clone()},
        })
    };
    let typed_ring = |config| with_policy("ring_hash", "RingHash", config);
    let typed_maglev = |config| with_policy("maglev", "Maglev", config);
    let in_typed = json!({"consistent_hashing_lb_config": common.clone()});
    for (change, expected) in [
        (
            json!({"lb_policy": "RING_HASH"}),
            LbPolicy::RingHash(ring(none())),
        ),
        (typed_ring(json!({})), LbPolicy::RingHash(ring(none()))),
        (
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": sizes}),
            sized.clone(),
        ),
        (typed_ring(sizes), sized),
        (
            legacy("RING_HASH", "ring_hash_lb_config", json!({})),
            LbPolicy::RingHash(ring(hashing())),
        ),
        (
            typed_ring(in_typed.clone()),
            LbPolicy::RingHash(ring(hashing())),
        ),
        (
            typed_ring(common.clone()),
            LbPolicy::RingHash(ring(hashing())),
        ),
        (json!({"lb_policy": "MAGLEV"}), maglev(65_537, none())),
        (typed_maglev(json!({})), maglev(65_537, none())),
        (
            legacy("MAGLEV", "maglev_lb_config", json!({"table_size": 11})),
            maglev(11, hashing()),
        ),
        (
            typed_maglev(merged(in_typed, json!({"table_size": 11}))),
            maglev(11, hashing()),
        ),
    ] {
        let found = valid(change).load_balancing;
        let expected = LoadBalancing {
            policy: expected,
            ..LoadBalancing::default()
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_typed_policy_may_say_what_is_hashed() {
    let policies = json!([{"query_parameter": {"name": "q"}, "terminal": true}]);
    let config = json!({"consistent_hashing_lb_config": {"hash_policy": policies}});
    let found = valid(with_policy("maglev", "Maglev", config)).load_balancing;
    let expected = Hashing {
        policies: vec![HashPolicy {
            source: HashSource::QueryParameter("q".into()),
            terminal: true,
        }],
        ..Hashing::default()
    };
    assert_eq!(found.policy, maglev(65_537, expected));
}

#[test]
fn hashing_without_sense_is_refused() {
    let typed_ring = |config| with_policy("ring_hash", "RingHash", config);
    let typed_maglev = |config| with_policy("maglev", "Maglev", config);
    let at = |field: &str| format!("{TYPED}.{field}");
    let both = json!({"hash_balance_factor": 120, "consistent_hashing_lb_config": {}});
    let factor = |factor: u32| json!({"hash_balance_factor": factor});
    let common =
        |value: Value| json!({"common_lb_config": {"consistent_hashing_lb_config": value}});
    check_table(
        &cluster,
        &decode,
        &[
            (
                typed_ring(json!({"maximum_ring_size": 1023})),
                &at("minimum_ring_size"),
            ),
            (
                typed_ring(json!({"maximum_ring_size": 8_388_609})),
                &at("maximum_ring_size"),
            ),
            (typed_ring(factor(99)), &at("hash_balance_factor")),
            (
                typed_ring(both),
                &format!("warn {}", at("hash_balance_factor")),
            ),
            (
                typed_maglev(json!({"table_size": 65_536})),
                &at("table_size"),
            ),
            (typed_maglev(json!({"table_size": 1})), &at("table_size")),
            (
                typed_maglev(json!({"table_size": 5_000_077})),
                &at("table_size"),
            ),
            (json!({"maglev_lb_config": {}}), "warn maglev_lb_config"),
            (
                json!({"lb_policy": "MAGLEV", "ring_hash_lb_config": {}}),
                "warn ring_hash_lb_config",
            ),
            (
                common(factor(120)),
                "warn common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
            ),
            (
                common(factor(99)),
                "common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
            ),
            (
                merged(
                    typed_maglev(json!({})),
                    common(json!({"use_hostname_for_hashing": true})),
                ),
                "warn common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing",
            ),
        ],
    );
}

#[test]
fn panic_and_localities_are_read_in_both_spellings() {
    let common = |config: Value| json!({"common_lb_config": config});
    let found = valid(common(json!({"healthy_panic_threshold": {"value": 30.7}})));
    assert_eq!(found.load_balancing.panic_percent, 30);
    let threshold = common(json!({"healthy_panic_threshold": {"value": 0}}));
    let found = valid(merged(
        with_policy("random", "Random", json!({})),
        threshold,
    ));
    assert_eq!(found.load_balancing.panic_percent, 0);

    let weighted = json!({"locality_weighted_lb_config": {}});
    let failing = json!({"zone_aware_lb_config": {"fail_traffic_on_panic": true}});
    let with_locality = |package: &str, name: &str, config: &Value| {
        with_policy(package, name, json!({"locality_lb_config": config}))
    };
    for (change, by_locality) in [
        (common(weighted.clone()), true),
        (with_locality("random", "Random", &weighted), true),
        (with_locality("round_robin", "RoundRobin", &weighted), true),
        (
            with_locality("least_request", "LeastRequest", &weighted),
            true,
        ),
        (with_policy("maglev", "Maglev", weighted.clone()), true),
        (with_policy("ring_hash", "RingHash", weighted.clone()), true),
        (common(failing.clone()), false),
        (with_locality("random", "Random", &failing), false),
    ] {
        let found = valid(change.clone()).load_balancing;
        let expected = (by_locality, !by_locality);
        assert_eq!(
            (found.by_locality, found.fails_in_panic),
            expected,
            "{change}"
        );
    }
    check_table(
        &cluster,
        &decode,
        &[
            (
                common(json!({"healthy_panic_threshold": {"value": 101}})),
                "common_lb_config.healthy_panic_threshold.value",
            ),
            (
                merged(json!({"lb_policy": "MAGLEV"}), common(failing)),
                "warn common_lb_config.zone_aware_lb_config.fail_traffic_on_panic",
            ),
            (
                common(json!({"zone_aware_lb_config": {"min_cluster_size": 3}})),
                "ok",
            ),
        ],
    );
}

#[test]
fn slow_start_is_read_in_both_spellings() {
    let config = json!({"slow_start_config": {
        "slow_start_window": "60s", "aggression": {"default_value": 2.0},
        "min_weight_percent": {"value": 25},
    }});
    let expected = SlowStart {
        window: Duration::from_secs(60),
        aggression: 2.0,
        weight_min: 0.25,
    };
    let mut least = json!({"lb_policy": "LEAST_REQUEST"});
    least["least_request_lb_config"] = config.clone();
    for change in [
        json!({"round_robin_lb_config": config}),
        least,
        with_policy("round_robin", "RoundRobin", config.clone()),
        with_policy("least_request", "LeastRequest", config),
    ] {
        let found = valid(change.clone()).load_balancing.slow_start;
        assert_eq!(found, Some(expected), "{change}");
    }
    let window = json!({"slow_start_window": "60s"});
    let short = with_policy(
        "round_robin",
        "RoundRobin",
        json!({"slow_start_config": window}),
    );
    let found = valid(short).load_balancing.slow_start.expect("a window");
    assert_eq!((found.aggression, found.weight_min), (1.0, 0.1));
    let with = |config: Value| {
        let config = merged(json!({"slow_start_window": "60s"}), config);
        json!({"round_robin_lb_config": {"slow_start_config": config}})
    };
    let at = |field: &str| format!("round_robin_lb_config.slow_start_config.{field}");
    check_table(
        &cluster,
        &decode,
        &[
            (
                with(json!({"aggression": {"default_value": 0.0}})),
                &at("aggression.default_value"),
            ),
            (
                with(json!({"min_weight_percent": {"value": 101}})),
                &at("min_weight_percent.value"),
            ),
            (
                with(json!({"slow_start_window": "0s"})),
                &format!("warn {}", at("slow_start_window")),
            ),
        ],
    );
}
