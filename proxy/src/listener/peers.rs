//! Clients of a worker that were let in for their certificates: one whose certificate ends, or is
//! trusted no more, is asked to finish.
//!
//! Each has a drain signal of its own, so that it can go alone. Verifying all of a chain again takes
//! long enough to be done a client at a time between other work.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::listener::ActiveChain;
use crate::net::tls::Facts;
use crate::worker::WorkerContext;

/// Those of one worker, by chain.
#[derive(Debug, Default)]
pub struct Peers(RefCell<HashMap<u64, Vec<Peer>>>);

#[derive(Debug)]
struct Peer {
    facts: Arc<Facts>,
    /// Seconds since 1970.
    end: i64,
    signal: DrainSignal,
}

impl Peers {
    /// A client of this chain that was verified; none if nothing of it can change.
    pub(super) fn enter(&self, chain: &ActiveChain, facts: &Arc<Facts>) -> Option<DrainGuard> {
        let peer = facts.peer.as_ref().filter(|_| facts.is_validated)?;
        let end = if chain.transport.allows_expired() {
            i64::MAX
        } else {
            peer.end()
        };
        let signal = DrainSignal::default();
        let guard = signal.guard();
        self.0.borrow_mut().entry(chain.id).or_default().push(Peer {
            facts: Arc::clone(facts),
            end,
            signal,
        });
        Some(guard)
    }

    /// The chain is gone.
    pub fn drain_chain(&self, id: u64) {
        let gone = self.0.borrow_mut().remove(&id);
        for peer in gone.into_iter().flatten() {
            peer.signal.start();
        }
    }

    /// The worker stops.
    pub fn drain_all(&self) {
        for peer in self.0.borrow().values().flatten() {
            peer.signal.start();
        }
    }

    /// Asks those to finish whose certificate has ended, and forgets those that are gone.
    pub fn housekeep(&self) {
        let mut chains = self.0.borrow_mut();
        if chains.is_empty() {
            return; // the usual case, without a look at the clock
        }
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        chains.retain(|_, peers| {
            peers.retain(|peer| peer.signal.alive() > 0);
            for peer in peers.iter().filter(|peer| peer.end < now) {
                peer.signal.start();
            }
            !peers.is_empty()
        });
    }

    fn of(&self, chain: u64) -> Vec<(Arc<Facts>, DrainSignal)> {
        let chains = self.0.borrow();
        let peers = chains.get(&chain).into_iter().flatten();
        peers
            .map(|peer| (Arc::clone(&peer.facts), peer.signal.clone()))
            .collect()
    }
}

/// Whom we trust has changed: asks those to finish who would not be let in now.
pub async fn verify_again(worker: Rc<WorkerContext>, chain: Arc<ActiveChain>) {
    for (facts, signal) in worker.peers.of(chain.id) {
        if signal.alive() > 0 && !chain.transport.trusts(&facts) {
            tracing::info!(chain = %chain.config.name, "a client is no longer trusted, it is asked to go");
            signal.start();
        }
        tokio::task::yield_now().await; // each takes as long as many requests
    }
}
