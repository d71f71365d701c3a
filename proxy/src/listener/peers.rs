//! Clients of a worker over TLS: one is asked to finish before its certificate ends, or the one that it
//! was shown, has to be gone when it does, and is asked when it is trusted no more.
//!
//! One that was verified has a drain signal of its own, so that it can go alone; the others share one
//! with those that go at the same time. Verifying all of a chain again takes long enough to be done a
//! client at a time between other work.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::listener::ActiveChain;
use crate::net::tls::Facts;
use crate::net::tls::Tenure;
use crate::net::tls::unix_now;
use crate::worker::WorkerContext;

/// Those of one worker.
#[derive(Debug)]
pub struct Peers {
    /// Those that were verified, by chain.
    verified: RefCell<HashMap<u64, Vec<Peer>>>,
    /// The others, by chain and by the certificate that they were shown.
    shown: RefCell<HashMap<(u64, Tenure), DrainSignal>>,
    drain_time: Duration,
}

#[derive(Debug)]
struct Peer {
    facts: Arc<Facts>,
    tenure: Tenure,
    signal: DrainSignal,
}

impl Peers {
    /// There are none yet. One is asked to finish the drain time before it must.
    pub fn new(drain_time: Duration) -> Self {
        Self {
            verified: RefCell::default(),
            shown: RefCell::default(),
            drain_time,
        }
    }

    /// A client of this chain; none if nothing can change that it was let in for.
    pub(super) fn enter(&self, chain: &ActiveChain, facts: &Arc<Facts>) -> Option<DrainGuard> {
        if facts.peer.is_none() || !facts.is_validated {
            return self.enter_shown(chain.id, facts.shown_until());
        }
        let signal = DrainSignal::default();
        let guard = signal.guard();
        let mut verified = self.verified.borrow_mut();
        verified.entry(chain.id).or_default().push(Peer {
            facts: Arc::clone(facts),
            tenure: self.tenure(end(chain, facts)),
            signal,
        });
        Some(guard)
    }

    /// A client of this chain that is to go already; it has to be gone when a certificate ends all the same.
    pub(super) fn enter_late(&self, chain: &ActiveChain, facts: &Facts) -> DrainGuard {
        self.late(end(chain, facts))
    }

    fn late(&self, end: i64) -> DrainGuard {
        let signal = DrainSignal::default();
        self.tenure(end).ask(&signal);
        signal.guard()
    }

    fn enter_shown(&self, chain: u64, until: i64) -> Option<DrainGuard> {
        let tenure = self.tenure(until);
        let mut shown = self.shown.borrow_mut();
        (tenure != Tenure::FOREVER).then(|| shown.entry((chain, tenure)).or_default().guard())
    }

    fn tenure(&self, end: i64) -> Tenure {
        Tenure::until(end, unix_now(), self.drain_time)
    }

    /// The chain is gone.
    pub fn drain_chain(&self, id: u64) {
        let gone = self.verified.borrow_mut().remove(&id);
        for peer in gone.into_iter().flatten() {
            peer.tenure.ask(&peer.signal);
        }
        self.shown.borrow_mut().retain(|(chain, tenure), signal| {
            if *chain == id {
                tenure.ask(signal);
            }
            *chain != id
        });
    }

    /// The worker stops.
    pub fn drain_all(&self) {
        for peer in self.verified.borrow().values().flatten() {
            peer.tenure.ask(&peer.signal);
        }
        let shown = self.shown.borrow();
        shown
            .iter()
            .for_each(|((_, tenure), signal)| tenure.ask(signal));
    }

    /// Asks those to finish for whom a certificate ends, and forgets those that are gone.
    pub fn housekeep(&self) {
        let (mut chains, mut shown) = (self.verified.borrow_mut(), self.shown.borrow_mut());
        if chains.is_empty() && shown.is_empty() {
            return; // the usual case, without a look at the clock
        }
        let now = unix_now();
        chains.retain(|_, peers| {
            peers.retain(|peer| peer.signal.alive() > 0);
            for peer in peers.iter().filter(|peer| peer.tenure.is_over(now)) {
                peer.tenure.ask(&peer.signal);
            }
            !peers.is_empty()
        });
        shown.retain(|(_, tenure), signal| {
            if tenure.is_over(now) {
                tenure.ask(signal);
            }
            signal.alive() > 0
        });
    }

    fn of(&self, chain: u64) -> Vec<(Arc<Facts>, DrainSignal, Tenure)> {
        let chains = self.verified.borrow();
        let peers = chains.get(&chain).into_iter().flatten();
        peers
            .map(|peer| (Arc::clone(&peer.facts), peer.signal.clone(), peer.tenure))
            .collect()
    }
}

/// When the first of the certificates ends that a client of this chain stands on.
fn end(chain: &ActiveChain, facts: &Facts) -> i64 {
    let peer = facts.peer.as_ref().filter(|_| facts.is_validated);
    let peer = peer.filter(|_| !chain.transport.allows_expired());
    peer.map_or(i64::MAX, |peer| peer.end())
        .min(facts.shown_until())
}

/// Whom we trust has changed: asks those to finish who would not be let in now.
pub async fn verify_again(worker: Rc<WorkerContext>, chain: Arc<ActiveChain>) {
    for (facts, signal, tenure) in worker.peers.of(chain.id) {
        if signal.alive() > 0 && !chain.transport.trusts(&facts) {
            tracing::info!(chain = %chain.config.name, "a client is no longer trusted, it is asked to go");
            tenure.ask(&signal);
        }
        tokio::task::yield_now().await; // each takes as long as many requests
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn who_is_to_go_already_knows_when_it_has_to_be_gone() {
        let peers = Peers::new(Duration::from_secs(600));
        let guard = peers.late(unix_now() + 60);
        assert!(guard.is_draining());
        let left = guard.deadline().map(|at| at - Instant::now());
        assert!(
            left.is_some_and(
                |left| left > Duration::from_secs(50) && left <= Duration::from_secs(60)
            ),
            "{left:?}"
        );
        let guard = peers.late(i64::MAX);
        assert!(guard.is_draining() && guard.deadline().is_none());
    }
}
