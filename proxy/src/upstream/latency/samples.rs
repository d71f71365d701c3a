//! What one worker measured of one host: sums that only grow, with one writer each.

use std::sync::OnceLock;
use std::time::Duration;

use crate::upstream::host::HostCount;
use crate::upstream::load_report;

/// Route classes that are told apart; more routes than these share.
pub(super) const CLASSES: usize = 8;

/// The longest latency that is summed, so that no sum overflows in the life of a process.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// How an attempt ended, as far as balancing minds.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Number of the route class; any number.
    pub class: usize,
    /// To the first byte of the response, or to its failure.
    pub took: Duration,
    /// It counts as a failure of the host's.
    pub failed: bool,
    /// What the host asked for: to be left alone for so long.
    pub spare_for: Option<Duration>,
}

/// One worker's samples of one host. They take memory only once there is one.
#[derive(Debug, Default)]
pub struct Samples(OnceLock<Box<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    classes: [Class; CLASSES],
    /// Attempts begun.
    begun: HostCount,
    /// Of them, ended without a sample.
    abandoned: HostCount,
    /// How often the host asked to be spared, and for how many milliseconds the last time.
    spared: HostCount,
    spare_ms: HostCount,
}

#[derive(Debug, Default)]
struct Class {
    good: HostCount,
    good_us: HostCount,
    failed: HostCount,
    failed_us: HostCount,
}

/// Sums over workers, of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) good: u64,
    pub(super) good_us: u64,
    pub(super) failed: u64,
    pub(super) failed_us: u64,
}

/// Sums over workers, of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) classes: [Sum; CLASSES],
    pub(super) begun: u64,
    pub(super) abandoned: u64,
    /// Connections that could not be made.
    pub(super) unconnected: u64,
    pub(super) spared: u64,
    pub(super) spare_ms: u64,
    /// What the host said of its load.
    pub(super) reports: load_report::Reading,
}

impl Samples {
    /// An attempt begins, of which [`Samples::record`] will tell. Called by the one worker whose cells
    /// these are.
    pub fn begin(&self) {
        self.0.get_or_init(Box::default).begun.inc();
    }

    /// An attempt that had begun ended by no fault of the host's. Called by the same worker.
    pub fn abandon(&self) {
        if let Some(cells) = self.0.get() {
            cells.abandoned.inc();
        }
    }

    /// Takes one in. Called by the one worker whose cells these are.
    pub fn record(&self, outcome: &Outcome) {
        let cells = self.0.get_or_init(Box::default);
        let Some(class) = cells.classes.get(outcome.class % CLASSES) else {
            return;
        };
        let took = outcome.took.min(LATENCY_MAX);
        let took = took.as_secs() * 1_000_000 + u64::from(took.subsec_micros());
        if outcome.failed {
            class.failed_us.add(took);
            class.failed.inc();
        } else {
            class.good_us.add(took);
            class.good.inc();
        }
        if let Some(spare_for) = outcome.spare_for {
            let spare_for = spare_for.min(LATENCY_MAX).as_millis();
            cells.spare_ms.set(u64::try_from(spare_for).unwrap_or(0));
            cells.spared.inc();
        }
    }

    /// Good samples of a class, their microseconds, and failures.
    #[cfg(test)]
    pub(in crate::upstream) fn of_class(&self, class: usize) -> (u64, u64, u64) {
        let mut reading = Reading::default();
        self.add_to(&mut reading);
        let sum = reading.classes[class];
        (sum.good, sum.good_us, sum.failed)
    }

    /// Adds what is here.
    pub(super) fn add_to(&self, reading: &mut Reading) {
        let Some(cells) = self.0.get() else {
            return;
        };
        for (sum, class) in reading.classes.iter_mut().zip(&cells.classes) {
            sum.good = sum.good.wrapping_add(class.good.value());
            sum.good_us = sum.good_us.wrapping_add(class.good_us.value());
            sum.failed = sum.failed.wrapping_add(class.failed.value());
            sum.failed_us = sum.failed_us.wrapping_add(class.failed_us.value());
        }
        reading.abandoned = reading.abandoned.wrapping_add(cells.abandoned.value());
        reading.begun = reading.begun.wrapping_add(cells.begun.value());
        let spared = cells.spared.value();
        if spared > 0 {
            reading.spare_ms = reading.spare_ms.max(cells.spare_ms.value());
        }
        reading.spared = reading.spared.wrapping_add(spared);
    }
}

impl Reading {
    /// Attempts have begun and have no first byte yet.
    pub(super) fn is_waiting(&self) -> bool {
        let ended = self.classes.iter().map(|sum| sum.good + sum.failed);
        self.begun > self.abandoned + ended.sum::<u64>()
    }
}

impl Sum {
    /// What came since `before`. The cells of a class are not read at one moment, so a sum may be a
    /// sample ahead of its count; the next reading has both.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            good: self.good.saturating_sub(before.good),
            good_us: self.good_us.saturating_sub(before.good_us),
            failed: self.failed.saturating_sub(before.failed),
            failed_us: self.failed_us.saturating_sub(before.failed_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_workers_add_up_by_class() {
        let workers = [Samples::default(), Samples::default(), Samples::default()];
        let outcome = |class, ms, failed| Outcome {
            class,
            took: Duration::from_millis(ms),
            failed,
            spare_for: failed.then(|| Duration::from_secs(ms)),
        };
        workers[0].record(&outcome(1, 5, false));
        workers[1].record(&outcome(1 + CLASSES, 7, false));
        workers[1].record(&outcome(2, 3, true));
        workers[2].begin();
        let mut reading = Reading::default();
        workers
            .iter()
            .for_each(|samples| samples.add_to(&mut reading));
        assert_eq!(
            (reading.classes[1].good, reading.classes[1].good_us),
            (2, 12_000)
        );
        assert_eq!(
            (reading.classes[2].failed, reading.classes[2].failed_us),
            (1, 3_000)
        );
        assert_eq!((reading.spared, reading.spare_ms), (1, 3_000));
    }
}
