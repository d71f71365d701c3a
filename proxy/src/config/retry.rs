//! When and how a request is sent again (`RetryPolicy`), by Envoy's rules.

use std::time::Duration;

use http::HeaderName;

use crate::config::endpoint;
use crate::config::endpoint::Labels;
use crate::config::endpoint::Traits;
use crate::config::matcher::HeaderMatch;

/// Retries of a request, when the policy says nothing: Envoy's default.
pub const RETRIES: u32 = 1;

/// The policy of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// What is tried again.
    pub on: RetryOn,
    /// How often, the first attempt not counted.
    pub retries: u32,
    /// How long an attempt may take to the head of its response.
    pub per_try_timeout: Option<Duration>,
    /// How long nothing may move on an attempt.
    pub per_try_idle_timeout: Option<Duration>,
    /// How long is waited between attempts.
    pub back_off: BackOff,
    /// What a response may say of that wait.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// For [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub status_codes: Vec<u16>,
    /// For [`RetryOn::RETRIABLE_HEADERS`]: one must fit the response.
    pub headers: Vec<HeaderMatch>,
    /// One must fit the request, if there are any.
    pub request_headers: Vec<HeaderMatch>,
    /// Which members another attempt avoids.
    pub avoid: Avoid,
    /// How often another member is looked for when the chosen one is to be avoided.
    pub host_attempts: u32,
    /// Another attempt avoids the priorities of those before, which are looked at after so many attempts.
    pub priority_update_frequency: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::NOTHING,
            retries: RETRIES,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            back_off: BackOff::default(),
            rate_limited: None,
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            avoid: Avoid::default(),
            host_attempts: 1,
            priority_update_frequency: None,
        }
    }
}

/// Another attempt beside the first, once that is slower than most (`weir.route.v1.HedgeAfterLatency`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeAfter {
    /// So many of a thousand attempts are faster.
    pub per_mille: u32,
    /// Attempts that were measured before the first hedge.
    pub samples_min: u32,
    /// No hedge is made sooner.
    pub delay_min: Duration,
    /// Hedges per thousand requests.
    pub share_per_mille: u32,
    /// Requests with any method may be sent twice, not only those without effects.
    pub any_method: bool,
}

impl Default for HedgeAfter {
    fn default() -> Self {
        Self {
            per_mille: 950,
            samples_min: 100,
            delay_min: Duration::from_millis(1),
            share_per_mille: 50,
            any_method: false,
        }
    }
}

/// A set of conditions (`retry_on`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u16);

impl RetryOn {
    /// No condition.
    pub const NOTHING: Self = Self(0);
    /// A 5xx, or no response at all.
    pub const SERVER_ERROR: Self = Self(1);
    /// 502, 503 or 504, or no response at all.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// No response at all.
    pub const RESET: Self = Self(1 << 2);
    /// No response, and nothing of the request was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    /// No connection.
    pub const CONNECT_FAILURE: Self = Self(1 << 4);
    /// A response with `x-envoy-ratelimited`, which no other condition holds for.
    pub const ENVOY_RATE_LIMITED: Self = Self(1 << 5);
    /// 409.
    pub const RETRIABLE_4XX: Self = Self(1 << 6);
    /// `REFUSED_STREAM`.
    pub const REFUSED_STREAM: Self = Self(1 << 7);
    /// One of the policy's status codes.
    pub const RETRIABLE_STATUS_CODES: Self = Self(1 << 8);
    /// One of the policy's headers.
    pub const RETRIABLE_HEADERS: Self = Self(1 << 9);
    /// Status 1 of gRPC.
    pub const GRPC_CANCELLED: Self = Self(1 << 10);
    /// Status 4.
    pub const GRPC_DEADLINE_EXCEEDED: Self = Self(1 << 11);
    /// Status 13.
    pub const GRPC_INTERNAL: Self = Self(1 << 12);
    /// Status 8.
    pub const GRPC_RESOURCE_EXHAUSTED: Self = Self(1 << 13);
    /// Status 14.
    pub const GRPC_UNAVAILABLE: Self = Self(1 << 14);
    /// Any status of gRPC.
    pub const GRPC: Self = Self(0b1_1111 << 10);

    /// Those that a response may meet whose status says that all is well.
    pub const OF_A_SUCCESS: Self = Self(
        Self::ENVOY_RATE_LIMITED.0
            | Self::RETRIABLE_STATUS_CODES.0
            | Self::RETRIABLE_HEADERS.0
            | Self::GRPC.0,
    );

    /// The condition of this name in `x-envoy-retry-on`; nothing for HTTP/3, which is not spoken here.
    pub fn of_http(token: &str) -> Option<Self> {
        Some(match token {
            "5xx" => Self::SERVER_ERROR,
            "connect-failure" => Self::CONNECT_FAILURE,
            "envoy-ratelimited" => Self::ENVOY_RATE_LIMITED,
            "gateway-error" => Self::GATEWAY_ERROR,
            "http3-post-connect-failure" => Self::NOTHING,
            "refused-stream" => Self::REFUSED_STREAM,
            "reset" => Self::RESET,
            "reset-before-request" => Self::RESET_BEFORE_REQUEST,
            "retriable-4xx" => Self::RETRIABLE_4XX,
            "retriable-headers" => Self::RETRIABLE_HEADERS,
            "retriable-status-codes" => Self::RETRIABLE_STATUS_CODES,
            _ => return None,
        })
    }

    /// The condition of this name in `x-envoy-retry-grpc-on`.
    pub fn of_grpc(token: &str) -> Option<Self> {
        Some(match token {
            "cancelled" => Self::GRPC_CANCELLED,
            "deadline-exceeded" => Self::GRPC_DEADLINE_EXCEEDED,
            "internal" => Self::GRPC_INTERNAL,
            "resource-exhausted" => Self::GRPC_RESOURCE_EXHAUSTED,
            "unavailable" => Self::GRPC_UNAVAILABLE,
            _ => return None,
        })
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they have a condition in common.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

/// Exponential, with full jitter (`retry_back_off`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The first wait is shorter than this; at least 1 ms.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for BackOff {
    /// Envoy's.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

/// Waits that responses ask for (`rate_limited_retry_back_off`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    /// The first that can be read counts.
    pub headers: Vec<ResetHeader>,
    /// What asks for more is not heard.
    pub max: Duration,
}

/// A header that tells when to come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    /// Its name.
    pub name: HeaderName,
    /// Seconds since 1970, else seconds from now.
    pub is_time: bool,
}

/// Members that another attempt avoids (`retry_host_predicate`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Avoid {
    /// Those that were tried.
    pub previous_hosts: bool,
    /// Those that say they are canaries.
    pub canaries: bool,
    /// Those that have all of one of these.
    pub labels: Vec<Labels>,
}

impl Avoid {
    /// Whether it depends on what members say of themselves.
    pub fn minds_traits(&self) -> bool {
        self.canaries || !self.labels.is_empty()
    }

    /// Whether a member that says this is one of them.
    pub fn has(&self, traits: Option<&Traits>) -> bool {
        let says = |name: &str, wanted: &str| {
            let said = traits.and_then(|traits| traits.get(name));
            said.is_some_and(|said| said.iter().any(|one| **one == *wanted))
        };
        let has_all = |labels: &Labels| labels.iter().all(|(name, value)| says(name, value));
        (self.canaries && endpoint::is_canary(traits)) || self.labels.iter().any(has_all)
    }
}
