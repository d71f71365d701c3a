//! What happened to a host's health, when, and because of what: the last few events.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::SystemTime;

use super::session::Failure;
use crate::config::limits;

/// The last events, oldest first.
#[derive(Debug, Default)]
pub struct Timeline(VecDeque<Event>);

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A check, or an answer, says that it is unfit.
    CheckFailed {
        /// How.
        failure: Failure,
        /// It was the first check.
        is_first: bool,
    },
    /// Checks say that it is fit.
    CheckPassed {
        /// It was the first check.
        is_first: bool,
    },
    /// It said in an ordinary answer that it is degraded.
    AnsweredDegraded {
        /// So many times by now.
        count: u32,
    },
    /// It said that it is degraded, or no longer.
    Degraded(bool),
    /// Outlier detection has, or would have, ejected it.
    Ejected {
        /// Which rule.
        kind: Kind,
        /// It takes no load.
        is_enforced: bool,
        /// Ejections so far.
        count: u32,
        /// The requests that were the reason, oldest first.
        requests: Vec<FailedRequest>,
    },
    /// It counts among the others again, after it has said that it is degraded.
    NoLongerDegraded {
        /// After so long.
        after: Duration,
    },
    /// Too many are ejected already.
    Spared(Kind),
    /// It takes load again.
    Returned {
        /// After so long.
        after: Duration,
    },
}

/// A rule of outlier detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 5xx in a row.
    Consecutive5xx,
    /// 502, 503, 504 in a row.
    ConsecutiveGateway,
    /// Failures to reach it in a row.
    ConsecutiveLocalOrigin,
    /// Worse than the others.
    SuccessRate,
    /// The same, of reaching it.
    SuccessRateLocalOrigin,
    /// Failed too often.
    FailurePercentage,
    /// The same, of reaching it.
    FailurePercentageLocalOrigin,
}

impl Kind {
    /// Envoy's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "CONSECUTIVE_5XX",
            Self::ConsecutiveGateway => "CONSECUTIVE_GATEWAY_FAILURE",
            Self::ConsecutiveLocalOrigin => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            Self::SuccessRate => "SUCCESS_RATE",
            Self::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            Self::FailurePercentage => "FAILURE_PERCENTAGE",
            Self::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
        }
    }
}

/// A request that a host failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// How long before it was looked at.
    pub age: Duration,
    /// The status, or the one that stands for what happened.
    pub status: u16,
    /// There was no answer; the status stands for that.
    pub is_local: bool,
    /// Its `x-request-id`, if it had one.
    pub id: Option<Box<str>>,
}

impl Timeline {
    /// Writes down what happened; the oldest is forgotten.
    pub fn push(&mut self, event: Event) {
        if self.0.len() >= limits::HEALTH_EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// All, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.iter().cloned().collect()
    }
}
