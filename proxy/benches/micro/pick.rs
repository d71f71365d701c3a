//! What does choosing a host cost, by policy and number of hosts? The project's bound is 60 ns at
//! 1,000 hosts. What is counted is counted as by the only worker.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use proxy::telemetry::stats::worker;

use crate::pickers;

pub(crate) fn measure(criterion: &mut Criterion) {
    worker::enter(0);
    let mut group = criterion.benchmark_group("pick");
    for hosts in [10, 1_000] {
        for mut picker in pickers::all(hosts) {
            let mut random = fastrand::Rng::with_seed(1);
            group.bench_function(BenchmarkId::new(picker.name, hosts), |bencher| {
                bencher.iter(|| black_box(picker.pick(&mut random)));
            });
        }
    }
    group.finish();
}
