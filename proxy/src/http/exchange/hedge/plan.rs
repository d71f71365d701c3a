//! When another attempt is made beside one.

use std::time::Duration;

use tokio::time::Instant;

/// What is asked for, and the limits of an attempt that go with it.
#[derive(Debug, Default)]
pub(in crate::http::exchange) struct Plan {
    /// An attempt that has taken its time goes on, and another one is made.
    pub(super) on_per_try_timeout: bool,
    /// To the head of the response.
    head: Option<Duration>,
    /// Without anything that moves.
    pub(super) idle: Option<Duration>,
}

/// Since when the time of an attempt is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) began: Instant,
    /// It has taken its time already.
    pub(super) is_timed: bool,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Idle,
    PerTry,
}

impl Plan {
    /// `head` and `idle` are the limits of an attempt.
    pub(in crate::http::exchange) fn new(
        on_per_try_timeout: bool,
        (head, idle): (Option<Duration>, Option<Duration>),
    ) -> Self {
        Self {
            on_per_try_timeout,
            head,
            idle,
        }
    }

    /// What passes next of an attempt that stands since then.
    pub(super) fn next_due(&self, since: Since) -> Option<(Instant, Limit)> {
        let head = self.head.filter(|_| !since.is_timed);
        let limits = [
            head.map(|head| (head, Limit::PerTry)),
            self.idle.map(|idle| (idle, Limit::Idle)),
        ];
        let next = limits.into_iter().flatten().min_by_key(|(after, _)| *after);
        next.map(|(after, limit)| (since.began + after, limit))
    }
}
