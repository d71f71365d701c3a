//! What all policies promise.

use super::*;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::latency::LatencyWeighted;
use crate::config::latency::PeakEwma;
use crate::config::load_balancing::HashFunction;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::LeastRequest as Config;
use crate::config::load_balancing::Maglev;
use crate::config::load_balancing::RingHash;
use crate::config::load_balancing::Selection;
use crate::config::load_report::ReportWeighted;
use crate::upstream::HostSet;
use crate::upstream::transport::Transports;

const HOSTS: u16 = 20;
const PICKS: u32 = 40_000;
/// 99.9 % of chi-square with 19 degrees of freedom.
const CHI_SQUARE_MAX: f64 = 43.82;

fn set(policy: LbPolicy, hosts: u16) -> HostSet {
    let endpoint = |port| Endpoint {
        address: Address::Socket(([127, 0, 0, 1], port).into()),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Healthy,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    };
    let locality = LocalityEndpoints {
        endpoints: (1..=hosts).map(endpoint).collect(),
        ..LocalityEndpoints::default()
    };
    let endpoints = Endpoints {
        localities: vec![locality],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    };
    let config = LoadBalancing {
        policy,
        ..LoadBalancing::default()
    };
    HostSet::new(&config, &endpoints, &Transports::default(), None)
}

fn policies() -> [LbPolicy; 9] {
    let least = |selection| {
        LbPolicy::LeastRequest(Config {
            selection,
            bias: 1.0,
        })
    };
    [
        LbPolicy::RoundRobin,
        LbPolicy::Random,
        LbPolicy::Latency(LatencyWeighted::default()),
        LbPolicy::PeakEwma(PeakEwma::default()),
        LbPolicy::Reported(ReportWeighted::default()),
        least(Selection::Choices(2)),
        least(Selection::FullScan),
        LbPolicy::Maglev(Maglev {
            table_size: 65_537,
            hashing: Hashing::default(),
        }),
        LbPolicy::RingHash(RingHash {
            function: HashFunction::Xx,
            size_min: 200_000,
            size_max: 1 << 23,
            hashing: Hashing::default(),
        }),
    ]
}

#[test]
fn idle_hosts_of_equal_weight_are_picked_alike() {
    for policy in policies() {
        let set = set(policy.clone(), HOSTS);
        let mut counts = std::collections::BTreeMap::<u64, u32>::new();
        let mut random = fastrand::Rng::with_seed(1);
        let mut cursor = 0;
        for _ in 0..PICKS {
            let host = set.pick(&mut cursor, random.u64(..), None).expect("a host");
            *counts.entry(host.id).or_default() += 1;
        }
        let expected = f64::from(PICKS) / f64::from(HOSTS);
        assert_eq!(counts.len(), usize::from(HOSTS), "{policy:?}");
        let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
        let sum: f64 = counts.values().map(square).sum();
        assert!(sum < CHI_SQUARE_MAX, "{policy:?}: {sum}");
    }
}

#[test]
fn nobody_is_picked_of_nobody() {
    for policy in policies() {
        assert!(set(policy, 0).pick(&mut 0, 1, None).is_none());
    }
}

#[test]
fn a_hash_decides_alone_where_the_policy_hashes() {
    for policy in policies() {
        let hashes = policy.hashing().is_some();
        let set = set(policy, HOSTS);
        for hash in 0..100_u64 {
            let hash = Some(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let pick = |mut cursor, random| set.pick(&mut cursor, random, hash).map(|h| h.id);
            let same = (1..20).all(|chance| pick(chance, chance * 77) == pick(0, 5));
            assert_eq!(same, hashes);
        }
    }
}
