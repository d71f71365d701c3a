//! From what was counted of each host to what can be said of the policy that looks on.

use std::collections::HashMap;
use std::time::Duration;

use super::Reading;
use crate::config::load_balancing::LoadBalancing;
use crate::upstream::Host;
use crate::upstream::host::Member;
use crate::upstream::latency::window::BUCKETS;
use crate::upstream::latency::window::middle;
use crate::upstream::latency::window::percentile;
use crate::upstream::learned::Learned;
use crate::upstream::load_balancer::Factors;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Over which what is said of latency fades: long enough for a 99th percentile at a few dozen requests per
/// second, short enough to see what somebody changes.
const MEMORY: Duration = Duration::from_secs(60);

/// Over which a host's own answers fade.
const HOST_MEMORY: Duration = Duration::from_secs(5);

/// A policy that looks on, since it does.
#[derive(Debug)]
pub struct Watch {
    policy: Box<LoadBalancing>,
    /// What it makes of answers, if it does.
    learned: Learned,
    looked_at: Option<Duration>,
    hosts: HashMap<u64, Known>,
    /// Of hosts that are gone.
    gone: Counts,
    seen: Spread,
    predicted: Spread,
}

/// One host.
#[derive(Debug)]
struct Known {
    first: Counts,
    before: Reading,
    answers: Spread,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    chosen: u64,
    would: u64,
    agreed: u64,
}

/// So many answers, by their length.
#[derive(Debug)]
struct Spread(Box<[f64; BUCKETS]>);

/// What can be said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Its name.
    pub policy: &'static str,
    /// How often it was asked.
    pub picks: u64,
    /// How often it would have chosen whom the other policy chose.
    pub agreed: u64,
    /// What came, of about the last minute.
    pub seen: Option<Times>,
    /// What would have come.
    pub predicted: Option<Times>,
}

/// Times to the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// On average.
    pub mean: Duration,
    /// Of half of the answers at most.
    pub p50: Duration,
    /// Of 99 of 100 at most.
    pub p99: Duration,
}

/// One host's part of the picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// It was chosen so often,
    pub chosen: u64,
    /// and would have been.
    pub would: u64,
}

impl Watch {
    /// Begins now.
    pub fn new(policy: &LoadBalancing) -> Self {
        Self {
            learned: Learned::default(),
            policy: Box::new(policy.clone()),
            looked_at: None,
            hosts: HashMap::new(),
            gone: Counts::default(),
            seen: Spread::default(),
            predicted: Spread::default(),
        }
    }

    /// Whether it is this policy that looks on.
    pub fn is_of(&self, policy: &LoadBalancing) -> bool {
        *self.policy == *policy
    }

    /// What was learned, for a policy that chooses from now on.
    pub fn into_learned(self) -> Learned {
        self.learned
    }

    /// What a new balancer of the policy begins with, over these members.
    pub fn begin(&mut self, members: &[Member]) -> Option<Factors> {
        self.meet(members);
        self.learned.begin(&self.policy.policy, members)
    }

    /// Notes who is there, so that nothing from before is counted.
    fn meet(&mut self, members: &[Member]) {
        for member in members {
            let new = || {
                let before = member.host.looked().read().unwrap_or_default();
                Known {
                    first: before.counts(),
                    before,
                    answers: Spread::default(),
                }
            };
            self.hosts.entry(member.host.id).or_insert_with(new);
        }
    }

    /// Takes in what came; returns other weights, if there are any.
    pub fn look(&mut self, members: &[Member], now: Duration) -> Option<Factors> {
        let passed = now.saturating_sub(self.looked_at.unwrap_or(now));
        if self.looked_at.is_none() || passed >= PERIOD {
            self.looked_at = Some(now);
            self.take_in(members, passed);
        }
        self.learned.fold(&self.policy.policy, members, now)
    }

