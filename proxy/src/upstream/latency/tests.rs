//! What weights become of what was measured, period by period.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Feedback;
use super::Outcome;
use crate::config::Endpoints;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::latency::Guards;
use crate::config::latency::LatencyWeighted;
use crate::config::load_balancing::LoadBalancing;
use crate::upstream::HostCounts;
use crate::upstream::HostSet;
use crate::upstream::load_report::LoadReport;
use crate::upstream::transport::Transports;

const PERIOD: Duration = Duration::from_millis(250);

/// Hosts, what one worker counts of them, and a clock.
struct World {
    set: HostSet,
    counts: Vec<Arc<HostCounts>>,
    feedback: Feedback,
    now: Duration,
}

pub(super) fn endpoints(hosts: u16) -> Endpoints {
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
    Endpoints {
        localities: vec![LocalityEndpoints {
            endpoints: (1..=hosts).map(endpoint).collect(),
            ..LocalityEndpoints::default()
        }],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    }
}

impl World {
    fn new(hosts: u16, config: LatencyWeighted) -> Self {
        let mut world = Self {
            set: HostSet::new(
                &LoadBalancing::default(),
                &endpoints(0),
                &Transports::default(),
                None,
            ),
            counts: Vec::new(),
            feedback: Feedback::new(config),
            now: Duration::ZERO,
        };
        world.grow(hosts);
        world
    }

    fn grow(&mut self, hosts: u16) {
        let (config, transports) = (LoadBalancing::default(), Transports::default());
        self.set = HostSet::new(&config, &endpoints(hosts), &transports, None);
        let counts = self
            .set
            .members()
            .iter()
            .map(|member| member.host.new_counts());
        self.counts = counts.collect();
    }

    /// So many answers of a host in this period.
    fn answer(&self, host: usize, outcome: Outcome, times: usize) {
        for _ in 0..times {
            self.counts[host].begin_sample();
            self.counts[host].end_sample(Some(&outcome));
        }
    }

    /// The period is over; the weights.
    fn fold(&mut self) -> Vec<f64> {
        self.now += PERIOD;
        self.feedback.fold(self.set.members(), self.now);
        self.feedback.weights(self.set.members())
    }

    /// The first host answers like this, all others in 10 ms, for so many periods.
    fn first_answers(&mut self, outcome: Outcome, times: usize, periods: usize) -> Vec<f64> {
        let mut weights = Vec::new();
        for _ in 0..periods {
            self.answer(0, outcome, times);
            (1..self.counts.len()).for_each(|host| self.answer(host, good(10), 50));
            weights = self.fold();
        }
        weights
    }
}

fn good(ms: u64) -> Outcome {
    Outcome {
        class: 0,
        took: Duration::from_millis(ms),
        failed: false,
        spare_for: None,
    }
}

fn failed(us: u64) -> Outcome {
    Outcome {
        took: Duration::from_micros(us),
        failed: true,
        ..good(0)
    }
}

fn ratio(weights: &[f64]) -> f64 {
    weights[0] / weights[1]
}

/// Every host says that it serves so many requests per second and has so many in flight.
fn say(world: &World, rps: f64, in_flight: impl Fn(usize) -> Option<f64>) {
    for (host, (member, counts)) in world.set.members().iter().zip(&world.counts).enumerate() {
        let report = LoadReport {
            rps,
            in_flight: in_flight(host),
            ..LoadReport::default()
        };
        member.host.told(); // as balancers do that want to know
        member.host.take_report(counts, &report, None);
    }
}

#[test]
fn what_hosts_say_counts_where_most_is_done_for_others() {
    let mut world = World::new(4, LatencyWeighted::default());
    let partial = |world: &World| world.feedback.partial(world.set.members());
    world.first_answers(good(10), 10, 40);
    assert_eq!(partial(&world), None, "nobody said anything");
    say(&world, 100.0, |host| Some(host as f64));
    world.first_answers(good(10), 10, 1);
    assert_eq!(
        partial(&world),
        None,
        "most of the others' requests are ours"
    );
    for _ in 0..4 {
        say(&world, 2_000.0, |host| (host > 0).then_some(3.0));
        world.first_answers(good(10), 10, 1);
    }
    let told = partial(&world).expect("most are not");
    // Of 4 * 2,000 we make 40 + 3 * 200.
    assert!((told.proxies - 12.5).abs() < 1.0, "{told:?}");
    assert!((told.usual - 9.0 / 4.0).abs() < 1e-9, "{told:?}");
    // Silent for longer than ten seconds.
    world.first_answers(good(10), 10, 42);
    assert_eq!(partial(&world), None);
    let deaf = LatencyWeighted {
        reads_reports: false,
        ..LatencyWeighted::default()
    };
    world.feedback.set_config(deaf);
    say(&world, 2_000.0, |_| Some(1.0));
    world.first_answers(good(10), 10, 1);
    assert_eq!(partial(&world), None);
}

