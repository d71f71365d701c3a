//! A shadow over a set whose hosts answer in fixed times.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::config::Endpoints;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::latency::LatencyWeighted;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::upstream::HostCounts;
use crate::upstream::HostSet;
use crate::upstream::load_balancer::Factors;
use crate::upstream::load_balancer::Partial;
use crate::upstream::load_report::LoadReport;
use crate::upstream::transport::Transports;

const HOSTS: u16 = 4;
const PICKS: u64 = 20_000;

fn balancing(policy: LbPolicy, shadow: Option<LbPolicy>) -> LoadBalancing {
    let shadow = shadow.map(|policy| Box::new(balancing(policy, None)));
    LoadBalancing {
        policy,
        shadow,
        ..LoadBalancing::default()
    }
}

fn set(config: &LoadBalancing, transports: &Transports, previous: Option<&HostSet>) -> HostSet {
    set_of(HOSTS, config, transports, previous)
}

fn set_of(
    hosts: u16,
    config: &LoadBalancing,
    transports: &Transports,
    previous: Option<&HostSet>,
) -> HostSet {
    let endpoint = |port| Endpoint {
        address: Address::Socket(([127, 0, 0, 1], port).into()),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Healthy,
        labels: None,
        traits: None,
        hash_key: None,
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
    HostSet::new(config, &endpoints, transports, previous)
}

/// A proxy whose first host takes ten times as long as the others.
struct World {
    transports: Transports,
    set: HostSet,
    watch: Watch,
    counts: BTreeMap<u64, Arc<HostCounts>>,
    random: fastrand::Rng,
    cursor: u64,
    now: Duration,
}

impl World {
    fn new(policy: LbPolicy, shadow: LbPolicy) -> Self {
        let config = balancing(policy, Some(shadow));
        let transports = Transports::default();
        let set = set(&config, &transports, None);
        let mut watch = Watch::new(config.shadow.as_ref().expect("a shadow"));
        watch.begin(set.members());
        let counts =
            |member: &crate::upstream::host::Member| (member.host.id, member.host.new_counts());
        Self {
            counts: set.members().iter().map(counts).collect(),
            transports,
            set,
            watch,
            random: fastrand::Rng::with_seed(7),
            cursor: 0,
            now: Duration::from_secs(1),
        }
    }

    /// A thousand requests per second.
    fn run(&mut self, picks: u64) {
        let slow = self.set.members()[0].host.id;
        for at in 0..picks {
            let random = self.random.u64(..);
            let host = self
                .set
                .pick(&mut self.cursor, random, None)
                .expect("a host");
            let took = Duration::from_millis(if host.id == slow { 50 } else { 5 });
            let counts = &self.counts[&host.id];
            counts.begin_sample();
            counts.end_sample(Some(&Outcome {
                class: 0,
                took,
                failed: false,
                spare_for: None,
            }));
            self.now += Duration::from_millis(1);
            if at % 50 == 0
                && let Some(factors) = self.watch.look(self.set.members(), self.now)
            {
                self.set.set_shadow_factors(&factors);
            }
        }
        self.watch
            .look(self.set.members(), self.now + Duration::from_secs(1));
    }
}

#[test]
fn the_same_policy_chooses_the_same_and_predicts_what_is_seen() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random] {
        let mut world = World::new(policy.clone(), policy);
        world.run(PICKS);
        let report = world.watch.report(world.set.members());
        assert_eq!((report.picks, report.agreed), (PICKS, PICKS), "{report:?}");
        let (seen, predicted) = report.seen.zip(report.predicted).expect("answers");
        let off = seen.mean.as_secs_f64() / predicted.mean.as_secs_f64();
        assert!((0.95..1.05).contains(&off), "{report:?}");
    }
}

/// Round robin sends a quarter to the slow host; weights that follow latency next to nothing.
#[test]
fn a_better_policy_is_seen_before_it_chooses() {
    let latency = LbPolicy::Latency(LatencyWeighted::default());
    let mut world = World::new(LbPolicy::RoundRobin, latency);
    world.run(PICKS);
    let report = world.watch.report(world.set.members());
    assert_eq!((report.policy, report.picks), ("latency", PICKS));
    let shares = world
        .set
        .members()
        .iter()
        .map(|member| world.watch.share(&member.host));
    let shares: Vec<Share> = shares.map(|share| share.expect("looked at")).collect();
    assert!(
        shares.iter().all(|share| share.chosen == PICKS / 4),
        "{shares:?}"
    );
    assert_eq!(shares.iter().map(|share| share.would).sum::<u64>(), PICKS);
    assert!(shares[0].would < PICKS / 10, "{shares:?}");
    let (seen, predicted) = report.seen.zip(report.predicted).expect("answers");
    assert!(seen.mean > Duration::from_millis(14), "{seen:?}");
    assert!(predicted.mean < Duration::from_millis(9), "{predicted:?}");
    assert!(predicted.p50 <= seen.p50 && predicted.p99 <= seen.p99);
}

#[test]
fn counts_survive_a_new_set_and_end_with_the_shadow() {
    let mut world = World::new(LbPolicy::RoundRobin, LbPolicy::Random);
    world.run(100);
    let becomes = |world: &mut World, shadow| {
        let config = balancing(LbPolicy::RoundRobin, shadow);
        world.set = set(&config, &world.transports, Some(&world.set));
        world.run(100);
        world.watch.report(world.set.members()).picks
    };
    assert_eq!(becomes(&mut world, Some(LbPolicy::Random)), 200);
    assert_eq!(becomes(&mut world, None), 200);
    let other = balancing(LbPolicy::Random, None);
    let mut later = Watch::new(&other);
    later.begin(world.set.members());
    let picks = later.report(world.set.members()).picks;
    assert_eq!(picks, 0, "another one begins anew");
    assert!(later.is_of(&other) && !later.is_of(&balancing(LbPolicy::RoundRobin, None)));
}

/// Both choose by what hosts say, where most requests come from elsewhere: each knows who spoke last.
#[test]
fn a_policy_that_looks_on_leaves_the_other_its_list_of_who_spoke_last() {
    let latency = || LbPolicy::Latency(LatencyWeighted::default());
    let config = balancing(latency(), Some(latency()));
    let set = set_of(400, &config, &Transports::default(), None);
    let factors = Factors {
        of_members: vec![1.0; set.members().len()],
        explored: Vec::new(),
        partial: Some(Partial {
            proxies: 50.0,
            usual: 9.0,
        }),
    };
    set.set_factors(&factors);
    set.set_shadow_factors(&factors);
    // With three draws of four hundred, only who is remembered is chosen each time.
    let idle = &set.members()[300].host;
    let said = LoadReport {
        in_flight: Some(0.0),
        ..LoadReport::default()
    };
    idle.take_report(&idle.new_counts(), &said, None);
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..100 {
        let host = set.pick(&mut 0, random.u64(..), None).expect("a host");
        assert_eq!(host.id, idle.id);
    }
    let looked = idle.looked().read().expect("it is looked at");
    assert_eq!(
        (looked.chosen, looked.would, looked.agreed),
        (100, 100, 100)
    );
}

#[test]
fn hosts_that_nobody_looks_at_hold_nothing() {
    let config = balancing(LbPolicy::RoundRobin, None);
    let set = set(&config, &Transports::default(), None);
    let host = &set.members()[0].host;
    host.new_counts().end_sample(None);
    assert!(host.looked().read().is_none());
}
