//! What a load counts while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency told apart; longer ones count as this one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Three significant digits: 0.1 % is finer than any noise here.
const LATENCY_DIGITS: u8 = 3;

/// Totals of a load.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Requests answered with a status below 400.
    pub completed: u64,
    /// Requests answered with a status of 400 or above.
    pub refused: u64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Body bytes received.
    pub body_bytes: u64,
    /// Connections opened.
    pub connections: u64,
    /// TLS sessions taken up again.
    pub resumed: u64,
    /// Of a load that retires: requests that nobody has begun with, because their connection had ended.
    pub unsent: u64,
    /// Open loop: requests that fell due, answered or not.
    pub due: u64,
    /// Open loop: requests dropped because too many were waiting.
    pub overrun: u64,
}

impl Counters {
    /// The difference to an earlier state.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            completed: self.completed - earlier.completed,
            refused: self.refused - earlier.refused,
            failed: self.failed - earlier.failed,
            body_bytes: self.body_bytes - earlier.body_bytes,
            connections: self.connections - earlier.connections,
            resumed: self.resumed - earlier.resumed,
            unsent: self.unsent - earlier.unsent,
            due: self.due - earlier.due,
            overrun: self.overrun - earlier.overrun,
        }
    }
}

/// The counters as workers write them.
#[derive(Debug)]
pub(super) struct Recorder {
    completed: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    body_bytes: AtomicU64,
    connections: AtomicU64,
    resumed: AtomicU64,
    unsent: AtomicU64,
    due: AtomicU64,
    overrun: AtomicU64,
    latency: Mutex<Histogram<u64>>,
    first_failure: OnceLock<String>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            completed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            due: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
            latency: Mutex::new(empty()),
            first_failure: OnceLock::new(),
        }
    }
}

impl Recorder {
    pub(super) fn answered(&self, status: u16, body_bytes: u64, latency: Duration) {
        let counter = if status < 400 {
            &self.completed
        } else {
            &self.refused
        };
        add(counter, 1);
        add(&self.body_bytes, body_bytes);
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.saturating_record(nanoseconds);
        if status >= 400 {
            drop(latency);
            self.first_failure
                .get_or_init(|| format!("answered with status {status}"));
        }
    }

    pub(super) fn failed(&self, reason: impl FnOnce() -> String) {
        add(&self.failed, 1);
        self.first_failure.get_or_init(reason);
    }

    pub(super) fn connected(&self) {
        add(&self.connections, 1);
    }

    pub(super) fn resumed(&self) {
        add(&self.resumed, 1);
    }

    pub(super) fn did_not_send(&self) {
        add(&self.unsent, 1);
    }

    pub(super) fn fell_due(&self, requests: u64) {
        add(&self.due, requests);
    }

    pub(super) fn overran(&self, requests: u64) {
        add(&self.overrun, requests);
    }

    pub(super) fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            completed: read(&self.completed),
            refused: read(&self.refused),
            failed: read(&self.failed),
            body_bytes: read(&self.body_bytes),
            connections: read(&self.connections),
            resumed: read(&self.resumed),
            unsent: read(&self.unsent),
            due: read(&self.due),
            overrun: read(&self.overrun),
        }
    }

    pub(super) fn take_latency(&self) -> Histogram<u64> {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *latency, empty())
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        self.first_failure.get().cloned()
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, LATENCY_DIGITS)
        .expect("the bounds are constants that the histogram accepts")
}
