//! How many requests a host is answering right now, for all workers together.
//!
//! The counters of a worker have one writer each, but a balancer needs the sum at every pick, and
//! must not gather it. So this one number is shared: two relaxed additions per request.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::upstream::HostCounts;

/// A shared number, alone on its cache lines: a neighbor's writes must not slow its readers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct InFlight(AtomicU64);

impl InFlight {
    /// One more.
    pub(super) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(super) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream of bytes towards a host, counted as one request while it lives.
#[derive(Debug)]
pub struct ActiveRequest(Arc<HostCounts>);

impl ActiveRequest {
    /// One more from now on.
    pub fn enter(counts: &Arc<HostCounts>) -> Self {
        counts.begin_request();
        Self(Arc::clone(counts))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
