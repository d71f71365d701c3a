//! How many connections may be open: places that are taken at the start of a connection and given back
//! at its end.
//!
//! Three budgets, one below the other: the process, the listener, the filter chain. The first two are
//! asked at accept, before anything is read; the last one once a chain is chosen.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::connection_limits::ConnectionLimit;
use crate::overload::held::OfListener;
use crate::telemetry::stats::ConnectionLimitStats;
use crate::telemetry::stats::GaugeGuard;

/// A number of places, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    taken: AtomicUsize,
}

/// A place, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Place(Arc<Budget>);

impl Budget {
    /// So many places.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            taken: AtomicUsize::new(0),
        }
    }

    /// A place, if there is one.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let place = self.take_anyway(); // given back at once if it is one too many
        (self.taken.load(Ordering::Relaxed) <= self.max).then_some(place)
    }

    /// A place, though there may be none.
    pub fn take_anyway(self: &Arc<Self>) -> Place {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those a new connection needs a place of.
#[derive(Clone, Debug)]
pub struct Budgets {
    /// Of its listener.
    pub listener: Arc<Budget>,
    /// Of the whole process.
    pub process: Arc<Budget>,
    /// What the listener's streams hold.
    pub held: Arc<OfListener>,
}

/// Which limit a connection is too many for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The listener's.
    Listener,
    /// The process's.
    Process,
}

impl Budgets {
    /// A place of each; the process's limit can be ignored, its count cannot.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&self, ignores_process: bool) -> Result<[Place; 2], Full> {
        let process = if ignores_process {
            self.process.take_anyway()
        } else {
            self.process.take().ok_or(Full::Process)?
        };
        let listener = self.listener.take().ok_or(Full::Listener)?;
        Ok([process, listener])
    }
}

/// A limit of a filter chain.
#[derive(Debug)]
pub struct ChainLimit {
    budget: Arc<Budget>,
    delay: Option<Duration>,
    stats: Arc<ConnectionLimitStats>,
}

/// A place in a filter chain, counted.
#[derive(Debug)]
pub struct ChainPlace {
    _place: Place,
    _counted: GaugeGuard<ConnectionLimitStats>,
}

impl ChainLimit {
    /// As configured.
    pub fn new(config: &ConnectionLimit, stats: Arc<ConnectionLimitStats>) -> Self {
        Self {
            budget: Arc::new(Budget::new(config.max)),
            delay: config.delay,
            stats,
        }
    }

    /// A place.
    ///
    /// # Errors
    /// There is none; the connection is to be held for so long before it is closed.
    pub fn take(&self) -> Result<ChainPlace, Option<Duration>> {
        let Some(place) = self.budget.take() else {
            self.stats.limited_connections().inc();
            return Err(self.delay);
        };
        let stats = Arc::clone(&self.stats);
        Ok(ChainPlace {
            _place: place,
            _counted: GaugeGuard::new(stats, ConnectionLimitStats::active_connections),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let budget = Arc::new(Budget::new(2));
        let (first, second) = (budget.take(), budget.take());
        assert!(first.is_some() && second.is_some());
        assert!(budget.take().is_none());
        drop(first);
        let third = budget.take();
        assert!(third.is_some() && budget.take().is_none());
    }

    #[test]
    fn the_process_comes_first_and_counts_everyone() {
        let budgets = |listener, process| Budgets {
            listener: Arc::new(Budget::new(listener)),
            process: Arc::new(Budget::new(process)),
            held: Arc::default(),
        };
        let one = budgets(1, 2);
        let other = Budgets {
            listener: Arc::new(Budget::new(9)),
            ..one.clone()
        };
        let held = one.take(false).unwrap();
        assert_eq!(one.take(false).unwrap_err(), Full::Listener);
        let more = [other.take(false).unwrap(), other.take(true).unwrap()];
        assert_eq!(other.take(false).unwrap_err(), Full::Process);
        drop(held);
        assert_eq!(one.take(false).unwrap_err(), Full::Process);
        drop(more);
        assert!(one.take(false).is_ok());
    }

    #[test]
    fn a_chain_counts_whom_it_takes_and_whom_it_refuses() {
        let registry = crate::telemetry::stats::Registry::new(1);
        let config = ConnectionLimit {
            stat_prefix: "l".into(),
            max: 1,
            delay: Some(Duration::from_secs(1)),
        };
        let limit = ChainLimit::new(&config, registry.connection_limit("l"));
        let place = limit.take();
        assert!(place.is_ok());
        assert_eq!(limit.take().unwrap_err(), config.delay);
        drop(place);
        assert!(limit.take().is_ok());
    }
}
