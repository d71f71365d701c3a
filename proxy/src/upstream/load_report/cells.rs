//! What one worker was told of one host: sums that only grow, with one writer each.

use std::sync::OnceLock;

use super::LoadReport;
use crate::upstream::host::HostCount;

/// Parts of a unit that are summed. Sums are whole numbers, so that their differences are exact however
/// long the process lives; they may wrap.
const PARTS: f64 = 1024.0;

/// More than this of anything in one report is this: 16 million such reports do not wrap in a period.
const VALUE_MAX: f64 = u32::MAX as f64 / 4.0;

/// One worker's reports of one host. They take memory only once there is one.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Reports(OnceLock<Box<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    /// Reports with a weight, and the sum of the weights.
    weighed: HostCount,
    weights: HostCount,
    /// Reports with a rate, and the sum of the rates.
    rated: HostCount,
    rates: HostCount,
}

/// Sums over workers, of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::upstream) struct Reading {
    weighed: u64,
    weights: u64,
    rated: u64,
    rates: u64,
}

impl Reports {
    /// Takes one in. Called by the one worker whose cells these are.
    pub(in crate::upstream) fn record(&self, report: &LoadReport, weight: Option<f64>) {
        let cells = self.0.get_or_init(Box::default);
        if let Some(weight) = weight {
            cells.weights.add(parts(weight));
            cells.weighed.inc();
        }
        if report.rps > 0.0 {
            cells.rates.add(parts(report.rps));
            cells.rated.inc();
        }
    }

    /// Whether there was one.
    pub(in crate::upstream) fn have_come(&self) -> bool {
        self.0.get().is_some()
    }

    /// Adds what is here.
    pub(in crate::upstream) fn add_to(&self, reading: &mut Reading) {
        let Some(cells) = self.0.get() else {
            return;
        };
        let add = |sum: &mut u64, count: &HostCount| *sum = sum.wrapping_add(count.value());
        add(&mut reading.weighed, &cells.weighed);
        add(&mut reading.weights, &cells.weights);
        add(&mut reading.rated, &cells.rated);
        add(&mut reading.rates, &cells.rates);
    }
}

impl Reading {
    /// The mean weight of what came since `before`; `None` if nothing did.
    pub(in crate::upstream) fn weight_since(&self, before: &Self) -> Option<f64> {
        mean(
            self.weighed.wrapping_sub(before.weighed),
            self.weights.wrapping_sub(before.weights),
        )
    }

    /// The mean rate of what came since `before`; `None` if nothing did.
    pub(in crate::upstream) fn rate_since(&self, before: &Self) -> Option<f64> {
        mean(
            self.rated.wrapping_sub(before.rated),
            self.rates.wrapping_sub(before.rates),
        )
    }
}

/// At least one part, so that a weight is never zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn parts(value: f64) -> u64 {
    (value.min(VALUE_MAX) * PARTS).max(1.0) as u64
}

#[expect(clippy::cast_precision_loss, reason = "rough numbers are enough")]
fn mean(count: u64, sum: u64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / PARTS / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_came_since() {
        let workers = [Reports::default(), Reports::default()];
        let read = || {
            let mut reading = Reading::default();
            workers
                .iter()
                .for_each(|reports| reports.add_to(&mut reading));
            reading
        };
        let report = |rps| LoadReport {
            rps,
            ..LoadReport::default()
        };
        let before = read();
        assert_eq!(read().weight_since(&before), None);
        workers[0].record(&report(10.0), Some(2.0));
        workers[1].record(&report(30.0), Some(0.5));
        workers[1].record(&report(0.0), None);
        let after = read();
        assert_eq!(after.weight_since(&before), Some(1.25));
        assert_eq!(after.rate_since(&before), Some(20.0));
        workers[1].record(&report(f64::MAX), Some(0.0));
        let weight = read().weight_since(&after).expect("one came");
        assert!(weight > 0.0 && weight < 0.01, "{weight}");
        assert_eq!(read().rate_since(&after), Some(VALUE_MAX));
    }
}
