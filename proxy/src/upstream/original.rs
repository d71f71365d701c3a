//! Members of `ORIGINAL_DST` clusters: the address the client wanted, before it was redirected to us.
//!
//! Each worker has its own, by cluster and address, so that connections to them can be pooled. One
//! that nobody asked for in a while is forgotten with its idle connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::config::Name;
use crate::config::endpoint::Address;
use crate::upstream::Host;
use crate::upstream::transport::Transport;

/// Hosts kept per worker: clients choose the addresses, so they must not choose how many.
const HOSTS_MAX: usize = 4096;

/// Forgotten when unused for this long: Envoy's default of `cleanup_interval` is 5 s, which would
/// close connections between two requests of an ordinary client.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// A worker's hosts.
#[derive(Debug, Default)]
pub(super) struct OriginalHosts(RefCell<HashMap<(Name, SocketAddr), Used, RandomState>>);

#[derive(Debug)]
struct Used {
    host: Arc<Host>,
    at: Instant,
}

impl OriginalHosts {
    /// The host at this address, reached through this transport.
    pub(super) fn of(
        &self,
        cluster: &Name,
        address: SocketAddr,
        transport: &Arc<Transport>,
    ) -> Arc<Host> {
        let now = Instant::now();
        let key = (Arc::clone(cluster), address);
        let mut hosts = self.0.borrow_mut();
        if let Some(used) = hosts.get_mut(&key) {
            if Arc::ptr_eq(&used.host.transport, transport) {
                used.at = now;
                return Arc::clone(&used.host);
            }
            used.host.mark_removed(); // of another configuration
            hosts.remove(&key);
        }
        let transport = Arc::clone(transport);
        let host = Arc::new(Host::new(Address::Socket(address), "".into(), transport));
        if hosts.len() >= HOSTS_MAX {
            host.mark_removed(); // for this connection only
            return host;
        }
        let used = Used {
            host: Arc::clone(&host),
            at: now,
        };
        hosts.insert(key, used);
        host
    }

    /// Forgets what is not used.
    pub(super) fn housekeep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, used| {
            let keep = now.saturating_duration_since(used.at) < UNUSED_MAX;
            if !keep {
                used.host.mark_removed();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hosts_are_kept_while_they_are_used_and_never_too_many() {
        let hosts = OriginalHosts::default();
        let plain = Arc::default();
        let of = |port| hosts.of(&"c".into(), ([10, 0, 0, 1], port).into(), &plain);
        let host = of(1);
        assert_eq!(of(1).id, host.id);
        let other = hosts.of(&"d".into(), ([10, 0, 0, 1], 1).into(), &plain);
        assert_ne!(other.id, host.id);
        tokio::time::advance(UNUSED_MAX).await;
        hosts.housekeep(Instant::now());
        assert!(host.is_removed());
        let changed = hosts.of(&"d".into(), ([10, 0, 0, 1], 1).into(), &Arc::default());
        assert!(other.is_removed(), "its transport is another now");
        assert!(!changed.is_removed());
        for port in 1..=5000 {
            of(port);
        }
        assert_eq!(hosts.0.borrow().len(), HOSTS_MAX);
        assert!(of(5001).is_removed());
    }
}
