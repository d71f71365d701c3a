//! How much may be on its way to a cluster at once: `Cluster.circuit_breakers`, exact for the whole
//! process.
//!
//! The counts belong to the cluster's stable cell and outlive every change of its configuration. What
//! is inside holds a permit, and dropping it lets it out.
//!
//! | file | holds |
//! |---|---|
//! | `gate` | a count with a limit |
//! | `permit` | a place inside, given back when dropped |
//! | `outcome` | opens when too many requests were slow or failed |
//! | `outcomes` | the same of members |
//! | `recent` | requests that began within a while |
//! | `waiters` | those who wait until somebody leaves |
//! | `gauges` `outcome_gauges` | what metrics show |

mod gate;
mod gauges;
pub mod outcome;
mod outcome_gauges;
mod outcomes;
mod permit;
mod recent;
#[cfg(test)]
mod tests;
mod waiters;

use std::sync::Arc;
use std::sync::OnceLock;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::config::CircuitBreakers;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::Thresholds;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::Host;
pub(crate) use gate::Gate;
pub use permit::ConnectionPermit;
pub use permit::PendingPermit;
pub use permit::RetryPermit;
pub use permit::StreamPermit;
use recent::Recent;
pub(crate) use waiters::Waiters;

/// The limits of one cluster with what is inside.
#[derive(Debug)]
pub struct Breakers {
    config: ArcSwap<CircuitBreakers>,
    stats: Arc<ClusterStats>,
    default: Gates,
    high: Gates,
    /// By worker: tells it that somebody waits for a connection. Set when it makes its first one.
    workers: Box<[OnceLock<Arc<Notify>>]>,
}

/// Those of one priority. What every request writes stands apart from what is mostly read.
#[derive(Debug)]
struct Gates {
    requests: Alone,
    connections: Gate,
    pending: Gate,
    retries: Gate,
    /// Counted once a retry budget is a share of it.
    recent: OnceLock<Box<Recent>>,
    /// For a connection.
    waiters: Waiters,
}

/// Alone on its cache lines: a neighbor's readers must not be slowed by its writers.
#[derive(Debug)]
#[repr(align(128))]
struct Alone(Gate);

/// What of a member counts against limits, and who waits for it.
#[derive(Debug)]
pub(crate) struct HostRoom {
    connections: Gate,
    pub(crate) waiters: Waiters,
}

impl Default for HostRoom {
    fn default() -> Self {
        Self {
            connections: Gate::new(u32::MAX), // who enters brings the limit
            waiters: Waiters::default(),
        }
    }
}

/// Why no connection can be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The cluster has as many as it may.
    Cluster,
    /// The member has.
    Host,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Connections, those being made included.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in progress.
    Requests,
    /// Retries in progress.
    Retries,
}

impl Resource {
    /// As in names of statistics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }

    /// All, in the order of Envoy's names.
    pub const ALL: [Self; 4] = [
        Self::Connections,
        Self::Pending,
        Self::Requests,
        Self::Retries,
    ];
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Inside now.
    pub inside: u32,
    /// May be inside.
    pub max: u32,
    /// So many more are let in; none are counted where a budget moves by itself.
    pub remaining: u32,
}

impl Standing {
    /// Whether nobody else is let in.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.inside >= self.max
    }
}

impl Gates {
    fn new(limits: &Thresholds) -> Self {
        let gates = Self {
            requests: Alone(Gate::new(limits.requests_max)),
            connections: Gate::new(limits.connections_max),
            pending: Gate::new(limits.pending_max),
            retries: Gate::new(limits.retries_max),
            recent: OnceLock::new(),
            waiters: Waiters::default(),
        };
        gates.set_window(limits);
        gates
    }

    /// How long requests count for the retry budget.
    fn set_window(&self, limits: &Thresholds) {
        let window = limits.retry_budget.and_then(|budget| budget.window);
        if window.is_some() {
            self.recent.get_or_init(Box::default);
        }
        if let Some(recent) = self.recent.get() {
            recent.configure(window);
        }
    }

    fn configure(&self, limits: &Thresholds) {
        self.requests.0.set_max(limits.requests_max);
        self.connections.set_max(limits.connections_max);
        self.pending.set_max(limits.pending_max);
        self.retries.set_max(limits.retries_max);
        self.set_window(limits);
        self.waiters.wake_all();
    }

    /// What a retry budget is a share of: what has begun within its window, or else what goes on.
    fn share_of(&self) -> u64 {
        let active = || u64::from(self.requests.0.inside()) + u64::from(self.pending.inside());
        let recent = self.recent.get().and_then(|recent| recent.sum());
        recent.unwrap_or_else(active)
    }
}

