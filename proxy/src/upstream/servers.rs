//! Servers of a worker that connections over TLS lead to: a connection is asked to finish before the
//! server's certificate ends, or the one that we showed, and when the server is trusted no more.
//!
//! The other side of `listener::peers`, with which it shares the manner. A pool itself gives out no
//! connection that is too old, and cuts who uses one; what is here are streams of TCP, and connections
//! that have become something else or whose streams go on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::net::tls::Facts;
use crate::net::tls::Tenure;
use crate::net::tls::unix_now;
use crate::upstream::Host;
use crate::upstream::transport::Transport;

/// Those of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    all: Rc<RefCell<Vec<Server>>>,
    drain_time: Duration,
}

#[derive(Debug)]
struct Server {
    host: Arc<Host>,
    facts: Arc<Facts>,
    tenure: Tenure,
    signal: DrainSignal,
}

impl Servers {
    /// There are none yet. A connection is asked to finish the drain time before it must.
    pub(super) fn new(drain_time: Duration) -> Self {
        Self {
            all: Rc::default(),
            drain_time,
        }
    }

    /// How long a new connection to this host may tenure.
    pub(crate) fn tenure(&self, host: &Host, facts: Option<&Arc<Facts>>) -> Tenure {
        let Some(facts) = facts else {
            return Tenure::FOREVER;
        };
        let peer = facts.peer.as_ref();
        let peer = peer.filter(|_| !host.transport.allows_expired());
        let end = peer.map_or(i64::MAX, |peer| peer.end());
        Tenure::until(end.min(facts.shown_until()), unix_now(), self.drain_time)
    }

    /// A new connection to this host, and how long it may stay; none without TLS.
    pub(crate) fn enter(
        &self,
        host: &Arc<Host>,
        facts: Option<&Arc<Facts>>,
        tenure: Tenure,
    ) -> Option<DrainGuard> {
        let facts = facts?;
        let signal = DrainSignal::default();
        let guard = signal.guard();
        self.all.borrow_mut().push(Server {
            host: Arc::clone(host),
            facts: Arc::clone(facts),
            tenure,
            signal,
        });
        Some(guard)
    }

    /// Asks those to finish for whom a certificate ends, and forgets those that are gone.
    pub(super) fn housekeep(&self) {
        let mut servers = self.all.borrow_mut();
        if servers.is_empty() {
            return; // often, and then without a look at the clock
        }
        let now = unix_now();
        servers.retain(|server| server.signal.alive() > 0);
        for server in servers.iter().filter(|server| server.tenure.is_over(now)) {
            server.tenure.ask(&server.signal);
        }
    }

    /// Whom this transport trusts has changed: asks connections to finish that would not be made now.
    pub(crate) async fn verify_again(self, transport: Arc<Transport>) {
        for (host, facts, signal) in self.over(&transport) {
            if signal.alive() > 0 && !transport.trusts(&facts, &host.address) {
                tracing::info!(host = ?host.address, "a server is no longer trusted, connections to it are to end");
                signal.start();
            }
            tokio::task::yield_now().await; // each takes as long as many requests
        }
    }

    fn over(&self, transport: &Arc<Transport>) -> Vec<(Arc<Host>, Arc<Facts>, DrainSignal)> {
        let servers = self.all.borrow();
        let same = servers
            .iter()
            .filter(|server| Arc::ptr_eq(&server.host.transport, transport));
        same.map(|server| {
            let (host, facts) = (Arc::clone(&server.host), Arc::clone(&server.facts));
            (host, facts, server.signal.clone())
        })
        .collect()
    }
}