#[test]
fn a_host_that_takes_ten_times_as_long_has_a_tenth_of_the_weight() {
    let mut world = World::new(10, LatencyWeighted::default());
    let weights = world.first_answers(good(100), 50, 12);
    assert!((0.07..0.13).contains(&ratio(&weights)), "{weights:?}");
    assert!(
        weights[1..].iter().all(|weight| weight == &weights[1]),
        "{weights:?}"
    );
}

#[test]
fn a_host_that_fails_at_once_is_no_fast_host() {
    let mut world = World::new(10, LatencyWeighted::default());
    let weights = world.first_answers(failed(100), 50, 16);
    assert!(ratio(&weights) < 0.12, "{weights:?}");
    let plain = LatencyWeighted {
        guards: None,
        ..LatencyWeighted::default()
    };
    let weights = World::new(10, plain).first_answers(failed(100), 50, 16);
    assert!(
        ratio(&weights) > 3.0,
        "the formula alone falls for it: {weights:?}"
    );
}

#[test]
fn a_healed_host_is_back_within_ten_seconds_though_it_gets_few_requests() {
    let mut world = World::new(10, LatencyWeighted::default());
    world.first_answers(good(100), 50, 20);
    let periods = 8 * 4;
    let weights = (0..periods).fold(Vec::new(), |_, period| {
        // One request per second.
        world.first_answers(good(10), usize::from(period % 4 == 0), 1)
    });
    assert!(ratio(&weights) > 0.8, "{weights:?}");
}

#[test]
fn a_host_that_took_seconds_is_believed_again_as_well() {
    let mut world = World::new(10, LatencyWeighted::default());
    world.first_answers(good(2_000), 1, 40);
    let periods = 11 * 4;
    let weights = (0..periods).fold(Vec::new(), |_, period| {
        // One request per second, and no more though the weight grows.
        world.first_answers(good(10), usize::from(period % 4 == 0), 1)
    });
    assert!(ratio(&weights) > 0.8, "{weights:?}");
}

#[test]
fn a_few_samples_say_nothing_of_a_host() {
    let after = |samples| {
        let mut world = World::new(10, LatencyWeighted::default());
        world.first_answers(good(10), 0, 4);
        ratio(&world.first_answers(good(100), samples, 1))
    };
    let (few, enough) = (after(19), after(20));
    assert!(few > 0.9 && enough < 0.6, "{few} {enough}");
}

#[test]
fn old_samples_say_nothing_either() {
    let mut world = World::new(10, LatencyWeighted::default());
    world.first_answers(good(100), 50, 12);
    let weights = world.first_answers(good(10), 0, 9 * 4);
    assert!(
        ratio(&weights) < 0.3,
        "nine seconds are not old: {weights:?}"
    );
    // Believed to be like the others again, step by step.
    let weights = world.first_answers(good(10), 0, 15 * 4);
    assert!((0.3..0.8).contains(&ratio(&weights)), "{weights:?}");
    let weights = world.first_answers(good(10), 0, 60 * 4);
    assert!(ratio(&weights) > 0.9, "{weights:?}");
}

#[test]
fn a_slow_route_does_not_slander_the_host_that_serves_it() {
    let mut world = World::new(3, LatencyWeighted::default());
    let slow = Outcome {
        class: 5,
        ..good(400)
    };
    let mut weights = Vec::new();
    for _ in 0..12 {
        // Nearly all slow requests happen to go to the first.
        world.answer(0, slow, 40);
        world.answer(0, good(10), 10);
        (1..3).for_each(|host| {
            world.answer(host, slow, 2);
            world.answer(host, good(10), 48);
        });
        weights = world.fold();
    }
    assert!(
        weights.iter().all(|weight| weight == &weights[0]),
        "{weights:?}"
    );
}

#[test]
fn whoever_does_not_answer_at_all_loses_weight() {
    let mut world = World::new(3, LatencyWeighted::default());
    world.first_answers(good(10), 50, 4);
    world.counts[0].begin_sample();
    let weights = world.first_answers(good(10), 0, 8);
    assert!(ratio(&weights) < 0.05, "{weights:?}");
    // The client leaves: nothing was the host's fault, and nothing waits any more.
    world.counts[0].end_sample(None);
    assert_eq!(world.set.members()[0].host.waiting().value(), 0);
}

