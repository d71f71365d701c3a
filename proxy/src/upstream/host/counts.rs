//! What each worker counts of a host.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::config::limits;
use crate::upstream::health::outlier::Tally;
use crate::upstream::in_flight::InFlight;
use crate::upstream::latency::Outcome;
use crate::upstream::latency::Samples;
use crate::upstream::load_report::Reports;
use crate::upstream::shadow::Looked;

/// What one worker counted of one host. Only that worker writes it.
#[derive(Debug, Default)]
pub struct HostCounts {
    /// Connections open.
    pub cx_active: HostCount,
    /// Connections that could not be made.
    pub cx_connect_fail: HostCount,
    /// Connections made or tried.
    pub cx_total: HostCount,
    /// Requests in progress.
    pub rq_active: HostCount,
    /// Requests answered with 5xx, or not at all.
    pub rq_error: HostCount,
    /// Requests answered otherwise.
    pub rq_success: HostCount,
    /// Requests that took longer than the route allows.
    pub rq_timeout: HostCount,
    /// Requests sent.
    pub rq_total: HostCount,
    /// How long its answers took, if the policy of the cluster asks.
    pub(in crate::upstream) samples: Samples,
    /// What its answers said of its load, if the policy of the cluster asks.
    pub(in crate::upstream) reports: Reports,
    /// How many went well, if outlier detection asks.
    pub(in crate::upstream) tally: Tally,
    /// Attempts that are measured and have no first byte yet, of all workers.
    pub(super) waiting: Arc<InFlight>,
    /// The host's, of all workers.
    pub(super) in_flight: Arc<InFlight>,
    /// The host's, for a policy that looks on.
    pub(super) looked: Arc<Looked>,
}

impl HostCounts {
    /// A request is on its way.
    pub fn begin_request(&self) {
        self.rq_active.inc();
        self.in_flight.inc();
    }

    /// Whether the answer of the request that has begun may have a report, where reports are extra: as long
    /// as none came they are looked for in the first answer, and then seldom.
    pub fn may_report(&self) -> bool {
        self.reports.have_come() || self.rq_total.value() % limits::LOAD_REPORT_LOOKS == 1
    }

    /// An attempt begins that is measured until its first byte.
    pub fn begin_sample(&self) {
        self.waiting.inc();
        self.samples.begin();
    }

    /// What [`HostCounts::begin_sample`] began came to its first byte, or failed; none if it ended by no
    /// fault of the host's.
    pub fn end_sample(&self, outcome: Option<&Outcome>) {
        self.waiting.dec();
        match outcome {
            Some(outcome) => {
                self.samples.record(outcome);
                self.looked.answered(outcome);
            }
            None => self.samples.abandon(),
        }
    }

    /// The same of what is only a part of the way to an answer.
    pub fn end_part(&self, outcome: &Outcome) {
        self.waiting.dec();
        self.samples.record(outcome);
    }

    /// Of a route class: good samples, their microseconds, and failures.
    #[cfg(test)]
    pub(crate) fn measured(&self, class: usize) -> (u64, u64, u64) {
        self.samples.of_class(class)
    }

    /// Whether a sample has begun and not ended.
    #[cfg(test)]
    pub(crate) fn is_measured_now(&self) -> bool {
        self.waiting.value() > 0
    }

    /// What [`HostCounts::begin_request`] began has ended.
    pub fn end_request(&self) {
        self.rq_active.dec();
        self.in_flight.dec();
    }
}

/// A number with one writer, so that writing needs no locked instruction.
#[derive(Debug, Default)]
pub struct HostCount(AtomicU64);

impl HostCount {
    /// One more.
    pub fn inc(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(count));
    }

    /// This, whatever it was.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(1),
            Ordering::Relaxed,
        );
    }

    /// What it is.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
