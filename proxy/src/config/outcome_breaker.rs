//! Breakers that look at what came of requests (`weir.circuit_breaking.v1.OutcomeBreaker`).

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::StatusCode;

use crate::config::Name;

/// The settings of one; its defaults and their reasons stand in the proto.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeBreaker {
    /// Opens for requests that took too long.
    pub slow: Option<SlowRequests>,
    /// Opens for this share of failed requests, in percent.
    pub error_percent: Option<f64>,
    /// Opens for so many failed requests.
    pub error_count: Option<u32>,
    /// What is looked at.
    pub window: Duration,
    /// With fewer requests shares say nothing.
    pub requests_min: u32,
    /// How long it refuses.
    pub open_time: Duration,
    /// So many requests may try then.
    pub probes: u32,
    /// Every member has one, too.
    pub per_host: bool,
    /// What is done with what is refused; nothing is the usual answer.
    pub fallback: Option<Fallback>,
}

/// Requests that take too long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowRequests {
    /// What is too long.
    pub slower_than: Duration,
    /// Their share, in percent.
    pub percent: f64,
}

/// What is done with a request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It is answered.
    Answer {
        /// The status.
        status: StatusCode,
        /// The body; may be empty.
        body: Bytes,
        /// What the body is.
        content_type: Option<HeaderValue>,
    },
    /// It goes to this cluster.
    Cluster(Name),
}

impl Default for OutcomeBreaker {
    fn default() -> Self {
        Self {
            slow: None,
            error_percent: None,
            error_count: None,
            window: Duration::from_secs(10),
            requests_min: 20,
            open_time: Duration::from_secs(5),
            probes: 3,
            per_host: false,
            fallback: None,
        }
    }
}
