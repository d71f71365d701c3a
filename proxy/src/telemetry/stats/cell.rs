//! Handles to single cells of a group: what the data path writes through.
//!
//! A handle is made for one call by a group's accessor (`stats.upstream_rq_total().inc()`) and knows
//! whether this thread is the only writer of its cell.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::telemetry::response_flag::ResponseFlag;
use crate::telemetry::response_flag::ResponseFlags;

/// Distinct status codes counted one by one per worker and group: real services use fewer; an
/// upstream that answers with all 500 costs no more memory and is still counted by class.
const CODES_MAX: usize = 16;

/// Adds to a cell: a load and a store where nobody else writes, else one locked instruction.
#[inline]
pub(super) fn add(cell: &AtomicU64, amount: u64, exclusive: bool) {
    if exclusive {
        let now = cell.load(Ordering::Relaxed).wrapping_add(amount);
        cell.store(now, Ordering::Relaxed);
    } else {
        cell.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Only ever goes up.
#[derive(Debug)]
#[must_use]
pub struct Counter<'a> {
    cell: &'a AtomicU64,
    exclusive: bool,
}

impl<'a> Counter<'a> {
    pub(super) const fn new(cell: &'a AtomicU64, exclusive: bool) -> Self {
        Self { cell, exclusive }
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(self, amount: u64) {
        add(self.cell, amount, self.exclusive);
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }
}

/// Goes up and down; a worker may take back what another one added, only the sum means something.
#[derive(Debug)]
#[must_use]
pub struct Gauge<'a> {
    cell: &'a AtomicU64,
    exclusive: bool,
}

impl<'a> Gauge<'a> {
    pub(super) const fn new(cell: &'a AtomicU64, exclusive: bool) -> Self {
        Self { cell, exclusive }
    }

    /// Adds `amount`, which may be negative.
    #[inline]
    pub fn add(self, amount: i64) {
        add(self.cell, amount.cast_unsigned(), self.exclusive);
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Takes one away.
    #[inline]
    pub fn dec(self) {
        self.add(-1);
    }
}

/// One up on a gauge for as long as it lives.
#[must_use]
pub struct GaugeGuard<S> {
    stats: Arc<S>,
    gauge: fn(&S) -> Gauge<'_>,
}

impl<S> GaugeGuard<S> {
    /// Counts one up now: `GaugeGuard::new(stats, ClusterStats::upstream_rq_active)`.
    pub fn new(stats: Arc<S>, gauge: fn(&S) -> Gauge<'_>) -> Self {
        gauge(&stats).inc();
        Self { stats, gauge }
    }
}

impl<S> Drop for GaugeGuard<S> {
    fn drop(&mut self) {
        (self.gauge)(&self.stats).dec();
    }
}

impl<S> fmt::Debug for GaugeGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GaugeGuard")
    }
}

/// A value that the control side sets; one cell for the whole process.
#[derive(Debug)]
#[must_use]
pub struct Level<'a>(&'a AtomicU64);

impl<'a> Level<'a> {
    pub(super) const fn new(cell: &'a AtomicU64) -> Self {
        Self(cell)
    }

    /// Replaces the value.
    pub fn set(self, value: i64) {
        self.0.store(value.cast_unsigned(), Ordering::Relaxed);
    }

    /// Replaces the value by a count, capped at what a gauge can show.
    pub fn set_count(self, value: usize) {
        self.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// How often each status code was seen, up to [`CODES_MAX`] of them.
#[derive(Debug, Default)]
pub(super) struct CodeCells {
    codes: [AtomicU16; CODES_MAX],
    counts: [AtomicU64; CODES_MAX],
}

impl CodeCells {
    fn cell(&self, code: u16) -> Option<&AtomicU64> {
        for (key, count) in self.codes.iter().zip(&self.counts) {
            let seen = key.load(Ordering::Relaxed);
            if seen == code {
                return Some(count);
            }
            let free = seen == 0;
            // The shared slot has several writers: only one of them may name a free place.
            if free && claim(key, code) {
                return Some(count);
            }
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.codes
            .iter()
            .zip(&self.counts)
            .map(|(code, count)| (code.load(Ordering::Relaxed), count.load(Ordering::Relaxed)))
            .filter(|(code, _)| *code != 0)
    }
}

fn claim(key: &AtomicU16, code: u16) -> bool {
    match key.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => true,
        Err(winner) => winner == code,
    }
}

/// Counts responses by status code.
#[derive(Debug)]
#[must_use]
pub struct Codes<'a> {
    cells: &'a CodeCells,
    exclusive: bool,
}

impl<'a> Codes<'a> {
    pub(super) const fn new(cells: &'a CodeCells, exclusive: bool) -> Self {
        Self { cells, exclusive }
    }

    /// Counts one response.
    #[inline]
    pub fn record(self, code: u16) {
        if let Some(cell) = self.cells.cell(code) {
            add(cell, 1, self.exclusive);
        }
    }
}

/// How often each response flag was seen.
#[derive(Debug, Default)]
pub(super) struct FlagCells([AtomicU64; ResponseFlag::ALL.len()]);

impl FlagCells {
    pub(super) fn iter(&self) -> impl Iterator<Item = (ResponseFlag, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        ResponseFlag::ALL.into_iter().zip(counts)
    }
}

/// Counts exchanges by response flag.
#[derive(Debug)]
#[must_use]
pub struct Flags<'a> {
    cells: &'a FlagCells,
    exclusive: bool,
}

impl<'a> Flags<'a> {
    pub(super) const fn new(cells: &'a FlagCells, exclusive: bool) -> Self {
        Self { cells, exclusive }
    }

    /// Counts one exchange under each of its flags.
    #[inline]
    pub fn record(self, flags: ResponseFlags) {
        if flags.is_empty() {
            return;
        }
        for flag in flags.iter() {
            if let Some(cell) = self.cells.0.get(flag as usize) {
                add(cell, 1, self.exclusive);
            }
        }
    }
}