impl Breakers {
    /// With nothing inside, for workers `0..workers`.
    pub fn new(config: CircuitBreakers, stats: Arc<ClusterStats>, workers: usize) -> Self {
        Self {
            default: Gates::new(&config.default),
            high: Gates::new(&config.high),
            config: ArcSwap::from_pointee(config),
            stats,
            workers: (0..workers.max(1)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Other limits from now on; what is inside stays and counts.
    pub(super) fn configure(&self, config: CircuitBreakers) {
        if **self.config.load() == config {
            return;
        }
        self.config.store(Arc::new(config));
        self.default.configure(&config.default);
        self.high.configure(&config.high);
    }

    /// One more request on a connection, until [`Breakers::leave_request`]; false if there are too
    /// many, which is counted.
    #[must_use]
    pub(super) fn enter_request(&self, priority: Priority) -> bool {
        let gates = self.of(priority);
        let entered = gates.requests.0.enter();
        if !entered {
            self.stats.upstream_rq_active_overflow().inc();
        } else if let Some(recent) = gates.recent.get() {
            recent.count();
        }
        entered
    }

    /// What [`Breakers::enter_request`] let in has ended.
    pub(super) fn leave_request(&self, priority: Priority) {
        self.of(priority).requests.0.leave();
    }

    /// A stream of bytes: it counts among the requests but is never refused for their number, as with
    /// Envoy.
    pub fn enter_stream(self: &Arc<Self>, priority: Priority) -> StreamPermit {
        self.of(priority).requests.0.force();
        StreamPermit::new(Arc::clone(self), priority)
    }

    /// One more request that waits for a connection; none if too many wait, which is counted.
    pub fn try_pend(self: &Arc<Self>, priority: Priority) -> Option<PendingPermit> {
        if !self.of(priority).pending.enter() {
            self.stats.upstream_rq_pending_overflow().inc();
            return None;
        }
        Some(PendingPermit::new(Arc::clone(self), priority))
    }

    /// One more connection, from its first packet to its last.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(crate) fn try_connection(
        self: &Arc<Self>,
        host: &Arc<Host>,
        priority: Priority,
    ) -> Result<ConnectionPermit, Full> {
        let gates = self.of(priority);
        if !gates.connections.enter() {
            return Err(Full::Cluster);
        }
        let max = self.config.load().of(priority).host_connections_max;
        if !host.room.connections.enter_below(max.unwrap_or(u32::MAX)) {
            gates.connections.leave();
            gates.waiters.wake(); // somebody may have been refused meanwhile
            return Err(Full::Host);
        }
        Ok(ConnectionPermit {
            breakers: Arc::clone(self),
            host: Arc::clone(host),
            priority,
        })
    }

    fn leave_connection(&self, host: &Host, priority: Priority) {
        host.room.connections.leave();
        self.of(priority).connections.leave();
        host.room.waiters.wake();
        self.of(priority).waiters.wake();
    }

    /// Those who wait for what is full.
    pub(crate) fn waiters<'a>(
        &'a self,
        full: Full,
        (host, priority): (&'a Host, Priority),
    ) -> &'a Waiters {
        match full {
            Full::Cluster => &self.of(priority).waiters,
            Full::Host => &host.room.waiters,
        }
    }

    /// Whether the cluster would take one more connection.
    pub(crate) fn has_connection(&self, priority: Priority) -> bool {
        self.of(priority).connections.has_room()
    }

    /// `worker` makes connections and is told when somebody waits for one.
    pub(crate) fn join(&self, worker: usize, asked: &Arc<Notify>) {
        if let Some(place) = self.workers.get(worker) {
            place.get_or_init(|| Arc::clone(asked));
        }
    }

    /// Asks all workers for connections that nobody uses.
    pub(crate) fn ask(&self) {
        let known = self.workers.iter().filter_map(OnceLock::get);
        known.for_each(|asked| asked.notify_one());
    }

    /// Counts a request that found all connections taken.
    pub(crate) fn count_full(&self) {
        self.stats.upstream_cx_overflow().inc();
    }

    /// One more retry, from the decision until its response begins or it fails; none if there are too
    /// many, which is counted.
    pub fn try_retry(self: &Arc<Self>, priority: Priority) -> Option<RetryPermit> {
        let entered = self
            .of(priority)
            .retries
            .enter_below(self.retries_max(priority));
        if !entered {
            self.stats.upstream_rq_retry_overflow().inc();
            return None;
        }
        Some(RetryPermit::new(Arc::clone(self), priority))
    }

    fn retries_max(&self, priority: Priority) -> u32 {
        let limits = *self.config.load().of(priority);
        limits.retry_budget.map_or(limits.retries_max, |budget| {
            budget.retries_max(self.of(priority).share_of())
        })
    }

    /// How a limit stands.
    pub fn standing(&self, priority: Priority, resource: Resource) -> Standing {
        let gates = self.of(priority);
        let gate = match resource {
            Resource::Connections => &gates.connections,
            Resource::Pending => &gates.pending,
            Resource::Requests => &gates.requests.0,
            Resource::Retries => &gates.retries,
        };
        let inside = gate.inside();
        let is_budget = self.config.load().of(priority).retry_budget.is_some();
        let is_budget = is_budget && resource == Resource::Retries;
        let max = if is_budget {
            self.retries_max(priority)
        } else {
            gate.max()
        };
        let remaining = if is_budget {
            0
        } else {
            max.saturating_sub(inside)
        };
        Standing {
            inside,
            max,
            remaining,
        }
    }

    const fn of(&self, priority: Priority) -> &Gates {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}