#[test]
fn a_host_that_gets_nothing_is_sent_one_and_more_once_it_answers_well() {
    let mut world = World::new(3, LatencyWeighted::default());
    world.first_answers(good(100), 50, 8);
    let explored = |world: &mut World, periods: usize| {
        world.first_answers(good(0), 0, periods);
        world.feedback.explored(world.set.members())
    };
    assert!(explored(&mut world, 3).is_empty(), "a second is not over");
    assert_eq!(explored(&mut world, 1), [0]);
    assert!(explored(&mut world, 3).is_empty(), "it was told");
    assert_eq!(explored(&mut world, 1), [0], "nobody came");
    world.counts[0].begin_sample();
    assert!(explored(&mut world, 1).is_empty());
    assert!(
        explored(&mut world, 31).is_empty(),
        "it has something to do"
    );
    assert_eq!(
        explored(&mut world, 1),
        [0],
        "it must not be hidden by that"
    );
    world.counts[0].end_sample(Some(&good(10)));
    assert!(explored(&mut world, 1).is_empty());
    assert_eq!(explored(&mut world, 1), [0], "it looks better");
}

#[test]
fn nobody_is_sent_anything_where_that_is_off() {
    let guards = Guards {
        exploration: 0.0,
        ..Guards::default()
    };
    for guards in [Some(guards), None] {
        let mut world = World::new(
            3,
            LatencyWeighted {
                guards,
                ..LatencyWeighted::default()
            },
        );
        world.first_answers(good(100), 50, 8);
        world.first_answers(good(0), 0, 40);
        assert!(world.feedback.explored(world.set.members()).is_empty());
    }
}

#[test]
fn a_host_that_asks_for_it_is_spared_as_long_as_is_allowed() {
    let mut world = World::new(3, LatencyWeighted::default());
    world.first_answers(good(10), 50, 4);
    let asks = Outcome {
        spare_for: Some(Duration::from_secs(3_600)),
        ..failed(100)
    };
    world.answer(0, asks, 1);
    let weights = world.first_answers(good(10), 50, 30);
    assert_eq!(weights[0], 1.0, "{weights:?}");
    let standing = world.feedback.standing(world.set.members()[0].host.id);
    assert!(standing.is_some_and(|standing| standing.is_spared && standing.failed == 1));
    let weights = world.first_answers(good(10), 50, 30);
    assert!(ratio(&weights) > 0.9, "{weights:?}");
}

#[test]
fn weights_move_by_steps_and_newcomers_ramp_up() {
    let mut world = World::new(3, LatencyWeighted::default());
    let before = world.first_answers(good(10), 50, 8);
    let after = world.first_answers(good(1_000), 50, 1);
    assert!(after[0] >= before[0] / 2.001, "{before:?} {after:?}");
    // Others come in their place: all of them are new among those that were there.
    world.grow(4);
    let weights = world.fold();
    assert!(weights.iter().all(|weight| *weight <= 4.0), "{weights:?}");
    let weights = world.first_answers(good(10), 50, 60);
    assert!(weights.iter().all(|weight| *weight > 15.0), "{weights:?}");
}

proptest! {
    #[test]
    fn weights_stay_within_their_bounds_whatever_comes(
        rounds in prop::collection::vec(
            prop::collection::vec((0_usize..4, 0_usize..20, 0_u64..1 << 40, prop::bool::ANY), 0..6),
            1..20,
        ),
        plain: bool,
        gap in 0_u64..100_000,
    ) {
        let guards = Some(Guards::default()).filter(|_| !plain);
        let mut world = World::new(4, LatencyWeighted { guards, ..LatencyWeighted::default() });
        for round in rounds {
            for (host, class, us, failed) in round {
                let took = Duration::from_micros(us);
                let spare_for = failed.then_some(took);
                world.answer(host, Outcome { class, took, failed, spare_for }, 1);
            }
            world.now += Duration::from_millis(gap);
            let weights = world.fold();
            prop_assert!(
                weights.iter().all(|weight| (1.0..=100.0).contains(weight)), "{:?}", weights
            );
            let explored = world.feedback.explored(world.set.members());
            prop_assert!(explored.iter().all(|place| *place < world.set.members().len()));
        }
    }
}
