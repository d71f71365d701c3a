//! Members of two versions in two stages, and who is chosen of them.

use std::collections::BTreeSet;

use super::*;
use crate::config::Endpoints;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Locality;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::latency::LatencyWeighted;
use crate::config::load_balancing::LbPolicy;
use crate::upstream::HostSet;
use crate::upstream::load_balancer::Asked;
use crate::upstream::transport::Transports;

/// A member: its port, labels as name and value, where `a|b` is a list.
type Sketch = (u16, &'static [(&'static str, &'static str)]);

const MEMBERS: &[Sketch] = &[
    (1, &[("version", "1"), ("stage", "prod")]),
    (2, &[("version", "1"), ("stage", "dev")]),
    (3, &[("version", "2"), ("stage", "prod")]),
    (4, &[("version", "2"), ("stage", "prod")]),
    (5, &[("stage", "dev")]),
    (6, &[]),
];

fn endpoint((port, labels): &Sketch) -> Endpoint {
    let label = |(name, value): &(&str, &str)| {
        let items = value.split('|').filter(|_| value.contains('|'));
        let texts = items.chain([*value]).map(Box::from);
        (Box::from(*name), texts.collect())
    };
    let labels: Traits = labels.iter().map(label).collect();
    Endpoint {
        address: Address::Socket(([127, 0, 0, 1], *port).into()),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Healthy,
        labels: None,
        traits: Some(Arc::new(labels)).filter(|labels| !labels.is_empty()),
        hash_key: None,
        check: None,
    }
}

fn endpoints(members: &[Sketch]) -> Endpoints {
    let locality = LocalityEndpoints {
        endpoints: members.iter().map(endpoint).collect(),
        ..LocalityEndpoints::default()
    };
    Endpoints {
        localities: vec![locality],
        ..Endpoints::default()
    }
}

fn set(config: Subsets, endpoints: &Endpoints) -> HostSet {
    let config = LoadBalancing {
        subsets: Some(Arc::new(config)),
        policy: LbPolicy::Random,
        ..LoadBalancing::default()
    };
    HostSet::new(&config, endpoints, &Transports::default(), None)
}

fn keys(names: &[&str]) -> Box<[Name]> {
    let mut names: Vec<Name> = names.iter().map(|name| Name::from(*name)).collect();
    names.sort_unstable();
    names.into()
}

fn selector(names: &[&str], fallback: Option<SelectorFallback>) -> Selector {
    Selector {
        keys: keys(names),
        single_host: false,
        fallback,
    }
}

fn pairs(asked: &[(&str, &str)]) -> Box<[Pair]> {
    let pair = |(name, value): &(&str, &str)| Pair::new((*name).into(), (*value).into());
    let mut pairs: Vec<Pair> = asked.iter().map(pair).collect();
    pairs.sort_by(|left, right| left.name.cmp(&right.name));
    pairs.into()
}

fn criteria(asked: &[(&str, &str)]) -> Criteria {
    Criteria {
        pairs: pairs(asked),
        fallbacks: None,
    }
}

/// Ports that are ever chosen.
fn who(set: &HostSet, criteria: Option<&Criteria>) -> Vec<u16> {
    let mut random = fastrand::Rng::with_seed(1);
    let picked = (0..200).filter_map(|_| {
        let asked = Asked {
            criteria,
            ..Asked::default()
        };
        let host = set.pick_for(&mut 0, random.u64(..), asked)?;
        match host.address {
            Address::Socket(address) => Some(address.port()),
            Address::Pipe(_) => None,
        }
    });
    let ports: BTreeSet<u16> = picked.collect();
    ports.into_iter().collect()
}

#[test]
fn what_is_asked_for_is_what_is_chosen_from() {
    let config = Subsets {
        selectors: vec![
            selector(&["version"], None),
            selector(&["stage", "version"], None),
        ],
        ..Subsets::default()
    };
    let set = set(config, &endpoints(MEMBERS));
    let check = |asked: &[(&str, &str)], expected: &[u16]| {
        assert_eq!(who(&set, Some(&criteria(asked))), expected, "{asked:?}");
    };
    check(&[("version", "1")], &[1, 2]);
    check(&[("version", "2")], &[3, 4]);
    check(&[("version", "1"), ("stage", "dev")], &[2]);
    check(&[("version", "2"), ("stage", "dev")], &[]);
    check(&[("stage", "dev")], &[]); // nobody selects by it alone
    check(&[("version", "1"), ("other", "x")], &[]);
    assert!(who(&set, None).is_empty());
}

#[test]
fn the_fallback_takes_what_no_subset_is_for() {
    let with = |fallback, panics_to_any| {
        let config = Subsets {
            fallback,
            panics_to_any,
            default: pairs(&[("version", "1"), ("stage", "prod")]).into(),
            selectors: vec![selector(&["version"], None)],
            ..Subsets::default()
        };
        set(config, &endpoints(MEMBERS))
    };
    let missing = criteria(&[("version", "3")]);
    let all = [1, 2, 3, 4, 5, 6];
    for asked in [None, Some(&missing)] {
        assert!(who(&with(Fallback::Nobody, true), asked).is_empty());
        assert_eq!(who(&with(Fallback::Any, false), asked), all);
        assert_eq!(who(&with(Fallback::Default, false), asked), [1]);
    }
    let mut gone = endpoints(MEMBERS);
    gone.localities[0].endpoints.remove(0);
    let config = |panics_to_any| Subsets {
        fallback: Fallback::Default,
        panics_to_any,
        default: pairs(&[("version", "1"), ("stage", "prod")]).into(),
        selectors: vec![selector(&["version"], None)],
        ..Subsets::default()
    };
    assert!(who(&set(config(false), &gone), None).is_empty());
    assert_eq!(who(&set(config(true), &gone), None), [2, 3, 4, 5, 6]);
}

#[test]
fn a_selector_may_have_a_fallback_of_its_own() {
    let config = |fallback| Subsets {
        fallback: Fallback::Any,
        default: pairs(&[("stage", "dev")]).into(),
        selectors: vec![
            selector(&["stage", "version"], Some(fallback)),
            selector(&["version"], Some(SelectorFallback::Nobody)),
        ],
        ..Subsets::default()
    };
    let check = |fallback, asked: &[(&str, &str)], expected: &[u16]| {
        let set = set(config(fallback), &endpoints(MEMBERS));
        assert_eq!(who(&set, Some(&criteria(asked))), expected, "{asked:?}");
    };
    let asked = [("stage", "dev"), ("version", "2")];
    let all = [1, 2, 3, 4, 5, 6];
    check(SelectorFallback::Nobody, &asked, &[]);
    check(SelectorFallback::Any, &asked, &all);
    check(SelectorFallback::Default, &asked, &[2, 5]);
    let by_version = SelectorFallback::Keys(keys(&["version"]));
    check(by_version.clone(), &asked, &[3, 4]);
    check(
        by_version.clone(),
        &[("stage", "dev"), ("version", "7")],
        &[],
    );
    check(by_version, &[("x", "y")], &all);
}

#[test]
fn a_list_is_any_of_its_values_where_it_is_to_be() {
    let members: &[Sketch] = &[
        (1, &[("version", "1|2"), ("stage", "a|b")]),
        (2, &[("version", "2"), ("stage", "b")]),
        (3, &[("version", ""), ("stage", "b")]),
    ];
    let with = |list_as_any| {
        let config = Subsets {
            fallback: Fallback::Default,
            default: pairs(&[("version", "1")]).into(),
            selectors: vec![selector(&["stage", "version"], None)],
            list_as_any,
            ..Subsets::default()
        };
        set(config, &endpoints(members))
    };
    let both = criteria(&[("version", "2"), ("stage", "b")]);
    let one = criteria(&[("version", "1"), ("stage", "a")]);
    assert_eq!(who(&with(true), Some(&both)), [1, 2]);
    assert_eq!(who(&with(true), Some(&one)), [1]);
    assert_eq!(who(&with(true), None), [1]);
    assert_eq!(who(&with(false), Some(&both)), [2]);
    assert!(who(&with(false), None).is_empty());
    let listed = criteria(&[("version", "1|2"), ("stage", "a|b")]);
    assert_eq!(who(&with(false), Some(&listed)), [1]);
}

#[test]
fn more_may_be_asked_than_a_selector_has() {
    let config = |allows_redundant_keys| Subsets {
        selectors: vec![selector(&["version"], None)],
        allows_redundant_keys,
        ..Subsets::default()
    };
    let asked = criteria(&[("version", "1"), ("zone", "x")]);
    let endpoints = endpoints(MEMBERS);
    assert!(who(&set(config(false), &endpoints), Some(&asked)).is_empty());
    assert_eq!(who(&set(config(true), &endpoints), Some(&asked)), [1, 2]);
}

#[test]
fn criteria_can_be_tried_one_after_another() {
    let config = |takes_fallback_list| Subsets {
        selectors: vec![
            selector(&["version"], None),
            selector(&["stage", "version"], None),
        ],
        takes_fallback_list,
        ..Subsets::default()
    };
    let asked = Criteria {
        pairs: pairs(&[("stage", "dev"), (FALLBACK_LIST, "[..]")]),
        fallbacks: Some(Box::new([
            pairs(&[("version", "2")]),
            pairs(&[("version", "1")]),
            pairs(&[("version", "2"), ("stage", "prod")]),
        ])),
    };
    let members = endpoints(MEMBERS);
    assert_eq!(who(&set(config(true), &members), Some(&asked)), [2]);
    assert!(who(&set(config(false), &members), Some(&asked)).is_empty());
    let mut fewer = members;
    fewer.localities[0].endpoints.remove(1);
    assert_eq!(who(&set(config(true), &fewer), Some(&asked)), [3, 4]);
    let nothing = Criteria {
        pairs: pairs(&[("version", "2"), (FALLBACK_LIST, "[]")]),
        fallbacks: Some(Box::new([])),
    };
    assert_eq!(who(&set(config(true), &fewer), Some(&nothing)), [3, 4]);
}

#[test]
fn a_subset_can_be_its_first_member_whatever_its_health() {
    let config = Subsets {
        selectors: vec![Selector {
            single_host: true,
            ..selector(&["version"], None)
        }],
        ..Subsets::default()
    };
    let mut endpoints = endpoints(MEMBERS);
    endpoints.localities[0].endpoints[0].health = HealthStatus::Unhealthy;
    let mut preferred = endpoints.localities[0].clone();
    endpoints.localities[0].priority = 1;
    preferred.endpoints.drain(..3);
    endpoints.localities.push(preferred);
    let set = set(config, &endpoints);
    assert_eq!(who(&set, Some(&criteria(&[("version", "1")]))), [1]);
    assert_eq!(who(&set, Some(&criteria(&[("version", "2")]))), [4]);
}

#[test]
fn health_and_weights_of_localities_count_inside_of_a_subset() {
    let zone = |zone: &str, weight: u32, members: &[Sketch]| LocalityEndpoints {
        locality: Locality {
            zone: zone.into(),
            ..Locality::default()
        },
        weight: Some(weight),
        endpoints: members.iter().map(endpoint).collect(),
        ..LocalityEndpoints::default()
    };
    let zones = Endpoints {
        localities: vec![
            zone(
                "a",
                9,
                &[(1, &[("v", "1")]), (2, &[("v", "2")]), (3, &[("v", "2")])],
            ),
            zone("b", 1, &[(4, &[("v", "1")])]),
        ],
        ..Endpoints::default()
    };
    let share = |locality_weights| {
        let subsets = Subsets {
            selectors: vec![selector(&["v"], None)],
            locality_weights,
            ..Subsets::default()
        };
        let config = LoadBalancing {
            by_locality: true,
            subsets: Some(Arc::new(subsets)),
            ..LoadBalancing::default()
        };
        let set = HostSet::new(&config, &zones, &Transports::default(), None);
        let asked = criteria(&[("v", "1")]);
        let mut random = fastrand::Rng::with_seed(1);
        let firsts = (0..10_000).filter(|_| {
            let asked = Asked {
                criteria: Some(&asked),
                ..Asked::default()
            };
            let host = set.pick_for(&mut 0, random.u64(..), asked);
            host.is_some_and(|host| host.id == set.members()[0].host.id)
        });
        firsts.count() as f64 / 10_000.0
    };
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 0.02, "{found}");
    close(share(LocalityWeights::Ignored), 0.5);
    close(share(LocalityWeights::Kept), 0.9);
    close(share(LocalityWeights::Scaled), 0.75); // 9 of which a third is in the subset, and 1
    let mut sick = endpoints(MEMBERS);
    sick.localities[0].endpoints[2].health = HealthStatus::Unhealthy;
    let config = Subsets {
        selectors: vec![selector(&["version"], None)],
        ..Subsets::default()
    };
    let set = set(config, &sick);
    assert_eq!(who(&set, Some(&criteria(&[("version", "2")]))), [4]);
}