    fn take_in(&mut self, members: &[Member], passed: Duration) {
        self.meet(members);
        self.forget(members);
        self.seen.fade(passed, MEMORY);
        self.predicted.fade(passed, MEMORY);
        let mut wanted = Vec::with_capacity(members.len());
        for member in members {
            let id = member.host.id;
            let reading = member.host.looked().read();
            let Some((known, reading)) = self.hosts.get_mut(&id).zip(reading) else {
                continue;
            };
            let would = reading.would.saturating_sub(known.before.would);
            known.answers.fade(passed, HOST_MEMORY);
            let new = reading.answers.iter().zip(&known.before.answers);
            for (at, (now, before)) in new.enumerate() {
                let count = real(now.saturating_sub(*before));
                known.answers.add(at, count);
                self.seen.add(at, count);
            }
            known.before = reading;
            wanted.push((id, real(would)));
        }
        for (id, would) in wanted {
            // Of whom nothing is known nothing else can be said than what is true of all.
            let own = self.hosts.get(&id).map(|known| &known.answers);
            let own = own.filter(|answers| answers.total() > 0.0);
            self.predicted.mix(own.unwrap_or(&self.seen), would);
        }
    }

    /// Whoever left keeps what it counted in the sum.
    fn forget(&mut self, members: &[Member]) {
        if self.hosts.len() <= members.len() {
            return;
        }
        let there: std::collections::HashSet<u64> =
            members.iter().map(|member| member.host.id).collect();
        let gone = &mut self.gone;
        self.hosts.retain(|id, known| {
            let stays = there.contains(id);
            if !stays {
                gone.add(known.before.counts().since(known.first));
            }
            stays
        });
    }

    /// What can be said.
    pub fn report(&self, members: &[Member]) -> Report {
        let mut all = self.gone;
        for member in members {
            if let Some(counts) = self.counts(&member.host) {
                all.add(counts);
            }
        }
        Report {
            policy: self.policy.policy.name(),
            picks: all.chosen,
            agreed: all.agreed,
            seen: self.seen.times(),
            predicted: self.predicted.times(),
        }
    }

    /// A host's part.
    pub fn share(&self, host: &Host) -> Option<Share> {
        let Counts { chosen, would, .. } = self.counts(host)?;
        Some(Share { chosen, would })
    }

    fn counts(&self, host: &Host) -> Option<Counts> {
        let known = self.hosts.get(&host.id)?;
        let now = host.looked().read()?;
        Some(now.counts().since(known.first))
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            chosen: 0,
            would: 0,
            agreed: 0,
            answers: [0; BUCKETS],
        }
    }
}

impl Reading {
    fn counts(&self) -> Counts {
        Counts {
            chosen: self.chosen,
            would: self.would,
            agreed: self.agreed,
        }
    }
}

impl Counts {
    fn since(self, first: Self) -> Self {
        Self {
            chosen: self.chosen.saturating_sub(first.chosen),
            would: self.would.saturating_sub(first.would),
            agreed: self.agreed.saturating_sub(first.agreed),
        }
    }

    fn add(&mut self, other: Self) {
        self.chosen += other.chosen;
        self.would += other.would;
        self.agreed += other.agreed;
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self(Box::new([0.0; BUCKETS]))
    }
}

impl Spread {
    fn fade(&mut self, passed: Duration, memory: Duration) {
        let left = (-passed.as_secs_f64() / memory.as_secs_f64()).exp();
        self.0.iter_mut().for_each(|count| *count *= left);
    }

    fn add(&mut self, at: usize, count: f64) {
        if let Some(sum) = self.0.get_mut(at) {
            *sum += count;
        }
    }

    fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// So many answers, as these are spread.
    fn mix(&mut self, answers: &Self, count: f64) {
        let total = answers.total();
        if total > 0.0 {
            let pairs = self.0.iter_mut().zip(answers.0.iter());
            pairs.for_each(|(sum, answers)| *sum += count * answers / total);
        }
    }

    fn times(&self) -> Option<Times> {
        let total = self.total();
        if total <= 0.0 {
            return None;
        }
        let count = |at: usize| self.0.get(at).copied().unwrap_or(0.0);
        let sum: f64 = (0..BUCKETS).map(|at| count(at) * middle(at)).sum();
        let at = |part| percentile(count, total, part).map(duration);
        Some(Times {
            mean: duration(sum / total),
            p50: at(0.5)?,
            p99: at(0.99)?,
        })
    }
}

fn duration(us: f64) -> Duration {
    Duration::from_secs_f64((us / 1e6).clamp(0.0, 1e9))
}

#[expect(clippy::cast_precision_loss, reason = "rough numbers are enough")]
fn real(value: u64) -> f64 {
    value as f64
}
