//! One slot per worker, each on cache lines of its own, and one more for everybody else.
//!
//! A worker's slot has a single writer, so it can be written with plain loads and stores; the shared
//! slot needs atomic read-modify-write. [`PerWorker::local`] says which of the two it gave.

use std::fmt;

use crate::telemetry::stats::worker;

/// A `T` per worker plus a shared one for other threads.
pub struct PerWorker<T> {
    /// Slot 0 is the shared one; worker `n` has `n + 1`.
    slots: Box<[Slot<T>]>,
}

/// 128 bytes: two lines, because x86 prefetches lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Slot<T>(T);

impl<T> PerWorker<T> {
    /// For workers `0..workers`, each slot made by `new`.
    pub fn new(workers: usize, mut new: impl FnMut() -> T) -> Self {
        let slots = (0..=workers).map(|_| Slot(new())).collect();
        Self { slots }
    }

    /// This thread's slot, and whether this thread is its only writer.
    #[inline]
    pub fn local(&self) -> (&T, bool) {
        let index = worker::current().map_or(0, |index| index + 1);
        match self.slots.get(index) {
            Some(slot) if index > 0 => (&slot.0, true),
            // Not a worker, or one that came after this was sized.
            Some(_) | None => (self.shared(), false),
        }
    }

    /// Every slot, the shared one first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &slot.0)
    }

    /// The slot that has many writers.
    pub fn shared(&self) -> &T {
        &self.slots.first().expect("new makes at least one slot").0
    }
}

impl<T> fmt::Debug for PerWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerWorker")
            .field("slots", &self.slots.len())
            .finish()
    }
}
