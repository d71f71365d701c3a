//! Which worker this thread is.
//!
//! Invariant: of all threads that write to one registry's groups, at most one has a given index.

use std::cell::Cell;

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes this thread worker `index`; called once, first thing, by each worker thread.
pub fn enter(index: usize) {
    INDEX.set(Some(index));
}

/// This thread's worker index, if it is a worker.
#[inline]
#[must_use]
pub fn current() -> Option<usize> {
    INDEX.get()
}
