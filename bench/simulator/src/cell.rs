//! What runs come to: one policy in one scenario, a value for each seed.

use std::time::Duration;

use bench::stats::{bootstrap_median, median};

use crate::policy::Kind;
use crate::scenario::{Scenario, WARM_UP};
use crate::world::{Outcome, World};

/// A host that got slow is left when it keeps no more than this part of all requests.
pub(crate) const LEFT: f64 = 0.02;

/// A host that healed is back when it has this part of its fair share.
pub(crate) const BACK: f64 = 0.8;

/// Seconds after a change in which nothing is steady yet.
const SETTLING: Duration = Duration::from_secs(10);

/// Resampling of a cell begins with it: the same runs give the same interval.
pub(crate) const RESAMPLING: u64 = 1;

/// A cell of the table.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) runs: Vec<Run>,
}

/// One seed.
#[derive(Debug)]
pub(crate) struct Run {
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Part of all requests.
    pub(crate) failed: f64,
    /// Part of all requests that the watched hosts got, by second; none of the oracle.
    pub(crate) shares: Vec<f64>,
    /// Of these shares while nothing changes: the standard deviation, and what chance alone makes of it.
    pub(crate) swing: (f64, f64),
    /// Seconds from the trouble until the hosts stay left.
    pub(crate) left: Option<usize>,
    /// Seconds from its end until they are back.
    pub(crate) back: Option<usize>,
}

impl Cell {
    /// Runs all seeds, the same ones for every policy.
    pub(crate) fn of(scenario: &Scenario, kind: Kind, seeds: u64) -> Self {
        let run = |seed| Run::new(scenario, World::new(*scenario, kind, seed).run());
        Self {
            kind,
            runs: (1..=seeds).map(run).collect(),
        }
    }

    /// A value for each seed.
    pub(crate) fn each(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(value).collect()
    }

    /// The median over seeds and its 95 % interval.
    pub(crate) fn median(&self, value: impl Fn(&Run) -> f64) -> (f64, f64, f64) {
        let values = self.each(value);
        let (low, high) = bootstrap_median(&values, RESAMPLING).unwrap_or_default();
        (median(&values).unwrap_or_default(), low, high)
    }

    /// The longest of all seeds; none if one never came to it.
    pub(crate) fn slowest(&self, seconds: impl Fn(&Run) -> Option<usize>) -> Option<usize> {
        let all: Option<Vec<usize>> = self.runs.iter().map(seconds).collect();
        all?.into_iter().max()
    }
}

impl Run {
    fn new(scenario: &Scenario, outcome: Outcome) -> Self {
        let ms = |part: f64| outcome.latency.value_at_quantile(part) as f64 / 1e3;
        let whole = whole(scenario.length);
        let seconds = outcome.watched.iter().zip(&outcome.per_second).take(whole);
        let shares: Vec<f64> = seconds
            .clone()
            .map(|(watched, all)| *watched as f64 / (*all).max(1) as f64)
            .collect();
        let (watched, fair) = scenario.watched();
        let trouble = scenario.trouble();
        let left = trouble.and_then(|(from, to)| {
            let shares = shares.get(self::whole(from)..self::whole(to))?;
            until_low(shares, LEFT * watched as f64)
        });
        let back = trouble.and_then(|(_, to)| {
            let shares = shares.get(self::whole(to)..whole)?;
            until_high(shares, BACK * fair)
        });
        let steady: Vec<(u64, u64)> = seconds
            .map(|(watched, all)| (*watched, *all))
            .skip(self::whole(
                trouble.map_or(WARM_UP, |(from, _)| from + SETTLING),
            ))
            .take(self::whole(
                trouble.map_or(scenario.length, |(from, to)| to - from - SETTLING),
            ))
            .collect();
        Self {
            p50: ms(0.5),
            p99: ms(0.99),
            p999: ms(0.999),
            failed: outcome.failed as f64 / outcome.requests.max(1) as f64,
            swing: swing(&steady),
            shares,
            left,
            back,
        }
    }
}

/// Seconds until the share stays this low.
fn until_low(shares: &[f64], low: f64) -> Option<usize> {
    let last = shares.iter().rposition(|share| *share > low);
    let first = last.map_or(0, |place| place + 1);
    (first < shares.len()).then_some(first)
}

/// Seconds until the share is this high, then and on average from then on: what chance makes of a
/// single second is no relapse.
fn until_high(shares: &[f64], high: f64) -> Option<usize> {
    let is_high = |first: usize| {
        let rest = shares.get(first..).unwrap_or_default();
        let mean = rest.iter().sum::<f64>() / rest.len() as f64;
        rest.first().is_some_and(|share| *share >= high) && mean >= high
    };
    (0..shares.len()).find(|first| is_high(*first))
}

/// Standard deviation of the share per second, and that of as many independent draws.
fn swing(seconds: &[(u64, u64)]) -> (f64, f64) {
    let count = seconds.len().max(1) as f64;
    let shares = || {
        let counted = seconds.iter().filter(|(_, all)| *all > 0);
        counted.map(|(watched, all)| (*watched as f64 / *all as f64, *all as f64))
    };
    let mean = shares().map(|(share, _)| share).sum::<f64>() / count;
    let variance = shares()
        .map(|(share, _)| (share - mean).powi(2))
        .sum::<f64>()
        / count;
    let by_chance = shares()
        .map(|(_, all)| mean * (1.0 - mean) / all)
        .sum::<f64>()
        / count;
    (variance.sqrt(), by_chance.sqrt())
}

/// Whole seconds.
fn whole(time: Duration) -> usize {
    usize::try_from(time.as_secs()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::scenario::SCENARIOS;
    use crate::world::new_histogram;

    fn outcome(watched: impl Fn(u64) -> u64) -> Outcome {
        let latency: Histogram<u64> = new_histogram();
        Outcome {
            latency,
            failed: 0,
            requests: 0,
            watched: (0..=60).map(watched).collect(),
            per_second: vec![1_000; 61],
        }
    }

    #[test]
    fn times_count_from_the_change_until_the_share_stays() {
        let slow = SCENARIOS.iter().find(|scenario| scenario.name == "S2");
        let slow = slow.expect("it is in the table");
        // Slow from 20 to 50; left after 3 s but once more above at 25; back after 4 s, though not in each second.
        let run = Run::new(
            slow,
            outcome(|second| match second {
                20..23 | 25 => 21,
                23..50 => 20,
                50..54 | 56 => 79,
                _ => 85,
            }),
        );
        assert_eq!((run.left, run.back), (Some(6), Some(4)));
        let never = Run::new(slow, outcome(|second| if second < 55 { 100 } else { 10 }));
        assert_eq!((never.left, never.back), (None, None));
    }

    #[test]
    fn chance_makes_the_deviation_of_a_binomial() {
        let (found, by_chance) = swing(&[(90, 1_000), (110, 1_000)]);
        assert!((found - 0.01).abs() < 1e-12, "{found}");
        assert!((by_chance - (0.1_f64 * 0.9 / 1_000.0).sqrt()).abs() < 1e-12);
    }
}
