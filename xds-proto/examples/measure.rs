//! Measures what descriptors cost: time to build them, memory before, with and after; time to read a large file.
//!
//! `measure own` measures this crate's pool, `measure reflect` prost-reflect's over the same set, `measure read` the
//! reading of many endpoints; each in a process of its own, since freed memory would flatter the next. Linux only.
#![expect(clippy::print_stdout, reason = "printing is what this program is for")]
#![expect(
    clippy::disallowed_types,
    reason = "nothing here runs on tokio's clock"
)]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use prost_reflect::DescriptorPool;
use xds_proto::Pool;
use xds_proto::load;

/// Twice as many must take twice as long.
const ENDPOINTS: [usize; 2] = [10_000, 20_000];

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("own") => around("own pool", Pool::new),
        Some("read") => ENDPOINTS.into_iter().for_each(read_endpoints),
        Some("reflect") => around("prost-reflect", || {
            let set = include_bytes!("../src/generated/descriptors.bin");
            DescriptorPool::decode(set.as_slice()).expect("the committed set is whole")
        }),
        _ => println!("usage: measure own | measure reflect | measure read"),
    }
}

/// Time to build, and memory around it.
fn around<T>(what: &str, build: impl FnOnce() -> T) {
    let before = resident_kib();
    let start = Instant::now();
    let built = black_box(build());
    let elapsed = start.elapsed();
    let with = resident_kib();
    drop(built);
    let after = resident_kib();
    println!(
        "{what}: built in {elapsed:?}; resident {before} KiB before, {with} with, {after} after dropping it"
    );
}

fn read_endpoints(count: usize) {
    let mut text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  \
                    cluster_name: a\n  endpoints:\n  - lb_endpoints:\n"
        .to_owned();
    for number in 0..count {
        let address = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        let line = format!(
            "    - endpoint: {{address: {{socket_address: {{address: {address}, port_value: 8080}}}}}}"
        );
        writeln!(text, "{line}").expect("a string takes it");
    }
    let pool = Pool::new();
    let start = Instant::now();
    let file = load::resources(&pool, Path::new("endpoints.yaml"), &text).expect("valid");
    let elapsed = start.elapsed();
    let bytes: usize = file
        .resources
        .iter()
        .map(|resource| resource.any.value.len())
        .sum();
    let (kib, resident) = (text.len() / 1024, resident_kib());
    println!(
        "{count} endpoints, {kib} KiB of YAML to {bytes} bytes in {elapsed:?}; resident {resident} KiB"
    );
}

/// Resident memory, from the kernel's count of pages.
fn resident_kib() -> u64 {
    const PAGE_KIB: u64 = 4;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE_KIB
}
