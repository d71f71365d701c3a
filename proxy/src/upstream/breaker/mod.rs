//! How much may be on its way to a cluster at once: `Cluster.circuit_breakers`, exact for the whole
//! process.
//!
//! The counts belong to the cluster's stable cell and outlive every change of its configuration. What
//! is inside holds a permit, and dropping it lets it out.
//!
//! | file | holds |
//! |---|---|
//! | `gate` | a count with a limit |
//! | `permit` | a place inside, given back when dropped |

mod gate;
mod permit;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::CircuitBreakers;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::Thresholds;
use crate::telemetry::stats::ClusterStats;
use gate::Gate;
pub use permit::RetryPermit;

/// The limits of one cluster with what is inside.
#[derive(Debug)]
pub struct Breakers {
    config: ArcSwap<CircuitBreakers>,
    stats: Arc<ClusterStats>,
    default: Gates,
    high: Gates,
}

/// Those of one priority.
#[derive(Debug)]
struct Gates {
    pending: Gate,
    requests: Gate,
    retries: Gate,
}

impl Gates {
    fn new(limits: &Thresholds) -> Self {
        Self {
            pending: Gate::new(limits.pending_max),
            requests: Gate::new(limits.requests_max),
            retries: Gate::new(limits.retries_max),
        }
    }

    fn configure(&self, limits: &Thresholds) {
        self.pending.set_max(limits.pending_max);
        self.requests.set_max(limits.requests_max);
        self.retries.set_max(limits.retries_max);
    }

    /// What a retry budget is a share of.
    fn active(&self) -> u64 {
        u64::from(self.requests.inside()) + u64::from(self.pending.inside())
    }
}

impl Breakers {
    /// With nothing inside.
    pub fn new(config: CircuitBreakers, stats: Arc<ClusterStats>) -> Self {
        Self {
            default: Gates::new(&config.default),
            high: Gates::new(&config.high),
            config: ArcSwap::from_pointee(config),
            stats,
        }
    }

    /// Other limits from now on; what is inside stays and counts.
    pub(super) fn configure(&self, config: CircuitBreakers) {
        if **self.config.load() == config {
            return;
        }
        self.config.store(Arc::new(config));
        self.default.configure(&config.default);
        self.high.configure(&config.high);
    }

    /// One more retry, from the decision until its response begins or it fails; none if there are too
    /// many, which is counted.
    pub fn try_retry(self: &Arc<Self>, priority: Priority) -> Option<RetryPermit> {
        let gates = self.of(priority);
        let budget = self.config.load().of(priority).retry_budget;
        let entered = match budget {
            None => gates.retries.enter(),
            Some(budget) => gates
                .retries
                .enter_below(budget.retries_max(gates.active())),
        };
        if !entered {
            self.stats.upstream_rq_retry_overflow().inc();
            return None;
        }
        Some(RetryPermit::new(Arc::clone(self), priority))
    }

    const fn of(&self, priority: Priority) -> &Gates {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::circuit_breakers::RetryBudget;
    use crate::telemetry::stats::Registry;

    fn breakers(default: Thresholds) -> Arc<Breakers> {
        let config = CircuitBreakers {
            default,
            ..CircuitBreakers::default()
        };
        let stats = Registry::new(1).cluster("c");
        Arc::new(Breakers::new(config, stats))
    }

    #[test]
    fn retries_are_limited_by_priority_and_given_back() {
        let breakers = breakers(Thresholds {
            retries_max: 1,
            ..Thresholds::default()
        });
        let first = breakers.try_retry(Priority::Default);
        assert!(first.is_some() && breakers.try_retry(Priority::Default).is_none());
        let high: Vec<_> = (0..4).map(|_| breakers.try_retry(Priority::High)).collect();
        assert_eq!(high.iter().flatten().count(), 3, "a limit of its own");
        drop(first);
        assert!(breakers.try_retry(Priority::Default).is_some());
    }

    #[test]
    fn a_budget_is_a_share_of_requests_and_those_that_wait() {
        let budget = RetryBudget {
            percent: 50.0,
            retries_min: 1,
        };
        let breakers = breakers(Thresholds {
            retry_budget: Some(budget),
            retries_max: 0,
            ..Thresholds::default()
        });
        let count = || {
            let permits = std::iter::from_fn(|| breakers.try_retry(Priority::Default));
            let mut held = Vec::new();
            held.extend(permits.take(100)); // all at once
            held.len()
        };
        assert_eq!(count(), 1);
        for _ in 0..3 {
            assert!(breakers.default.requests.enter() && breakers.default.pending.enter());
        }
        assert_eq!(count(), 3);
    }

    #[test]
    fn a_change_of_limits_keeps_the_counts() {
        let breakers = breakers(Thresholds::default());
        let all: Vec<_> = (0..3)
            .map(|_| breakers.try_retry(Priority::Default))
            .collect();
        assert!(all.iter().all(Option::is_some));
        let mut config = CircuitBreakers::default();
        config.default.retries_max = 4;
        breakers.configure(config);
        let fourth = breakers.try_retry(Priority::Default);
        assert!(fourth.is_some() && breakers.try_retry(Priority::Default).is_none());
    }
}
