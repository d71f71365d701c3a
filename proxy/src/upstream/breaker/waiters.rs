//! Those who wait until somebody leaves.
//!
//! Nobody is forgotten: who waits is counted first and looks once more then, who leaves does so first
//! and looks whether somebody waits then, and all of it is in one order (`SeqCst`).

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Those who wait for the same room, of all workers; who came first is woken first.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicU32,
    left: Notify,
}

impl Waiters {
    /// How many wait.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// One more waits, while what is given back lives.
    pub(crate) fn enter(&self) -> Waiting<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Done when it was the turn of the caller, or may have been.
    pub(crate) fn left(&self) -> Notified<'_> {
        self.left.notified()
    }

    /// Somebody left: the first who waits may look.
    pub(crate) fn wake(&self) {
        if self.count() > 0 {
            self.left.notify_one();
        }
    }

    /// There may be more room than one has left.
    pub(super) fn wake_all(&self) {
        self.left.notify_waiters();
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Waiters);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}
