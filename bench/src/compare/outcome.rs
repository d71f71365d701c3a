//! What was measured, as it goes into the JSON file and the table.

use std::collections::BTreeMap;

use bench::stats::{self, RatioInterval};
use serde::Serialize;

use super::contestant::Contestant;
use super::host::Disturbance;

/// One run of one proxy.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// Share of the window in which the proxy was on its core.
    pub(crate) busy: f64,
    /// Share of the window in which the generator and the origin were on theirs.
    pub(crate) generator_busy: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) disturbance: Disturbance,
    /// The window was void, and no better one came.
    pub(crate) disturbed: bool,
}

/// Everything about one proxy in one scenario. Index of the outer lists: block.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Record {
    /// Runs as fast as possible.
    pub(crate) closed: Vec<Vec<Run>>,
    /// Runs at a given rate.
    pub(crate) open: Vec<Vec<Run>>,
    /// Bytes or milliseconds of the scenarios without traffic, one value per block.
    pub(crate) values: Vec<f64>,
    /// Why there is nothing, or nothing more.
    pub(crate) hole: Option<Hole>,
}

/// Why a proxy has no number in a row.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hole {
    /// It is not installed, or has no such thing: nothing went wrong.
    Absent(String),
    /// It should have served, and did not: the comparison ends with exit code 1.
    Failed(String),
}

impl Hole {
    pub(crate) fn absent(reason: impl ToString) -> Self {
        Self::Absent(reason.to_string())
    }

    pub(crate) fn failed(reason: impl ToString) -> Self {
        Self::Failed(reason.to_string())
    }

    /// The first line of what is known.
    pub(crate) fn reason(&self) -> &str {
        let (Self::Absent(reason) | Self::Failed(reason)) = self;
        reason.lines().next().unwrap_or_default()
    }
}

/// One scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: String,
    pub(crate) title: String,
    /// Requests per second of the generator straight against the origin.
    pub(crate) direct_rate: Option<f64>,
    /// Rate of the open-loop runs.
    pub(crate) open_rate: Option<f64>,
    pub(crate) records: BTreeMap<Contestant, Record>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// A goal and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// `None` when one side was not measured.
    pub(crate) met: Option<bool>,
    pub(crate) ratio: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

impl Record {
    pub(crate) fn hole(hole: Hole) -> Self {
        Self {
            hole: Some(hole),
            ..Self::default()
        }
    }

    /// One value per block: the geometric mean of its runs, which cancels a linear drift.
    fn blocks(runs: &[Vec<Run>], of: impl Fn(&Run) -> f64) -> Vec<f64> {
        let block = |runs: &Vec<Run>| {
            let logs: Vec<f64> = runs.iter().map(|run| of(run).ln()).collect();
            stats::mean(&logs).map_or(f64::NAN, f64::exp)
        };
        runs.iter().map(block).collect()
    }

    /// The scenario's first number, per block: CPU µs per request, bytes or milliseconds.
    pub(crate) fn main(&self) -> Vec<f64> {
        if !self.values.is_empty() {
            return self.values.clone();
        }
        let runs = if self.closed.is_empty() {
            &self.open
        } else {
            &self.closed
        };
        Self::blocks(runs, |run| run.cpu_us)
    }

    pub(crate) fn p999(&self) -> Vec<f64> {
        Self::blocks(&self.open, |run| run.p999_us)
    }

    /// The median of a number over the runs that know it best.
    pub(crate) fn median(runs: &[Vec<Run>], of: impl Fn(&Run) -> f64) -> Option<f64> {
        let values: Vec<f64> = runs.iter().flatten().map(of).collect();
        stats::median(&values)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.closed.iter().chain(&self.open).flatten()
    }

    pub(crate) fn is_disturbed(&self) -> bool {
        self.closed
            .iter()
            .chain(&self.open)
            .flatten()
            .any(|run| run.disturbed)
    }
}

impl Outcome {
    /// The peer with the lowest median of a metric.
    pub(crate) fn best_peer(&self, of: impl Fn(&Record) -> Vec<f64>) -> Option<Contestant> {
        self.records
            .iter()
            .filter(|(contestant, record)| contestant.is_peer() && record.hole.is_none())
            .filter_map(|(contestant, record)| Some((*contestant, stats::median(&of(record))?)))
            .min_by(|left, right| left.1.total_cmp(&right.1))
            .map(|(contestant, _)| contestant)
    }

    /// Weir over `peer` in a metric.
    pub(crate) fn ratio(
        &self,
        peer: Contestant,
        of: impl Fn(&Record) -> Vec<f64>,
    ) -> Option<RatioInterval> {
        let values = |contestant| Some(of(self.records.get(&contestant)?));
        // The seed is fixed: the same runs give the same interval.
        stats::ratio_interval(&values(Contestant::Weir)?, &values(peer)?, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hole, Outcome, Record, Run};
    use crate::compare::Contestant;

    fn record(blocks: &[[f64; 2]]) -> Record {
        let run = |cpu_us| Run {
            cpu_us,
            ..Run::default()
        };
        let closed = blocks.iter().map(|block| block.map(run).to_vec()).collect();
        Record {
            closed,
            ..Record::default()
        }
    }

    #[test]
    fn drift_within_a_block_cancels() {
        // The machine slows by 10 % per run: A B B A gives A the runs 1 and 4, B the runs 2 and 3.
        let slow = |run: i32| 1.1_f64.powi(run);
        let ours = record(&[
            [8.0 * slow(0), 8.0 * slow(3)],
            [8.0 * slow(1), 8.0 * slow(2)],
        ]);
        let theirs = record(&[
            [10.0 * slow(1), 10.0 * slow(2)],
            [10.0 * slow(0), 10.0 * slow(3)],
        ]);
        let mut outcome = Outcome::default();
        outcome.records.insert(Contestant::Weir, ours);
        outcome.records.insert(Contestant::Nginx, theirs);
        outcome
            .records
            .insert(Contestant::Envoy, record(&[[30.0, 30.0], [30.0, 30.0]]));
        outcome
            .records
            .insert(Contestant::Floor, record(&[[1.0, 1.0], [1.0, 1.0]]));
        outcome.records.insert(
            Contestant::Haproxy,
            Record::hole(Hole::absent("not installed")),
        );
        let best = outcome
            .best_peer(Record::main)
            .expect("two peers were measured");
        assert_eq!(best, Contestant::Nginx);
        let interval = outcome.ratio(best, Record::main).expect("two blocks");
        for value in [interval.ratio, interval.low, interval.high] {
            assert!((value - 0.8).abs() < 1e-9, "{interval:?}");
        }
    }
}
