//! Stops and continues an origin without closing anything: the stall of a garbage collector.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Open at first; every request passes it once.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.closed.store(false, Ordering::Release);
        self.opened.notify_waiters();
    }

    /// Waits while the gate is closed.
    pub(super) async fn pass(&self) {
        while self.closed.load(Ordering::Acquire) {
            let mut opened = std::pin::pin!(self.opened.notified());
            // Registered before the second look, so an `open` in between is not missed.
            opened.as_mut().enable();
            if !self.closed.load(Ordering::Acquire) {
                return;
            }
            opened.await;
        }
    }
}