#[test]
fn requests_for_two_subsets_in_turn_meet_all_their_members() {
    let config = LoadBalancing {
        subsets: Some(Arc::new(Subsets {
            selectors: vec![selector(&["version"], None)],
            ..Subsets::default()
        })),
        ..LoadBalancing::default()
    };
    let set = HostSet::new(&config, &endpoints(MEMBERS), &Transports::default(), None);
    let mut seen = BTreeSet::new();
    let mut cursor = 0;
    for number in 0..4_u64 {
        let asked = criteria(&[("version", if number % 2 == 0 { "1" } else { "2" })]);
        let asked = Asked {
            criteria: Some(&asked),
            ..Asked::default()
        };
        seen.extend(set.pick_for(&mut cursor, number, asked).map(|host| host.id));
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn feedback_reaches_the_members_of_subsets() {
    let config = LoadBalancing {
        policy: LbPolicy::Latency(LatencyWeighted::default()),
        subsets: Some(Arc::new(Subsets {
            fallback: Fallback::Any,
            selectors: vec![selector(&["version"], None)],
            ..Subsets::default()
        })),
        ..LoadBalancing::default()
    };
    let set = HostSet::new(&config, &endpoints(MEMBERS), &Transports::default(), None);
    set.set_factors(&Factors {
        partial: None,
        of_members: vec![1e-5, 1.0, 1.0, 1e-5, 1.0, 1.0],
        explored: Vec::new(),
    });
    assert_eq!(who(&set, Some(&criteria(&[("version", "1")]))), [2]);
    assert_eq!(who(&set, Some(&criteria(&[("version", "2")]))), [3]);
    assert_eq!(who(&set, None), [2, 3, 5, 6]);
}

#[test]
fn subsets_are_bounded() {
    let value: &'static str = Box::leak(
        (0..100)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
            .join("|")
            .into_boxed_str(),
    );
    let labels: &'static [(&str, &str)] =
        Box::leak(Box::new([("a", value), ("b", value), ("c", value)]));
    let config = Subsets {
        selectors: vec![selector(&["a", "b", "c"], None)],
        list_as_any: true,
        ..Subsets::default()
    };
    let set = set(config, &endpoints(&[(1, labels), (2, labels)]));
    let first = criteria(&[("a", "0"), ("b", "0"), ("c", "0")]);
    assert_eq!(who(&set, Some(&first)), [1, 2]);
    let beyond = criteria(&[("a", "99"), ("b", "99"), ("c", "99")]);
    assert!(who(&set, Some(&beyond)).is_empty());
}
