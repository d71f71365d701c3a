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

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::config;
use crate::config::cluster::Discovery;
use crate::downstream::Downstream;
use crate::error::ProxyError;
use crate::http::codec::Protocol;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::original::OriginalHosts;
use host_pool::HostPool;
pub use lease::Http1Lease;
pub use lease::Http2Lease;
pub use lease::Lease;

/// All upstream connections of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    by_host: RefCell<HashMap<u64, Rc<HostPool>, RandomState>>,
    originals: OriginalHosts,
}

impl Pools {
    /// The member for a client, with the configuration that goes with it.
    pub fn pick(
        &self,
        cluster: &ClusterHandle,
        client: &Downstream,
    ) -> (Arc<config::Cluster>, Option<Arc<Host>>) {
        let (config, host) = cluster.pick();
        if config.discovery != Discovery::OriginalDst {
            return (config, host);
        }
        let wanted = client.local.filter(|_| client.found().local_is_restored);
        let transport = || Arc::clone(cluster.load().transports.usual());
        let host = wanted.map(|address| self.originals.of(&config.name, address, &transport()));
        (config, host)
    }

    /// An open connection to `host` that speaks `protocol` and has room.
    pub fn idle(&self, host: &Host, protocol: Protocol) -> Option<Lease> {
        let pools = self.by_host.borrow();
        let pool = pools.get(&host.id)?;
        match protocol {
            Protocol::Http1 => HostPool::idle_http1(pool).map(Lease::Http1),
            Protocol::Http2 => pool.free_stream(true).map(Lease::Http2),
        }
    }

    /// A new connection to `host` that speaks `protocol`. For HTTP/2 somebody else may just have
    /// made one with room; then it is that one.
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
        (protocol, client): (Protocol, &Downstream),
    ) -> Result<Lease, ProxyError> {
        let pool = self.of(config, stats, host);
        match protocol {
            Protocol::Http1 => HostPool::connect_http1(&pool, client)
                .await
                .map(Lease::Http1),
            Protocol::Http2 => HostPool::http2(&pool).await.map(Lease::Http2),
        }
    }

    /// Closes what has been idle too long, and what belongs to hosts that are gone. Called about
    /// once a second by the worker.
    pub fn housekeep(&self, now: Instant) {
        self.originals.housekeep(now);
        self.by_host
            .borrow_mut()
            .retain(|_, pool| pool.housekeep(now));
    }

    /// Where this worker counts for `host`.
    pub fn counts(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
    ) -> Arc<HostCounts> {
        Arc::clone(&self.of(config, stats, host).counts)
    }

    fn of(
        &self,
        config: &Arc<config::Cluster>,
        stats: &Arc<ClusterStats>,
        host: &Arc<Host>,
    ) -> Rc<HostPool> {
        let mut pools = self.by_host.borrow_mut();
        let new = || {
            Rc::new(HostPool::new(
                Arc::clone(config),
                Arc::clone(stats),
                Arc::clone(host),
            ))
        };
        Rc::clone(pools.entry(host.id).or_insert_with(new))
    }
}
