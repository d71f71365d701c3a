//! Prequal (Wydrowski et al., NSDI 2024): each request sends three probes to random hosts and does not
//! wait for them; hosts are chosen from a pool of at most 16 answers. An answer whose requests in flight
//! exceed a quantile of those seen lately is hot. The coldest answer of least latency is taken, or, if all
//! are hot, the one with the fewest in flight.
//!
//! Left out: what the authors do against hosts that fail fast, which they do not describe.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use super::{Ended, Policy};
use crate::host::Probed;

const PROBES: usize = 3;
const POOL: usize = 16;
const AGE_MAX: Duration = Duration::from_secs(1);

/// Answers taken out per request: the oldest and the worst in turn.
const REMOVED: f64 = 1.0;

/// How much more comes into the pool than goes out.
const DELTA: f64 = 1.0;

/// 2 ^ -0.25.
const HOT: f64 = 0.84;

/// Answers over which the quantile is taken.
const SEEN: usize = 100;

/// With fewer answers a random host is taken.
const POOL_MIN: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Answer {
    host: usize,
    at: Duration,
    in_flight: usize,
    latency: Duration,
    uses_left: usize,
}

#[derive(Debug)]
pub(crate) struct Prequal {
    hosts: usize,
    pool: VecDeque<Answer>,
    seen: VecDeque<usize>,
    removes_oldest: bool,
}

/// How often an answer may be used so that the pool stays full. The formula is for many more hosts than
/// the pool has room for; with few it says once.
fn uses(hosts: usize) -> f64 {
    let incoming = (1.0 - POOL as f64 / hosts as f64) * PROBES as f64 - REMOVED;
    ((1.0 + DELTA) / incoming).max(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and not negative"
)]
fn whole(value: f64) -> usize {
    value as usize
}

impl Prequal {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            hosts,
            pool: VecDeque::new(),
            seen: VecDeque::new(),
            removes_oldest: false,
        }
    }

    /// More in flight than this is hot.
    fn threshold(&self) -> usize {
        let mut sorted: Vec<usize> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let place = whole(sorted.len() as f64 * HOT);
        let last = sorted.last().copied().unwrap_or(0);
        sorted.get(place).copied().unwrap_or(last)
    }

    /// Hot after cold, hot by requests in flight, cold by latency.
    fn rank(answer: &Answer, threshold: usize) -> (bool, usize, Duration) {
        match answer.in_flight > threshold {
            true => (true, answer.in_flight, answer.latency),
            false => (false, 0, answer.latency),
        }
    }

    fn remove_one(&mut self, threshold: usize) {
        self.removes_oldest = !self.removes_oldest;
        if self.removes_oldest {
            self.pool.pop_front();
            return;
        }
        let answers = self.pool.iter().enumerate();
        let worst = answers.max_by_key(|(_, answer)| Self::rank(answer, threshold));
        if let Some(place) = worst.map(|(place, _)| place) {
            self.pool.remove(place);
        }
    }

    fn choose(&mut self, now: Duration, random: &mut Rng) -> usize {
        self.pool.retain(|answer| now - answer.at < AGE_MAX);
        if self.pool.len() < POOL_MIN {
            return random.usize(..self.hosts);
        }
        let threshold = self.threshold();
        let answers = self.pool.iter().enumerate();
        let best = answers.min_by_key(|(_, answer)| Self::rank(answer, threshold));
        let Some((place, host)) = best.map(|(place, answer)| (place, answer.host)) else {
            return random.usize(..self.hosts);
        };
        let answer = &mut self.pool[place];
        // The request that goes there is in flight as well.
        answer.in_flight += 1;
        answer.uses_left = answer.uses_left.saturating_sub(1);
        if answer.uses_left == 0 {
            self.pool.remove(place);
        }
        self.remove_one(threshold);
        host
    }
}

impl Policy for Prequal {
    fn set_hosts(&mut self, hosts: usize) {
        self.hosts = hosts;
        self.pool.retain(|answer| answer.host < hosts);
    }

    fn pick(&mut self, now: Duration, random: &mut Rng) -> usize {
        self.choose(now, random)
    }

    fn begin(&mut self, _host: usize) {}

    fn first_byte(&mut self, _ended: &Ended, _now: Duration) {}

    fn end(&mut self, _host: usize) {}

    fn probes(&mut self, random: &mut Rng) -> Vec<usize> {
        let mut chosen = random.choose_multiple(0..self.hosts, PROBES.min(self.hosts));
        random.shuffle(&mut chosen);
        chosen
    }

    fn probed(&mut self, host: usize, probed: Probed, now: Duration, random: &mut Rng) {
        self.seen.push_back(probed.in_flight);
        if self.seen.len() > SEEN {
            self.seen.pop_front();
        }
        let uses = uses(self.hosts);
        // Rounded up as often as its fraction says.
        let uses_left = whole(uses + random.f64());
        self.pool.push_back(Answer {
            host,
            at: now,
            in_flight: probed.in_flight,
            latency: probed.latency.unwrap_or_default(),
            uses_left: uses_left.max(1),
        });
        if self.pool.len() > POOL {
            self.pool.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_used_as_often_as_the_formula_says() {
        // (1 + 1) / ((1 - 16/100) * 3 - 1).
        assert!((uses(100) - 2.0 / 1.52).abs() < 1e-12);
        assert!((uses(1_000_000) - 1.0).abs() < 0.001);
        assert!(
            (uses(10) - 1.0).abs() < 1e-12,
            "fewer hosts than the pool has room for"
        );
    }

    #[test]
    fn the_fastest_cold_host_is_taken_and_the_least_busy_of_hot_ones() {
        let mut prequal = Prequal::new(100);
        let mut random = Rng::with_seed(1);
        let mut answer = |prequal: &mut Prequal, host, in_flight, ms| {
            let probed = Probed {
                in_flight,
                latency: Some(Duration::from_millis(ms)),
            };
            prequal.probed(host, probed, Duration::ZERO, &mut random);
        };
        for _ in 0..SEEN {
            answer(&mut prequal, 0, 2, 50);
        }
        // Cold up to 2 in flight: the third is fast, but hot.
        answer(&mut prequal, 1, 2, 20);
        answer(&mut prequal, 2, 1, 10);
        answer(&mut prequal, 3, 9, 1);
        let mut random = Rng::with_seed(2);
        assert_eq!(prequal.pick(Duration::ZERO, &mut random), 2);
        prequal.pool.retain(|answer| answer.host == 3);
        prequal.pool.push_back(Answer {
            host: 4,
            in_flight: 7,
            ..prequal.pool[0]
        });
        assert_eq!(prequal.pick(Duration::ZERO, &mut random), 4);
        assert!(prequal.pool.len() < 2, "used and removed");
    }
}
