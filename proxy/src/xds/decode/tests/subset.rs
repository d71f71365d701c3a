//! Subsets in both spellings, and what routes ask of members.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use super::route::forward;
use super::route::forwarding;
use crate::config::load_balancing::LbPolicy;
use crate::config::route::ClusterSpecifier;
use crate::config::subset::Criteria;
use crate::config::subset::Fallback;
use crate::config::subset::LocalityWeights;
use crate::config::subset::SelectorFallback;
use crate::config::subset::Subsets;

fn legacy(config: Value) -> Value {
    json!({ "lb_subset_config": config })
}

fn policy(name: &str, config: Value) -> Value {
    let url = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}");
    let any = merged(json!({ "@type": url }), config);
    json!({"policies": [{"typed_extension_config": {"name": "p", "typed_config": any}}]})
}

fn typed(config: Value) -> Value {
    let inner = json!({"subset_lb_policy": policy("random.v3.Random", json!({}))});
    let subset = policy("subset.v3.Subset", merged(inner, config));
    json!({ "load_balancing_policy": subset })
}

fn full() -> Value {
    json!({
        "fallback_policy": "DEFAULT_SUBSET",
        "default_subset": {"version": "1", "number": 2},
        "subset_selectors": [
            {"keys": ["b", "a", "b"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["a"]},
            {"keys": ["a"], "single_host_per_subset": true, "fallback_policy": "NO_FALLBACK"},
            {"keys": ["c"], "fallback_policy": "ANY_ENDPOINT"},
            {"keys": ["d"], "fallback_policy": "DEFAULT_SUBSET"},
            {"keys": ["e"]},
        ],
        "locality_weight_aware": true,
        "scale_locality_weight": true,
        "panic_mode_any": true,
        "list_as_any": true,
        "metadata_fallback_policy": "FALLBACK_LIST",
    })
}

#[test]
fn both_spellings_say_the_same() {
    let found = valid(legacy(full())).load_balancing;
    let subsets = found.subsets.expect("there are selectors");
    assert_eq!(subsets.fallback, Fallback::Default);
    assert_eq!(subsets.locality_weights, LocalityWeights::Scaled);
    assert!(subsets.panics_to_any && subsets.list_as_any && subsets.takes_fallback_list);
    assert!(!subsets.allows_redundant_keys);
    let default = subsets.default.iter();
    let default: Vec<_> = default.map(|pair| (&*pair.name, &*pair.value)).collect();
    assert_eq!(default, [("number", "2.0"), ("version", r#""1""#)]);
    let fallbacks = subsets.selectors.iter().map(|one| one.fallback.clone());
    assert_eq!(
        fallbacks.collect::<Vec<_>>(),
        [
            Some(SelectorFallback::Keys(Box::new(["a".into()]))),
            Some(SelectorFallback::Nobody),
            Some(SelectorFallback::Any),
            Some(SelectorFallback::Default),
            None,
        ]
    );
    assert_eq!(*subsets.selectors[0].keys, ["a".into(), "b".into()]);
    assert!(subsets.selectors[1].single_host);
    let other = valid(typed(full())).load_balancing;
    assert_eq!(other.subsets.as_deref(), Some(&*subsets));
    assert_eq!(other.policy, LbPolicy::Random);
    let longest = json!({"allow_redundant_keys": true, "subset_selectors": [
        {"keys": ["a"]}, {"keys": ["b", "a"]}, {"keys": ["c"]},
    ]});
    let longest = valid(typed(longest)).load_balancing.subsets;
    let longest = longest.expect("there are selectors");
    assert_eq!(longest.selectors[0].keys.len(), 2);
    assert_eq!(*longest.selectors[1].keys, ["a".into()]);
    let redundant = merged(full(), json!({"allow_redundant_keys": true}));
    let redundant = valid(typed(redundant)).load_balancing.subsets;
    let expected = Subsets {
        allows_redundant_keys: true,
        ..Subsets::clone(&subsets)
    };
    assert_eq!(redundant, Some(Arc::new(expected)));
    assert_eq!(valid(legacy(json!({}))).load_balancing.subsets, None);
}

#[test]
fn subsets_without_sense_are_refused() {
    let selector = |config: Value| json!({ "subset_selectors": [config] });
    let keys = json!({"keys": ["a", "b"], "fallback_policy": "KEYS_SUBSET"});
    let with =
        |keys_subset: Value| merged(keys.clone(), json!({"fallback_keys_subset": keys_subset}));
    let many: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let at = "lb_subset_config.subset_selectors[0]";
    let subset_keys = format!("{at}.fallback_keys_subset");
    let inner = "load_balancing_policy.policies[0].typed_extension_config.typed_config";
    let both = merged(legacy(selector(json!({"keys": ["a"]}))), typed(json!({})));
    check_table(
        &cluster,
        &decode,
        &[
            (legacy(selector(json!({"keys": ["a"]}))), "ok"),
            (legacy(selector(json!({"keys": []}))), "ok"),
            (
                legacy(json!({"scale_locality_weight": true})),
                "warn lb_subset_config.scale_locality_weight",
            ),
            (
                legacy(selector(
                    json!({"keys": ["a"], "fallback_keys_subset": ["a"]}),
                )),
                &subset_keys,
            ),
            (legacy(selector(with(json!([])))), &subset_keys),
            (legacy(selector(with(json!(["c"])))), &subset_keys),
            (legacy(selector(with(json!(["a", "b", "a"])))), &subset_keys),
            (legacy(selector(with(json!(["b"])))), "ok"),
            (
                legacy(selector(json!({"keys": many}))),
                &format!("{at}.keys"),
            ),
            (
                legacy(json!({"subset_selectors": vec![json!({"keys": ["a"]}); 65]})),
                "lb_subset_config.subset_selectors",
            ),
            (both, "lb_subset_config"),
            (
                typed(json!({"subset_lb_policy": null})),
                &format!("{inner}.subset_lb_policy"),
            ),
            (
                typed(
                    json!({"subset_lb_policy": typed(selector(json!({"keys": ["a"]})))["load_balancing_policy"]}),
                ),
                &format!("{inner}.subset_lb_policy"),
            ),
            (
                json!({"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "load_assignment": null,
                    "lb_subset_config": selector(json!({"keys": ["a"]}))}),
                "lb_subset_config",
            ),
        ],
    );
}

fn asks(lb: Value) -> Value {
    json!({"metadata_match": {"filter_metadata": {"envoy.lb": lb}}})
}

fn texts(criteria: Option<&Arc<Criteria>>) -> Vec<(String, String)> {
    let pairs = criteria.iter().flat_map(|criteria| &criteria.pairs);
    pairs
        .map(|pair| (pair.name.to_string(), pair.value.to_string()))
        .collect()
}

#[test]
fn routes_ask_and_their_choices_ask_more() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let one = forward(asks(json!({"b": true, "a": [1, "x"]})));
    let expected = [pair("a", r#"[1.0,"x"]"#), pair("b", "true")];
    assert_eq!(texts(one.criteria.as_ref()), expected);
    assert_eq!(forward(json!({"metadata_match": {}})).criteria, None);
    let choices = json!({"clusters": [
        merged(json!({"name": "x", "weight": 1}), asks(json!({"b": 2, "c": 3}))),
        {"name": "y", "weight": 1},
    ]});
    let several = merged(
        asks(json!({"a": 1, "b": 1})),
        json!({"cluster": null, "weighted_clusters": choices}),
    );
    let ClusterSpecifier::Weighted(clusters) = forward(several).cluster else {
        panic!("several")
    };
    let merged = [pair("a", "1.0"), pair("b", "2.0"), pair("c", "3.0")];
    assert_eq!(texts(clusters[0].criteria.as_ref()), merged);
    assert_eq!(
        texts(clusters[1].criteria.as_ref()),
        [pair("a", "1.0"), pair("b", "1.0")]
    );
    let list = json!({"a": 1, "fallback_list": [{"b": 2}, {"c": 3}, 7]});
    let listed = forward(asks(list)).criteria.expect("it asks");
    let fallbacks = listed.fallbacks.as_deref().expect("there is a list");
    let names = fallbacks
        .iter()
        .map(|one| one.iter().map(|pair| &*pair.name).collect::<Vec<_>>());
    let names: Vec<_> = names.collect();
    assert_eq!(names, [vec!["b"], vec!["c"], vec![]]);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let at = |field: &str| format!("virtual_hosts[0].routes[0].route.metadata_match{field}");
    let many: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!(n))).collect();
    let lb = r#".filter_metadata["envoy.lb"]"#;
    check_table(
        &forwarding,
        &super::route::decode,
        &[
            (asks(json!({"a": "b"})), "ok"),
            (asks(Value::Object(many)), &at(lb)),
            (
                asks(json!({"fallback_list": vec![json!({}); 17]})),
                &at(&format!("{lb}.fallback_list")),
            ),
            (
                json!({"metadata_match": {"filter_metadata": {"other": {"a": "b"}}}}),
                &format!("warn {}", at("")),
            ),
        ],
    );
}
