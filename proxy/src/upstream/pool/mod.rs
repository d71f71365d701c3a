//! A worker's open connections to upstream hosts.
//!
//! Each worker has its own, on one thread and without locks. A connection is reused only if its last
//! exchange ended cleanly by framing: the codec says it is ready only when the request was fully
//! written and the response fully read, with nothing left over (invariant 7).
//!
//! | file | holds |
//! |---|---|
//! | `host_pool` | the connections to one host |
//! | `lease` | a connection while an exchange uses it |
//! | `overlap` | how connections are replaced when we show another certificate |
//! | `users` | who is to be cut when a host leaves, or a certificate ends |
//! | `room` | what a request waits for that found no idle connection |

mod host_pool;
mod lease;
mod overlap;
mod room;
#[cfg(test)]
mod tests;
mod users;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config;
use crate::config::circuit_breakers::Priority;
use crate::config::cluster::Discovery;
use crate::downstream::Downstream;
use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::Protocol;
use crate::net::tls::Tenure;
use crate::overload::Loads;
use crate::telemetry::stats::worker;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::Picked;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::connect::Vintage;
use crate::upstream::load_balancer::Asked;
use crate::upstream::original::OriginalHosts;
use crate::upstream::servers::Servers;
use host_pool::HostPool;
pub use lease::Http1Lease;
pub use lease::Http2Lease;
pub use lease::Lease;

/// Pools for hosts of requests: clients choose them, so they must not choose how many. What is beyond
/// gets connections that are used once.
const REQUEST_HOSTS_MAX: usize = 1024;

/// The id of a host, the host of the request if it makes a difference to TLS, and the priority:
/// what is kept for important requests is not used up by others.
type Key = (u64, Option<Rc<str>>, Priority);

/// What a connection must be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is spoken; ALPN decides if it is left open.
    pub protocol: Option<Protocol>,
    /// The host of the request, if it makes a difference to TLS.
    pub request_host: Option<Rc<str>>,
    /// Whose limits it counts against.
    pub priority: Priority,
}

/// All upstream connections of one worker.
#[derive(Debug)]
pub struct Pools {
    by_host: RefCell<HashMap<Key, Rc<HostPool>, RandomState>>,
    originals: OriginalHosts,
    /// When what is still on a host that left, or stands on a certificate that ends, is cut next.
    next_cut: Cell<Option<Instant>>,
    /// Those whose certificates connections stand on.
    pub(crate) servers: Servers,
    /// Somebody waits for a connection, perhaps one that nobody uses here.
    asked: Arc<Notify>,
    loads: Arc<Loads>,
}

impl Pools {
    /// None is open yet. What stands on a certificate is asked to go the drain time before its end.
    pub fn new(drain_time: Duration, loads: Arc<Loads>) -> Self {
        Self {
            by_host: RefCell::default(),
            originals: OriginalHosts::default(),
            next_cut: Cell::default(),
            servers: Servers::new(drain_time),
            asked: Arc::default(),
            loads,
        }
    }

    /// The member for a client, with the configuration that goes with it, and what the request asks.
    pub fn pick(&self, cluster: &ClusterHandle, client: &Downstream, asked: Asked<'_>) -> Picked {
        let mut picked = cluster.pick(asked);
        if picked.config.discovery == Discovery::OriginalDst {
            let wanted = client.local.filter(|_| client.found().local_is_restored);
            let transport = || Arc::clone(cluster.load().transports.usual());
            let name = &picked.config.name;
            let host = wanted.map(|address| self.originals.of(name, address, &transport()));
            picked.host = host;
        }
        picked
    }

    /// An open connection to `host` that is what is wanted and has room.
    ///
    /// # Errors
    /// There is one, but there are as many requests as there may be.
    pub fn idle(&self, host: &Host, wanted: &Wanted) -> Result<Option<Lease>, Reason> {
        let pools = self.by_host.borrow();
        let key = (host.id, wanted.request_host.clone(), wanted.priority);
        match pools.get(&key) {
            Some(pool) => HostPool::idle(pool, wanted.protocol),
            None => Ok(None),
        }
    }

    /// A new connection to `host`. For HTTP/2 somebody else may just have made one with room; then
    /// it is that one.
    ///
    /// # Errors
    /// No connection could be made in time, or a limit is reached.
    ///
    /// # Cancel safety
    /// A connection being made is dropped.
    pub async fn connect(
        &self,
        config: &Arc<config::Cluster>,
        cluster: &ClusterHandle,
        host: &Arc<Host>,
        (wanted, client): (Wanted, &Downstream),
    ) -> Result<Lease, ConnectFailure> {
        let protocol = wanted.protocol;
        let whose = (wanted.request_host, wanted.priority);
        let pool = self.of(config, cluster, host, whose);
        HostPool::connect(&pool, protocol, client).await
    }

