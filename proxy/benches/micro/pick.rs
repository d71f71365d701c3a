//! What does choosing a host cost, by policy and number of hosts? The project's bound is 60 ns at
//! 1,000 hosts.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use proxy::config::Endpoints;
use proxy::config::cluster::{LbPolicy, LeastRequest, Selection};
use proxy::upstream::HostSet;
use proxy::upstream::transport::Transports;
use proxy::xds::decode::endpoints;

use crate::resources;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for hosts in [10, 1_000] {
        let (_, endpoints) = endpoints(&resources::endpoints(0, 1, hosts))
            .expect("members")
            .value;
        for (name, policy) in policies() {
            let set = set(&policy, &endpoints);
            let mut random = fastrand::Rng::with_seed(1);
            let mut cursor = 0;
            group.bench_function(BenchmarkId::new(name, hosts), |bencher| {
                bencher.iter(|| black_box(set.pick(&mut cursor, random.u64(..))).is_some());
            });
        }
    }
    group.finish();
}

fn set(policy: &LbPolicy, endpoints: &Endpoints) -> HostSet {
    HostSet::new(policy, endpoints, &Transports::default(), None)
}

fn policies() -> [(&'static str, LbPolicy); 3] {
    let least = LeastRequest {
        selection: Selection::Choices(2),
        bias: 1.0,
    };
    [
        ("round_robin", LbPolicy::RoundRobin),
        ("random", LbPolicy::Random),
        ("least_request", LbPolicy::LeastRequest(least)),
    ]
}
