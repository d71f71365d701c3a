//! Does finding a route grow with the table?

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method};
use proxy::config::Name;
use proxy::http::router::{RequestView, RouteTable};
use proxy::xds::decode::route_config;

use crate::resources;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_match");
    for routes in [1_usize, 100, 5_000] {
        let config = route_config(&resources::routes(routes, 1))
            .expect("a valid table")
            .value;
        let table = RouteTable::<Name>::new(Arc::new(config), |name| Some(Arc::clone(name)));
        let headers = HeaderMap::new();
        let path = format!("/route-{}/item?id=7", routes - 1);
        let request = RequestView {
            method: &Method::GET,
            scheme: "http",
            authority: "shop.example:8080",
            path_and_query: &path,
            headers: &headers,
            tls: None,
        };
        assert!(table.find(&request, 0).is_some(), "the last route is there");
        group.bench_function(BenchmarkId::new("last_of", routes), |bencher| {
            bencher.iter(|| black_box(table.find(black_box(&request), 0)).is_some());
        });
    }
    group.finish();
}
