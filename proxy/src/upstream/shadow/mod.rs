//! A policy that looks on: what it would have chosen, and what latency it would have brought.
//!
//! ```text
//! worker:  pick ── asks the shadow as well ──► Looked (shared cells of the host): chosen, would, agreed
//! worker:  end of an attempt ────────────────► Looked: how long it took
//! control: every period ── Watch reads them ──► what came, and what would have come
//! ```
//!
//! A period's answers of a host are what whoever was sent there would have waited: so the latency of the
//! shadow's choices is a mixture of the hosts' own, by how often it would have chosen each. What that leaves
//! out is said in the proto: hosts are as busy as the other policy makes them.
//!
//! Cells are shared by all workers, unlike those of `latency`: they are for the time of a comparison, and
//! without one there is a branch per pick and per answer.
//!
//! | file | holds |
//! |---|---|
//! | `watch` | from cells to a report |

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::upstream::latency::Outcome;
use crate::upstream::latency::window::BUCKETS;
use crate::upstream::latency::window::bucket;

mod watch;

pub use watch::Report;
pub use watch::Share;
pub use watch::Times;
pub use watch::Watch;

/// What was counted of one host while a policy looked on. Takes memory only then.
#[derive(Debug, Default)]
pub struct Looked(OnceLock<Box<Cells>>);

#[derive(Debug)]
struct Cells {
    is_on: AtomicBool,
    chosen: AtomicU64,
    would: AtomicU64,
    agreed: AtomicU64,
    /// Good answers by their length.
    answers: [AtomicU64; BUCKETS],
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            is_on: AtomicBool::new(true),
            chosen: AtomicU64::new(0),
            would: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            answers: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// The cells at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    chosen: u64,
    would: u64,
    agreed: u64,
    answers: [u64; BUCKETS],
}

impl Looked {
    /// Answers are counted from now on, or no longer.
    pub(super) fn turn(&self, on: bool) {
        if on {
            let cells = self.0.get_or_init(Box::default);
            cells.is_on.store(true, Ordering::Relaxed);
        } else if let Some(cells) = self.0.get() {
            cells.is_on.store(false, Ordering::Relaxed);
        }
    }

    /// The host was chosen; `agreed` if it would have been, too.
    pub(super) fn chose(&self, agreed: bool) {
        if let Some(cells) = self.0.get() {
            cells.chosen.fetch_add(1, Ordering::Relaxed);
            if agreed {
                cells.agreed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The host would have been chosen.
    pub(super) fn would_choose(&self) {
        if let Some(cells) = self.0.get() {
            cells.would.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An answer came. A failure is none: one that comes at once would make its host look fast.
    pub(super) fn answered(&self, outcome: &Outcome) {
        let Some(cells) = self.0.get() else {
            return;
        };
        if outcome.failed || !cells.is_on.load(Ordering::Relaxed) {
            return;
        }
        if let Some(count) = cells.answers.get(bucket(micros(outcome.took))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Option<Reading> {
        let cells = self.0.get()?;
        let value = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Some(Reading {
            chosen: value(&cells.chosen),
            would: value(&cells.would),
            agreed: value(&cells.agreed),
            answers: std::array::from_fn(|at| cells.answers.get(at).map_or(0, value)),
        })
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests;
