//! Closed, open, half-open: what a breaker is and what makes it another. No clock, no lock, no I/O.

use std::time::Duration;

use crate::config::outcome_breaker::OutcomeBreaker;
use crate::upstream::breaker::outcome::Counts;

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Too many requests failed.
    ErrorCount,
    /// Too large a share of them failed.
    ErrorPercent,
    /// A request that tried failed or was slow.
    Probe,
    /// Too large a share of them was slow.
    SlowRequests,
}

impl Cause {
    /// All, in the order of their numbers.
    pub(super) const ALL: [Self; 4] = [
        Self::ErrorCount,
        Self::ErrorPercent,
        Self::Probe,
        Self::SlowRequests,
    ];

    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ErrorCount => "error_count",
            Self::ErrorPercent => "error_percent",
            Self::Probe => "probe",
            Self::SlowRequests => "slow_requests",
        }
    }

    /// `%RESPONSE_CODE_DETAILS%` of a request that is refused.
    #[must_use]
    pub const fn details(self) -> &'static str {
        match self {
            Self::ErrorCount => "weir_breaker_open{error_count}",
            Self::ErrorPercent => "weir_breaker_open{error_percent}",
            Self::Probe => "weir_breaker_open{probe}",
            Self::SlowRequests => "weir_breaker_open{slow_requests}",
        }
    }
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It lets all pass.
    Closed,
    /// It lets a few try.
    HalfOpen {
        /// That long they may say nothing.
        until: Duration,
        /// Sent since it is so.
        sent: u32,
        /// That went well.
        good: u32,
    },
    /// It refuses all.
    Open {
        /// Then some may try.
        until: Duration,
    },
}

/// A breaker's state with why and when it last opened. What an outcome belongs to is told by its era: each
/// change begins another.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) state: State,
    pub(super) era: u32,
    pub(super) cause: Option<Cause>,
    /// What it saw when it opened.
    pub(super) seen: Counts,
    pub(super) opened: u64,
}

/// What opens a breaker with these settings, if anything does.
pub(super) fn cause(config: &OutcomeBreaker, counts: Counts) -> Option<Cause> {
    let Counts {
        requests,
        failed,
        slow,
    } = counts;
    if config.error_count.is_some_and(|most| failed >= most.into()) {
        return Some(Cause::ErrorCount);
    }
    if requests < config.requests_min.into() {
        return None;
    }
    // Below 2^53 both are exact.
    let reaches =
        |part: u64, percent: f64| part > 0 && part as f64 * 100.0 >= percent * requests as f64;
    if config
        .error_percent
        .is_some_and(|percent| reaches(failed, percent))
    {
        return Some(Cause::ErrorPercent);
    }
    let is_slow = (config.slow).is_some_and(|rule| reaches(slow, rule.percent));
    is_slow.then_some(Cause::SlowRequests)
}

impl Machine {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Closed,
            era: 0,
            cause: None,
            seen: Counts {
                requests: 0,
                failed: 0,
                slow: 0,
            },
            opened: 0,
        }
    }

    /// Whether one more request may pass; in which era, if it is to try.
    pub(super) fn admit(&mut self, config: &OutcomeBreaker, now: Duration) -> bool {
        match &mut self.state {
            State::Closed => return true,
            State::Open { until } if now < *until => return false,
            State::Open { .. } => {}
            State::HalfOpen { until, sent, .. } => {
                if *sent < config.probes {
                    *sent += 1;
                    return true;
                }
                if now < *until {
                    return false;
                }
            }
        }
        // They say nothing, or nobody has tried yet.
        self.era = self.era.wrapping_add(1);
        self.state = State::HalfOpen {
            until: now + config.open_time,
            sent: 1,
            good: 0,
        };
        true
    }

    /// A request that tried came to this.
    pub(super) fn probed(&mut self, config: &OutcomeBreaker, is_good: bool, now: Duration) {
        let State::HalfOpen { good, .. } = &mut self.state else {
            return;
        };
        if !is_good {
            self.open(config, Cause::Probe, now);
            return;
        }
        *good += 1;
        if *good >= config.probes {
            self.state = State::Closed;
            self.era = self.era.wrapping_add(1);
        }
    }

    /// A request that tried was given up; another may.
    pub(super) fn gave_up(&mut self) {
        if let State::HalfOpen { sent, .. } = &mut self.state {
            *sent = sent.saturating_sub(1);
        }
    }

    /// Refuses from now on.
    pub(super) fn open(&mut self, config: &OutcomeBreaker, cause: Cause, now: Duration) {
        self.state = State::Open {
            until: now + config.open_time,
        };
        self.era = self.era.wrapping_add(1);
        self.cause = Some(cause);
        self.opened += 1;
    }
}
