//! The breakers of members, which go with that of their cluster.

use std::sync::Arc;

use crate::upstream::Host;
use crate::upstream::breaker::outcome::Breaker;

impl Breaker {
    /// A member's, if members have their own.
    #[inline]
    pub fn of_host(&self, host: &Host) -> Option<Arc<Self>> {
        let has_own = self.config().per_host;
        has_own.then(|| self.own_of(host))
    }

    /// One of other settings, or of another time, is made anew.
    fn own_of(&self, host: &Host) -> Arc<Self> {
        let is_ours = |breaker: &Arc<Self>| breaker.goes_with(self);
        let known = host.breaker.load();
        if let Some(breaker) = known.as_ref().filter(|breaker| is_ours(breaker)) {
            return Arc::clone(breaker);
        }
        let new = Arc::new(self.of_member());
        let before = (host.breaker).compare_and_swap(&known, Some(Arc::clone(&new)));
        let quicker = before.as_ref().filter(|breaker| is_ours(breaker));
        quicker.map_or(new, Arc::clone)
    }
}