    /// Closes what has been idle too long, and what belongs to hosts that are gone. Called about
    /// once a second by the worker.
    pub fn housekeep(&self, now: Instant) {
        self.originals.housekeep(now);
        self.servers.housekeep();
        self.by_host
            .borrow_mut()
            .retain(|_, pool| pool.housekeep(now));
        self.plan_cut(); // there may be new ones whose certificates end
    }

    /// Hosts may have left: what does nothing on them is closed at once.
    pub fn follow_hosts(&self) {
        self.by_host
            .borrow()
            .values()
            .for_each(|pool| pool.follow_host());
        self.plan_cut();
    }

    /// Closes what does nothing, whatever its age.
    pub fn close_idle(&self) {
        let pools = self.by_host.borrow();
        pools.values().for_each(|pool| pool.close_idle());
    }

    /// Done when something is to be cut.
    pub async fn cut_due(&self) {
        match self.next_cut.get() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Ends what is still on hosts whose drain time is over, or outlives a certificate.
    pub fn cut(&self, now: Instant) {
        let pools = self.by_host.borrow();
        pools.values().for_each(|pool| pool.cut(now));
        drop(pools);
        self.plan_cut();
    }

    fn plan_cut(&self) {
        let pools = self.by_host.borrow();
        self.next_cut
            .set(pools.values().filter_map(|pool| pool.next_cut()).min());
    }

    /// A place among those that use `host`, for a connection of their own of this vintage, that may stay
    /// so long.
    pub fn user(
        &self,
        config: &Arc<config::Cluster>,
        cluster: &ClusterHandle,
        host: &Arc<Host>,
        (vintage, tenure): (Vintage, Tenure),
    ) -> DrainGuard {
        let pool = self.of(config, cluster, host, (None, Priority::Default));
        let guard = pool.users(vintage, tenure).guard();
        // Of this pool alone: to look at all of them for each stream would be much.
        let planned = self.next_cut.get();
        self.next_cut
            .set([planned, pool.next_cut()].into_iter().flatten().min());
        guard
    }

    /// Asks for the end of a connection of one's own when `host` is found unfit, if the cluster wants
    /// that.
    pub fn unfit(
        &self,
        config: &Arc<config::Cluster>,
        cluster: &ClusterHandle,
        host: &Arc<Host>,
    ) -> Option<DrainGuard> {
        let whose = (None, Priority::Default);
        let is_wanted = config.health.closes_streams;
        is_wanted.then(|| self.of(config, cluster, host, whose).unfit())
    }

    /// Done when somebody waits for a connection, of whatever cluster.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Closes connections that nobody uses and others wait for.
    pub fn give_up(&self) {
        self.by_host
            .borrow()
            .values()
            .for_each(|pool| pool.give_up());
    }

    /// Where this worker counts for `host`.
    pub fn counts(
        &self,
        config: &Arc<config::Cluster>,
        cluster: &ClusterHandle,
        host: &Arc<Host>,
    ) -> Arc<HostCounts> {
        let whose = (None, Priority::Default);
        Arc::clone(&self.of(config, cluster, host, whose).counts)
    }

    fn of(
        &self,
        config: &Arc<config::Cluster>,
        cluster: &ClusterHandle,
        host: &Arc<Host>,
        (request_host, priority): (Option<Rc<str>>, Priority),
    ) -> Rc<HostPool> {
        let key = (host.id, request_host.clone(), priority);
        if let Some(pool) = self.by_host.borrow().get(&key) {
            return Rc::clone(pool);
        }
        // A worker counts once for a host, whatever the requests ask for.
        let counts = match (&request_host, priority) {
            (None, Priority::Default) => host.new_counts(),
            _ => self.counts(config, cluster, host),
        };
        let breakers = cluster.breakers();
        breakers.join(worker::current().unwrap_or(0), &self.asked);
        let is_named = request_host.is_some();
        let towards = (Arc::clone(host), self.servers.clone());
        let counts = (counts, Arc::clone(&self.loads));
        let whose = (request_host, priority);
        let pool = HostPool::new(Arc::clone(config), cluster, towards, counts, whose);
        let pool = Rc::new(pool);
        let mut pools = self.by_host.borrow_mut();
        if !is_named || pools.len() < REQUEST_HOSTS_MAX {
            pools.insert(key, Rc::clone(&pool));
        }
        pool
    }
}
