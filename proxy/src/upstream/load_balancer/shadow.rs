//! A balancer that looks on: asked at each pick, and nothing follows from its choice.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Asked;
use super::Factors;
use super::Ingredients;
use super::LoadBalancer;
use crate::config::load_balancing::LoadBalancing;
use crate::telemetry::stats::worker;
use crate::upstream::host::Member;

/// Workers with a place of their own in the round; more share.
const CURSORS: usize = 16;

/// A cursor that was not used yet.
const UNUSED: u64 = u64::MAX;

/// The balancer, over the same members.
#[derive(Debug)]
pub(in crate::upstream) struct Shadow {
    balancer: LoadBalancer,
    cursors: Box<[Cursor]>,
}

/// Alone on its cache lines. Workers that share one may lose a step of it.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU64);

impl Shadow {
    pub(in crate::upstream) fn new(config: &LoadBalancing, of: Ingredients<'_>) -> Self {
        let cursors = (0..CURSORS).map(|_| Cursor(AtomicU64::new(UNUSED)));
        Self {
            balancer: LoadBalancer::new(Ingredients {
                config,
                stats: None, // nothing follows from its choices
                ..of
            }),
            cursors: cursors.collect(),
        }
    }

    /// `chosen` was, with this random number and for this request, from this place in the round. The
    /// shadow begins at the same one, so that the same policy chooses the same.
    pub(in crate::upstream) fn look(
        &self,
        members: &[Member],
        chosen: usize,
        cursor: u64,
        (random, asked): (u64, Asked<'_>),
    ) {
        let worker = worker::current().unwrap_or(0) % CURSORS;
        let Some(Cursor(own)) = self.cursors.get(worker) else {
            return;
        };
        let mut place = match own.load(Ordering::Relaxed) {
            UNUSED => cursor,
            place => place,
        };
        let would = self.balancer.pick_for(&mut place, random, asked);
        own.store(place, Ordering::Relaxed);
        if let Some(member) = members.get(chosen) {
            member.host.looked().chose(would == Some(chosen));
        }
        if let Some(member) = would.and_then(|would| members.get(would)) {
            member.host.looked().would_choose();
        }
    }

    pub(in crate::upstream) fn set_factors(&self, factors: &Factors) {
        self.balancer.set_factors(factors);
    }
}
