//! Servers of a worker that connections over TLS lead to: a connection is asked to finish when the
//! server's certificate ends or is trusted no more, and when the certificate ends that we showed.
//!
//! The other side of `listener::peers`, with which it shares the manner. A pool itself gives out no
//! connection that is too old; what is here are streams of TCP, and HTTP/2 connections whose streams
//! go on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::net::tls::Facts;
use crate::upstream::Host;
use crate::upstream::transport::Transport;

/// Those of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers(Rc<RefCell<Vec<Server>>>);

#[derive(Debug)]
struct Server {
    host: Arc<Host>,
    facts: Arc<Facts>,
    /// Seconds since 1970.
    end: i64,
    signal: DrainSignal,
}

impl Servers {
    /// A new connection to this host; none without TLS.
    pub(crate) fn enter(&self, host: &Arc<Host>, facts: Option<&Arc<Facts>>) -> Option<DrainGuard> {
        let facts = facts?;
        let peer = facts.peer.as_ref();
        let peer = peer.filter(|_| !host.transport.allows_expired());
        let signal = DrainSignal::default();
        let guard = signal.guard();
        self.0.borrow_mut().push(Server {
            host: Arc::clone(host),
            facts: Arc::clone(facts),
            end: peer
                .map_or(i64::MAX, |peer| peer.end())
                .min(facts.shown_until()),
            signal,
        });
        Some(guard)
    }

    /// Asks those to finish for whom a certificate has ended, and forgets those that are gone.
    pub(super) fn housekeep(&self) {
        let mut servers = self.0.borrow_mut();
        if servers.is_empty() {
            return; // often, and then without a look at the clock
        }
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        servers.retain(|server| server.signal.alive() > 0);
        for server in servers.iter().filter(|server| server.end < now) {
            server.signal.start();
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
        let servers = self.0.borrow();
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
