//! Clients of a worker over TLS: one is asked to finish when its certificate ends or is trusted no
//! more, and when the certificate ends that it was shown.
//!
//! One that was verified has a drain signal of its own, so that it can go alone; the others share one
//! with those that go at the same time. Verifying all of a chain again takes long enough to be done a
//! client at a time between other work.

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

/// Those of one worker.
#[derive(Debug, Default)]
pub struct Peers {
    /// Those that were verified, by chain.
    verified: RefCell<HashMap<u64, Vec<Peer>>>,
    /// The others, by chain and by when the certificate ends that they were shown.
    shown: RefCell<HashMap<(u64, i64), DrainSignal>>,
}

#[derive(Debug)]
struct Peer {
    facts: Arc<Facts>,
    /// Seconds since 1970.
    end: i64,
    signal: DrainSignal,
}

impl Peers {
    /// A client of this chain; none if nothing can change that it was let in for.
    pub(super) fn enter(&self, chain: &ActiveChain, facts: &Arc<Facts>) -> Option<DrainGuard> {
        let shown_until = facts.shown_until();
        let Some(peer) = facts.peer.as_ref().filter(|_| facts.is_validated) else {
            return self.enter_shown(chain.id, shown_until);
        };
        let end = if chain.transport.allows_expired() {
            i64::MAX
        } else {
            peer.end()
        };
        let signal = DrainSignal::default();
        let guard = signal.guard();
        let mut verified = self.verified.borrow_mut();
        verified.entry(chain.id).or_default().push(Peer {
            facts: Arc::clone(facts),
            end: end.min(shown_until),
            signal,
        });
        Some(guard)
    }

    fn enter_shown(&self, chain: u64, until: i64) -> Option<DrainGuard> {
        if until == i64::MAX {
            return None;
        }
        let mut shown = self.shown.borrow_mut();
        Some(shown.entry((chain, until)).or_default().guard())
    }

    /// The chain is gone.
    pub fn drain_chain(&self, id: u64) {
        let gone = self.verified.borrow_mut().remove(&id);
        for peer in gone.into_iter().flatten() {
            peer.signal.start();
        }
        self.shown.borrow_mut().retain(|(chain, _), signal| {
            if *chain == id {
                signal.start();
            }
            *chain != id
        });
    }

    /// The worker stops.
    pub fn drain_all(&self) {
        for peer in self.verified.borrow().values().flatten() {
            peer.signal.start();
        }
        self.shown
            .borrow()
            .values()
            .for_each(|signal| signal.start());
    }

    /// Asks those to finish for whom a certificate has ended, and forgets those that are gone.
    pub fn housekeep(&self) {
        let (mut chains, mut shown) = (self.verified.borrow_mut(), self.shown.borrow_mut());
        if chains.is_empty() && shown.is_empty() {
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
        shown.retain(|(_, until), signal| {
            if *until < now {
                signal.start();
            }
            signal.alive() > 0
        });
    }

    fn of(&self, chain: u64) -> Vec<(Arc<Facts>, DrainSignal)> {
        let chains = self.verified.borrow();
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
