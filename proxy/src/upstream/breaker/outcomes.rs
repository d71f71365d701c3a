//! The breakers of a cluster and of its members, with the time they go by.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config::OutcomeBreaker;
use crate::upstream::Host;
use crate::upstream::breaker::outcome::Breaker;

/// What a cluster whose requests are watched has.
#[derive(Debug)]
pub struct Outcomes {
    /// Times of all breakers are since then.
    pub born: Instant,
    /// The cluster's.
    pub of_cluster: Arc<Breaker>,
}

impl Outcomes {
    /// Closed, with nothing known.
    pub fn new(config: &Arc<OutcomeBreaker>) -> Self {
        Self {
            born: Instant::now(),
            of_cluster: Arc::new(Breaker::new(Arc::clone(config))),
        }
    }

    /// A member's, if members have their own. One of other settings, or of another time, is made anew.
    pub fn of_host(&self, host: &Host) -> Option<Arc<Breaker>> {
        let config = self.of_cluster.config();
        if !config.per_host {
            return None;
        }
        let is_ours = |breaker: &Arc<Breaker>| Arc::ptr_eq(breaker.config(), config);
        let known = host.breaker.load();
        if let Some(breaker) = known.as_ref().filter(|breaker| is_ours(breaker)) {
            return Some(Arc::clone(breaker));
        }
        let new = Arc::new(Breaker::new(Arc::clone(config)));
        let before = (host.breaker).compare_and_swap(&known, Some(Arc::clone(&new)));
        let quicker = before.as_ref().filter(|breaker| is_ours(breaker));
        Some(quicker.map_or(new, Arc::clone))
    }
}
