//! How long does a resource take from the wire to the model?

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use proxy::xds::decode;

use crate::resources;

/// Members of the assignment and routes of the table.
const PARTS: u32 = 1_000;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resource_decode");
    let cluster = resources::cluster(0);
    decode::cluster(&cluster).expect("the good case is measured");
    group.bench_function("cluster", |bencher| {
        bencher.iter(|| black_box(decode::cluster(black_box(&cluster))).is_ok());
    });
    let listener = resources::listener(&resources::routes(1, 1));
    decode::listener(&listener).expect("the good case is measured");
    group.bench_function("listener", |bencher| {
        bencher.iter(|| black_box(decode::listener(black_box(&listener))).is_ok());
    });
    group.throughput(Throughput::Elements(PARTS.into()));
    let routes = resources::routes(PARTS as usize, 100);
    decode::route_config(&routes).expect("the good case is measured");
    group.bench_function("routes_of_1000", |bencher| {
        bencher.iter(|| black_box(decode::route_config(black_box(&routes))).is_ok());
    });
    let endpoints = resources::endpoints(0, 1, PARTS);
    decode::endpoints(&endpoints).expect("the good case is measured");
    group.bench_function("endpoints_of_1000", |bencher| {
        bencher.iter(|| black_box(decode::endpoints(black_box(&endpoints))).is_ok());
    });
    group.finish();
}
