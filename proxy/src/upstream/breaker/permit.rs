//! Places inside the limits of a cluster, given back when dropped, however that comes about.

use std::sync::Arc;

use crate::config::circuit_breakers::Priority;
use crate::upstream::Host;
use crate::upstream::breaker::Breakers;

/// A connection while it is made and while it is open.
#[derive(Debug)]
pub struct ConnectionPermit {
    pub(super) breakers: Arc<Breakers>,
    pub(super) host: Arc<Host>,
    pub(super) priority: Priority,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.breakers.leave_connection(&self.host, self.priority);
    }
}

/// A request while it waits for a connection.
#[derive(Debug)]
pub struct PendingPermit {
    breakers: Arc<Breakers>,
    priority: Priority,
}

impl PendingPermit {
    pub(super) fn new(breakers: Arc<Breakers>, priority: Priority) -> Self {
        breakers.stats.upstream_rq_pending_total().inc();
        breakers.stats.upstream_rq_pending_active().inc();
        Self { breakers, priority }
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        self.breakers.stats.upstream_rq_pending_active().dec();
        self.breakers.of(self.priority).pending.leave();
    }
}

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

/// A stream of bytes that counts as a request though no limit of requests holds it.
#[derive(Debug)]
pub struct StreamPermit {
    breakers: Arc<Breakers>,
    priority: Priority,
}

impl StreamPermit {
    pub(super) fn new(breakers: Arc<Breakers>, priority: Priority) -> Self {
        breakers.stats.upstream_rq_active().inc();
        Self { breakers, priority }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.breakers.stats.upstream_rq_active().dec();
        self.breakers.leave_request(self.priority);
    }
}
