//! Places inside the limits of a cluster, given back when dropped, however that comes about.

use std::sync::Arc;

use crate::config::circuit_breakers::Priority;
use crate::upstream::breaker::Breakers;

/// A retry while it counts.
#[derive(Debug)]
pub struct RetryPermit {
    breakers: Arc<Breakers>,
    priority: Priority,
}

impl RetryPermit {
    pub(super) fn new(breakers: Arc<Breakers>, priority: Priority) -> Self {
        Self { breakers, priority }
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.breakers.of(self.priority).retries.leave();
    }
}
