//! How much may be on its way to a cluster at once (`Cluster.circuit_breakers`).

use std::time::Duration;

/// Which limits a request counts against (`RoutingPriority`); its route says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// What nothing else was said of.
    #[default]
    Default,
    /// Limits of its own, so that what matters goes on when the rest does not.
    High,
}

impl Priority {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Default, Self::High];

    /// As in names of statistics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::High => "high",
        }
    }
}

/// The limits of a cluster, exact for the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CircuitBreakers {
    /// Of ordinary requests.
    pub default: Thresholds,
    /// Of requests of high priority.
    pub high: Thresholds,
}

impl CircuitBreakers {
    /// Those of one priority.
    #[must_use]
    pub const fn of(&self, priority: Priority) -> &Thresholds {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

/// The limits of one priority; the defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Connections to all members.
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests in progress.
    pub requests_max: u32,
    /// Retries in progress, unless there is a budget.
    pub retries_max: u32,
    /// Retries by the share of what is going on, instead of `retries_max`.
    pub retry_budget: Option<RetryBudget>,
    /// Connections to each member; none is no limit beside that of the cluster.
    pub host_connections_max: Option<u32>,
    /// Show how far away the limits are.
    pub tracks_remaining: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            pending_max: 1024,
            requests_max: 1024,
            retries_max: 3,
            retry_budget: None,
            host_connections_max: None,
            tracks_remaining: false,
        }
    }
}

/// `Thresholds.RetryBudget`; the defaults are Envoy's.
///
/// What is in progress includes the retries, as in Envoy: with b percent they add up to b / (100 - b) to the
/// requests themselves. 20 % lets a quarter more through, 50 % twice as many, 100 % any number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries for every hundred requests that are in progress or wait, 0 to 100.
    pub percent: f64,
    /// So many may always be.
    pub retries_min: u32,
    /// The share is one of the requests that began so long ago or later, retries included, whether they are
    /// in progress or not; as with Envoy those that began before do not count then.
    pub window: Option<Duration>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20.0,
            retries_min: 3,
            window: None,
        }
    }
}

impl RetryBudget {
    /// Retries that may be while so many requests are in progress or wait, or began within the window;
    /// rounded down, as with Envoy.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 and the number of requests, which saturates"
    )]
    pub fn retries_max(&self, requests: u64) -> u32 {
        let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
        let share = (self.percent / 100.0 * requests) as u32;
        share.max(self.retries_min)
    }
}

#[cfg(test)]
mod tests {
    use super::RetryBudget;

    #[test]
    fn a_budget_follows_what_is_going_on() {
        let budget = RetryBudget::default();
        let table = [(0, 3), (10, 3), (19, 3), (20, 4), (24, 4), (1000, 200)];
        for (requests, retries) in table {
            assert_eq!(budget.retries_max(requests), retries, "{requests}");
        }
        let all = RetryBudget {
            percent: 100.0,
            retries_min: 0,
            window: None,
        };
        assert_eq!(all.retries_max(u64::MAX), u32::MAX);
        assert_eq!(all.retries_max(0), 0);
    }
}
