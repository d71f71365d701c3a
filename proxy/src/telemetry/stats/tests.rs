//! Groups as a whole: concurrent writers, survival of configuration changes, listing.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::telemetry::response_flag::ResponseFlag;
use crate::telemetry::response_flag::ResponseFlags;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::GaugeGuard;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::HttpStats;
use crate::telemetry::stats::Kind;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;
use crate::telemetry::stats::worker;

fn read(stats: &dyn Group, name: &str) -> Reading {
    let index = stats.fields().iter().position(|field| field.name == name);
    stats.read(index.expect("a field")).expect("a reading")
}

#[test]
fn no_count_is_lost_between_workers_and_others() {
    const ROUNDS: u64 = 20_000;
    let registry = Registry::new(3);
    let stats = registry.cluster("a");
    thread::scope(|scope| {
        // Three workers, one worker too many, and two threads that are none.
        for index in [Some(0), Some(1), Some(2), Some(3), None, None] {
            let stats = &stats;
            scope.spawn(move || {
                if let Some(index) = index {
                    worker::enter(index);
                }
                for _ in 0..ROUNDS {
                    stats.upstream_rq_total().inc();
                    stats.upstream_rq().record(200);
                    stats.upstream_rq_active().inc();
                    stats.upstream_rq_active().dec();
                    stats.upstream_rq_time().record(Duration::from_millis(3));
                }
            });
        }
    });
    let total = 6 * ROUNDS;
    assert_eq!(read(&*stats, "upstream_rq_total"), Reading::Counter(total));
    let codes = Reading::Codes(vec![(200, total)]);
    assert_eq!(read(&*stats, "upstream_rq"), codes);
    assert_eq!(read(&*stats, "upstream_rq_active"), Reading::Gauge(0));
    let Reading::Histogram(times) = read(&*stats, "upstream_rq_time") else {
        panic!("a histogram");
    };
    assert_eq!(times.count(), total);
    assert_eq!(times.sum_micros, total * 3_000);
}

#[test]
fn what_one_thread_adds_another_may_take_back() {
    let stats = Registry::new(1).cluster("a");
    let guard = GaugeGuard::new(Arc::clone(&stats), ClusterStats::upstream_cx_active);
    assert_eq!(read(&*stats, "upstream_cx_active"), Reading::Gauge(1));
    let worker = thread::spawn(move || {
        worker::enter(0);
        drop(guard);
    });
    worker.join().expect("no panic");
    assert_eq!(read(&*stats, "upstream_cx_active"), Reading::Gauge(0));
}

#[test]
fn a_name_in_use_keeps_its_counters() {
    let registry = Registry::new(1);
    let old = registry.http("in");
    old.no_route().inc();
    let new = registry.http("in");
    assert!(Arc::ptr_eq(&old, &new));
    drop((old, new));
    assert_eq!(read(&*registry.http("in"), "no_route"), Reading::Counter(0));
}

#[test]
fn only_living_instances_are_listed_and_kept() {
    let registry = Registry::new(0);
    let kept = registry.cluster("kept");
    for at in 0..10_000 {
        drop(registry.cluster(&format!("gone{at}")));
    }
    let groups = registry.groups();
    let clusters = groups.iter().find(|list| list.scope.prefix == "cluster");
    let listed = clusters.map(|list| list.instances.len());
    assert_eq!(listed, Some(1));
    drop(kept);
}

#[test]
fn codes_beyond_the_table_are_counted_by_class_only() {
    let stats = Registry::new(1).cluster("a");
    for code in 500..600 {
        stats.record_response(code);
    }
    let Reading::Codes(codes) = read(&*stats, "upstream_rq") else {
        panic!("codes");
    };
    assert_eq!(codes.len(), 16);
    assert_eq!(read(&*stats, "upstream_rq_5xx"), Reading::Counter(100));
}

#[test]
fn flags_are_counted_one_by_one() {
    let stats: Arc<HttpStats> = Registry::new(1).http("in");
    stats.downstream_rq_flag().record(ResponseFlags::NONE);
    let both = [ResponseFlag::NoRouteFound, ResponseFlag::LocalReset];
    stats
        .downstream_rq_flag()
        .record(both.into_iter().collect());
    let seen = vec![
        (ResponseFlag::LocalReset, 1),
        (ResponseFlag::NoRouteFound, 1),
    ];
    assert_eq!(read(&*stats, "downstream_rq_flag"), Reading::Flags(seen));
}

#[test]
fn every_field_reads_as_declared_and_says_what_it_is() {
    let registry = Registry::new(1);
    let _held = (
        registry.cluster("a"),
        registry.cluster_checks("a"),
        registry.cluster_drain("a"),
        registry.cluster_outliers("a"),
        registry.cluster_subsets("a"),
        registry.cluster_tls("a"),
        registry.cluster_zones("a"),
        registry.certificate("e"),
        registry.connection_limit("a"),
        registry.http("b"),
        registry.listener("c"),
        registry.listener_tls("c"),
        registry.overload_action("f"),
        registry.overload_resource("g"),
        registry.shed_point("h"),
        registry.tcp("d"),
    );
    for list in registry.groups() {
        let (_, group) = list.instances.first().expect("one each");
        for (at, field) in group.fields().iter().enumerate() {
            let kind = match group.read(at).expect("a reading") {
                Reading::Codes(_) => Kind::Codes,
                Reading::Counter(_) => Kind::Counter,
                Reading::Flags(_) => Kind::Flags,
                Reading::Gauge(_) => Kind::Gauge,
                Reading::Histogram(_) => Kind::Histogram,
            };
            assert_eq!(kind, field.kind, "{}", field.name);
            assert!(field.help.ends_with('.'), "{}", field.name);
        }
        assert_eq!(group.read(group.fields().len()), None);
    }
}
