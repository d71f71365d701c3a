//! What a reader sees of a group of counters, whatever component it belongs to.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::telemetry::response_flag::ResponseFlag;
use crate::telemetry::stats::cell::CodeCells;
use crate::telemetry::stats::cell::FlagCells;
use crate::telemetry::stats::histogram::HistogramSnapshot;

/// Where a group's names live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// First part of a name: `cluster` in `cluster.x.upstream_rq_total`.
    pub prefix: &'static str,
    /// The Prometheus label that carries the instance; none if there is only one instance.
    pub label: Option<&'static str>,
}

/// One member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Envoy's name, without scope and instance.
    pub name: &'static str,
    /// What it counts, one sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Status codes, one counter each.
    Codes,
    /// Only goes up.
    Counter,
    /// Response flags, one counter each.
    Flags,
    /// Goes up and down.
    Gauge,
    /// Durations.
    Histogram,
}

/// What a field held at one moment, all workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By status code, ascending.
    Codes(Vec<(u16, u64)>),
    /// A count.
    Counter(u64),
    /// By response flag, those seen.
    Flags(Vec<(ResponseFlag, u64)>),
    /// A level.
    Gauge(i64),
    /// A distribution.
    Histogram(HistogramSnapshot),
}

impl Reading {
    /// Whether anything was ever counted.
    #[must_use]
    pub fn is_used(&self) -> bool {
        match self {
            Self::Codes(codes) => !codes.is_empty(),
            Self::Counter(value) => *value != 0,
            Self::Flags(flags) => !flags.is_empty(),
            Self::Gauge(value) => *value != 0,
            Self::Histogram(snapshot) => snapshot.count() != 0,
        }
    }
}

/// The counters of one live component.
pub trait Group: fmt::Debug + Send + Sync {
    /// Its members, in the order of declaration.
    fn fields(&self) -> &'static [Field];

    /// What the member at this place of [`Group::fields`] holds; none if there is no such place.
    fn read(&self, index: usize) -> Option<Reading>;
}

/// What the macro knows at compile time of a group.
pub(super) trait Declared: Group + 'static {
    const SCOPE: Scope;

    /// For workers `0..workers`.
    fn with_workers(workers: usize) -> Self;
}

pub(super) fn sum<'a>(cells: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    cells.fold(0, |sum, cell| {
        sum.wrapping_add(cell.load(Ordering::Relaxed))
    })
}

pub(super) fn sum_codes<'a>(workers: impl Iterator<Item = &'a CodeCells>) -> Vec<(u16, u64)> {
    let mut all: Vec<(u16, u64)> = workers.flat_map(CodeCells::iter).collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    all
}

pub(super) fn sum_flags<'a>(
    workers: impl Iterator<Item = &'a FlagCells>,
) -> Vec<(ResponseFlag, u64)> {
    let mut all = ResponseFlag::ALL.map(|flag| (flag, 0_u64));
    for cells in workers {
        for (sum, (_, count)) in all.iter_mut().zip(cells.iter()) {
            sum.1 += count;
        }
    }
    all.into_iter().filter(|(_, count)| *count != 0).collect()
}
