//! What does choosing a host cost, by policy and number of hosts? The project's bound is 60 ns at
//! 1,000 hosts.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use proxy::config::Endpoints;
use proxy::config::endpoint::Traits;
use proxy::config::latency::{LatencyWeighted, PeakEwma};
use proxy::config::load_balancing::{
    HashFunction, Hashing, LbPolicy, LeastRequest, LoadBalancing, Maglev, PickFirst, RingHash,
    Selection,
};
use proxy::config::load_report::ReportWeighted;
use proxy::config::subset::{Criteria, Pair, Selector, Subsets};
use proxy::upstream::HostSet;
use proxy::upstream::load_balancer::{Asked, Named};
use proxy::upstream::transport::Transports;
use proxy::xds::decode::endpoints;

use crate::resources;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for hosts in [10, 1_000] {
        let members = resources::endpoints(0, 1, hosts);
        let (_, endpoints) = endpoints(&members).expect("members").value;
        let shadow = LoadBalancing {
            policy: LbPolicy::Latency(LatencyWeighted::default()),
            ..LoadBalancing::default()
        };
        let plain = policies().map(|(name, policy)| (name, policy, None));
        let looked_on = (
            "round_robin_and_shadow",
            LbPolicy::RoundRobin,
            Some(Box::new(shadow)),
        );
        for (name, policy, shadow) in plain.into_iter().chain([looked_on]) {
            let set = set((policy, shadow), &endpoints);
            let mut random = fastrand::Rng::with_seed(1);
            let mut cursor = 0;
            group.bench_function(BenchmarkId::new(name, hosts), |bencher| {
                bencher.iter(|| {
                    let (random, hash) = (random.u64(..), Some(random.u64(..)));
                    black_box(set.pick(&mut cursor, random, hash)).is_some()
                });
            });
        }
        measure_asked(&mut group, &endpoints);
    }
    group.finish();
}

/// Requests that ask for a tenth of the members, and such that name one.
fn measure_asked(group: &mut BenchmarkGroup<'_, WallTime>, endpoints: &Endpoints) {
    let mut divided = endpoints.clone();
    let members = divided.localities.iter_mut();
    let members = members.flat_map(|locality| &mut locality.endpoints);
    for (number, member) in members.enumerate() {
        let value: Box<[Box<str>]> = Box::new([(number % 10).to_string().into()]);
        let traits = Traits::from([("v".into(), value.clone()), ("w".into(), value)]);
        member.traits = Some(Arc::new(traits));
    }
    let selector = Selector {
        keys: Box::new(["v".into(), "w".into()]),
        ..Selector::default()
    };
    let subsets = Subsets {
        selectors: vec![selector],
        ..Subsets::default()
    };
    let config = LoadBalancing {
        subsets: Some(Arc::new(subsets)),
        ..LoadBalancing::default()
    };
    let set = HostSet::new(&config, &divided, &Transports::default(), None);
    let pair = |name: &str| Pair::new(name.into(), "3".into());
    let criteria = Criteria {
        pairs: Box::new([pair("v"), pair("w")]),
        fallbacks: None,
    };
    let label = set.members().last().map(|last| last.host.label.clone());
    let label = label.expect("there are members");
    let subset = Asked {
        criteria: Some(&criteria),
        ..Asked::default()
    };
    let named = Asked {
        host: Some(Named {
            address: &label,
            is_strict: true,
        }),
        ..Asked::default()
    };
    let mut random = fastrand::Rng::with_seed(1);
    let mut cursor = 0;
    for (name, asked) in [("subset", subset), ("session", named)] {
        let hosts = set.members().len();
        group.bench_function(BenchmarkId::new(name, hosts), |bencher| {
            bencher.iter(|| black_box(set.pick_for(&mut cursor, random.u64(..), asked)).is_some());
        });
    }
}

fn set((policy, shadow): (LbPolicy, Option<Box<LoadBalancing>>), endpoints: &Endpoints) -> HostSet {
    let config = LoadBalancing {
        policy,
        shadow,
        ..LoadBalancing::default()
    };
    HostSet::new(&config, endpoints, &Transports::default(), None)
}

fn policies() -> [(&'static str, LbPolicy); 9] {
    let least = LeastRequest {
        selection: Selection::Choices(2),
        bias: 1.0,
    };
    let ring = RingHash {
        function: HashFunction::Xx,
        size_min: 1 << 16,
        size_max: 1 << 23,
        hashing: Hashing::default(),
    };
    let maglev = Maglev {
        table_size: 65_537,
        hashing: Hashing::default(),
    };
    [
        ("round_robin", LbPolicy::RoundRobin),
        ("random", LbPolicy::Random),
        ("least_request", LbPolicy::LeastRequest(least)),
        ("latency", LbPolicy::Latency(LatencyWeighted::default())),
        ("pick_first", LbPolicy::PickFirst(PickFirst::default())),
        ("peak_ewma", LbPolicy::PeakEwma(PeakEwma::default())),
        ("reported", LbPolicy::Reported(ReportWeighted::default())),
        ("ring_hash", LbPolicy::RingHash(ring)),
        ("maglev", LbPolicy::Maglev(maglev)),
    ]
}
