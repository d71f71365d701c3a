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

mod host_pool;
mod lease;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::config;
use crate::config::cluster::Discovery;
use crate::downstream::Downstream;
use crate::drain::DrainGuard;
use crate::http::codec::Protocol;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::original::OriginalHosts;
use crate::upstream::servers::Servers;
use host_pool::HostPool;
pub use lease::Http1Lease;
pub use lease::Http2Lease;
pub use lease::Lease;

/// Pools for hosts of requests: clients choose them, so they must not choose how many. What is beyond
/// gets connections that are used once.
const REQUEST_HOSTS_MAX: usize = 1024;

/// The id of a host, and the host of the request if it makes a difference to TLS.
type Key = (u64, Option<Rc<str>>);

/// What a connection must be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is spoken; ALPN decides if it is left open.
    pub protocol: Option<Protocol>,
    /// The host of the request, if it makes a difference to TLS.
    pub request_host: Option<Rc<str>>,
}

/// All upstream connections of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    by_host: RefCell<HashMap<Key, Rc<HostPool>, RandomState>>,
    originals: OriginalHosts,
    /// When what is still on a host that left is cut next.
    next_cut: Cell<Option<Instant>>,
    /// Those whose certificates connections stand on.
    pub(crate) servers: Servers,
}

impl Pools {
    /// The member for a client, with the configuration that goes with it; `hash` is the request's, if
    /// it has one.
    pub fn pick(
        &self,
        cluster: &ClusterHandle,
        client: &Downstream,
        hash: Option<u64>,
    ) -> (Arc<config::Cluster>, Option<Arc<Host>>) {
        let (config, host) = cluster.pick(hash);
        if config.discovery != Discovery::OriginalDst {
            return (config, host);
        }
        let wanted = client.local.filter(|_| client.found().local_is_restored);
        let transport = || Arc::clone(cluster.load().transports.usual());
        let host = wanted.map(|address| self.originals.of(&config.name, address, &transport()));
        (config, host)
    }

    /// An open connection to `host` that is what is wanted and has room.
    pub fn idle(&self, host: &Host, wanted: &Wanted) -> Option<Lease> {
        let pools = self.by_host.borrow();
        let pool = pools.get(&(host.id, wanted.request_host.clone()))?;
        let http1 = || HostPool::idle_http1(pool).map(Lease::Http1);
        let http2 = || pool.free_stream(true).map(Lease::Http2);
        match wanted.protocol {
            Some(Protocol::Http1) => http1(),
            Some(Protocol::Http2) => http2(),
            None => http2().or_else(http1),
        }
    }

    /// A new connection to `host`. For HTTP/2 somebody else may just have made one with room; then
    /// it is that one.
    ///
    /// # Errors
    /// No connection could be made in time.
    ///
    /// # Cancel safety
    /// A connection being made is dropped.
    pub async fn connect(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
        (wanted, client): (Wanted, &Downstream),
    ) -> Result<Lease, ConnectFailure> {
        let protocol = wanted.protocol;
        let pool = self.of(config, stats, host, wanted.request_host);
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
    }

    /// Hosts may have left: what does nothing on them is closed at once.
    pub fn follow_hosts(&self) {
        self.by_host
            .borrow()
            .values()
            .for_each(|pool| pool.follow_host());
        self.plan_cut();
    }

    /// Done when what is still on a host that left is to be cut.
    pub async fn cut_due(&self) {
        match self.next_cut.get() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Ends what is still on hosts whose drain time is over.
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

    /// A place among those that use `host`, for a connection of their own.
    pub fn user(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
    ) -> DrainGuard {
        self.of(config, stats, host, None).user()
    }

    /// Where this worker counts for `host`.
    pub fn counts(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
    ) -> Arc<HostCounts> {
        Arc::clone(&self.of(config, stats, host, None).counts)
    }

    fn of(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
        request_host: Option<Rc<str>>,
    ) -> Rc<HostPool> {
        let key = (host.id, request_host.clone());
        if let Some(pool) = self.by_host.borrow().get(&key) {
            return Rc::clone(pool);
        }
        // A worker counts once for a host, whatever the requests ask for.
        let counts = match request_host {
            Some(_) => self.counts(config, stats, host),
            None => host.new_counts(),
        };
        let is_named = request_host.is_some();
        let (config, stats) = (Arc::clone(config), Arc::clone(stats));
        let whose = (Arc::clone(host), self.servers.clone());
        let pool = HostPool::new(config, stats, whose, counts, request_host);
        let pool = Rc::new(pool);
        let mut pools = self.by_host.borrow_mut();
        if !is_named || pools.len() < REQUEST_HOSTS_MAX {
            pools.insert(key, Rc::clone(&pool));
        }
        pool
    }
}
