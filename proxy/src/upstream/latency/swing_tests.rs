//! Shares do not swing: requests, queues and feedback under virtual time.
//!
//! The bound: at four fifths of what they can, no equal host's share of a second is outside of 0.75 to 1.25 of a
//! fair one, where chance alone makes 0.88 to 1.12 of it; and a host that is ten times slower has at most two
//! percent of each second, five seconds on, with no second that gives it more. Healed, it has four fifths of its
//! fair share ten seconds later, be there much to do or little.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Feedback;
use super::Outcome;
use super::tests::endpoints;
use crate::config::latency::LatencyWeighted;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::upstream::HostCounts;
use crate::upstream::HostSet;
use crate::upstream::load_balancer::Factors;
use crate::upstream::transport::Transports;

const HOSTS: u16 = 10;

/// Requests that a host works on at once.
const SLOTS: usize = 4;

/// Nanoseconds of work per request, on average.
const WORK: f64 = 5e6;

/// Of what all hosts can do, where there is much to do and where there is little.
const LOAD: f64 = 0.8;
const LITTLE: f64 = 0.03;

const SECOND: u64 = 1_000_000_000;
const PERIOD: u64 = SECOND / 4;
const FAIR: f64 = 1.0 / HOSTS as f64;

#[derive(Debug, Default)]
struct Queue {
    busy: usize,
    waiting: VecDeque<u64>,
}

/// Hosts with their queues, and a clock in nanoseconds.
struct World {
    set: HostSet,
    places: HashMap<u64, usize>,
    counts: Vec<Arc<HostCounts>>,
    queues: Vec<Queue>,
    /// When the work on a request ends, its host, and when it came.
    ends: BinaryHeap<Reverse<(u64, usize, u64)>>,
    feedback: Feedback,
    random: fastrand::Rng,
    cursor: u64,
    /// By how much the first host is slower.
    slowness: f64,
    load: f64,
    /// Nanoseconds since the beginning.
    now: u64,
    next_fold: u64,
}

impl World {
    fn new(slowness: f64, load: f64, seed: u64) -> Self {
        let config = LatencyWeighted::default();
        let balancing = LoadBalancing {
            policy: LbPolicy::Latency(config),
            ..LoadBalancing::default()
        };
        let set = HostSet::new(&balancing, &endpoints(HOSTS), &Transports::default(), None);
        let members = set.members();
        Self {
            places: members
                .iter()
                .enumerate()
                .map(|(at, m)| (m.host.id, at))
                .collect(),
            counts: members
                .iter()
                .map(|member| member.host.new_counts())
                .collect(),
            queues: members.iter().map(|_| Queue::default()).collect(),
            set,
            ends: BinaryHeap::new(),
            feedback: Feedback::new(config),
            random: fastrand::Rng::with_seed(seed),
            cursor: 0,
            slowness,
            load,
            now: 0,
            next_fold: PERIOD,
        }
    }

    /// The shares of each of so many more seconds.
    fn run(&mut self, seconds: u64) -> Vec<Vec<f64>> {
        let able: f64 = f64::from(HOSTS) - 1.0 + self.slowness.recip();
        let gap = WORK / (able * SLOTS as f64 * self.load);
        let mut shares = Vec::new();
        let mut counts = vec![0.0; HOSTS.into()];
        while shares.len() < usize::try_from(seconds).expect("few") {
            self.now += self.chance(gap);
            while self.next_fold < self.now {
                self.end_until(self.next_fold);
                self.fold(self.next_fold);
                self.next_fold += PERIOD;
                if self.next_fold.is_multiple_of(SECOND) {
                    let all: f64 = counts.iter().sum();
                    shares.push(counts.iter().map(|count| count / all).collect());
                    counts.fill(0.0);
                }
            }
            self.end_until(self.now);
            counts[self.arrive(self.now)] += 1.0;
        }
        shares
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0"
    )]
    fn chance(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.random.f64()).ln()) as u64
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0"
    )]
    fn between(&mut self, mean: f64) -> u64 {
        (mean * (0.55 + 0.9 * self.random.f64())) as u64
    }

    fn arrive(&mut self, now: u64) -> usize {
        let random = self.random.u64(..);
        let host = self
            .set
            .pick(&mut self.cursor, random, None)
            .expect("a host");
        let place = self.places[&host.id];
        self.counts[place].begin_sample();
        if self.queues[place].busy < SLOTS {
            self.start(place, now, now);
        } else {
            self.queues[place].waiting.push_back(now);
        }
        place
    }

    fn start(&mut self, place: usize, now: u64, came: u64) {
        let work = WORK * if place == 0 { self.slowness } else { 1.0 };
        // Where there is little to do, the work itself makes the difference: none is half as long again.
        let end = now
            + if self.load < LOAD {
                self.between(work)
            } else {
                self.chance(work)
            };
        self.queues[place].busy += 1;
        self.ends.push(Reverse((end, place, came)));
    }

    fn end_until(&mut self, now: u64) {
        while let Some(Reverse((end, place, came))) = self.ends.peek().copied() {
            if end > now {
                return;
            }
            self.ends.pop();
            self.counts[place].end_sample(Some(&Outcome {
                class: 0,
                took: Duration::from_nanos(end - came),
                failed: false,
                spare_for: None,
            }));
            self.queues[place].busy -= 1;
            if let Some(came) = self.queues[place].waiting.pop_front() {
                self.start(place, end, came);
            }
        }
    }

    fn fold(&mut self, now: u64) {
        self.feedback
            .fold(self.set.members(), Duration::from_nanos(now));
        self.set.set_factors(&Factors {
            of_members: self.feedback.weights(self.set.members()),
            explored: self.feedback.explored(self.set.members()),
            partial: None,
        });
    }
}

#[test]
fn equal_hosts_under_load_keep_equal_shares() {
    for seed in 1..=2 {
        for (second, shares) in World::new(1.0, LOAD, seed)
            .run(12)
            .iter()
            .enumerate()
            .skip(2)
        {
            let is_near = |share: &f64| (0.75 * FAIR..1.25 * FAIR).contains(share);
            assert!(
                shares.iter().all(is_near),
                "seed {seed}, second {second}: {shares:?}"
            );
        }
    }
}

#[test]
fn a_slow_host_does_not_come_back_in_waves() {
    for seed in 1..=2 {
        for (second, shares) in World::new(10.0, LOAD, seed)
            .run(15)
            .iter()
            .enumerate()
            .skip(5)
        {
            let is_low = shares[0] <= 0.02;
            let others = |share: &f64| (0.75 * FAIR..1.35 * FAIR).contains(share);
            let is_even = shares[1..].iter().all(others);
            assert!(
                is_low && is_even,
                "seed {seed}, second {second}: {shares:?}"
            );
        }
    }
}

#[test]
fn a_healed_host_is_back_within_ten_seconds() {
    for (load, seeds) in [(LITTLE, 10), (LOAD, 2)] {
        for seed in 1..=seeds {
            let mut world = World::new(10.0, load, seed);
            world.run(15);
            world.slowness = 1.0;
            let returns = world.run(15);
            let share = returns.iter().skip(10).map(|shares| shares[0]);
            let share = share.sum::<f64>() / 5.0;
            assert!(share >= 0.8 * FAIR, "load {load}, seed {seed}: {returns:?}");
        }
    }
}
