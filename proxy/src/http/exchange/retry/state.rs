//! Whether a request is sent again, and when: Envoy's rules, without I/O, clock or dice.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::StatusCode;

use crate::config::retry::BackOff;
use crate::config::retry::RetryOn;
use crate::config::retry::RetryPolicy;
use crate::error::Reason;
use crate::http::exchange::retry::asked::Asked;
use crate::http::exchange::retry::asked::Listed;
use crate::http::router;

/// Of an upstream Envoy that refused by rate limit.
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is left of a policy for one request.
#[derive(Debug)]
pub(in crate::http::exchange) struct State {
    policy: Arc<RetryPolicy>,
    on: RetryOn,
    left: u32,
    /// What the request lists itself, if it does.
    listed: Option<Box<Listed>>,
    /// The next wait is shorter than this.
    bound: Duration,
}

/// How long is waited before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// By the policy.
    Exponential(Duration),
    /// As the response asked.
    RateLimited(Duration),
}

impl State {
    /// None if nothing would ever be tried again. `fits` tells whether the request is one of those the
    /// policy is for.
    pub(super) fn new(policy: &Arc<RetryPolicy>, asked: Asked, fits: bool) -> Option<Self> {
        let on = policy.on.and(asked.on);
        if on.is_nothing() || !fits {
            return None;
        }
        Some(Self {
            on,
            left: asked.retries.unwrap_or(policy.retries),
            listed: asked.listed,
            bound: policy.back_off.base,
            policy: Arc::clone(policy),
        })
    }

    /// Nothing is tried again.
    pub(super) fn nothing(policy: &Arc<RetryPolicy>) -> Self {
        Self {
            on: RetryOn::NOTHING,
            left: 0,
            listed: None,
            bound: policy.back_off.base,
            policy: Arc::clone(policy),
        }
    }

    /// The policy.
    pub(super) fn policy(&self) -> &Arc<RetryPolicy> {
        &self.policy
    }

    /// Whether a response with this head is not good enough.
    pub(super) fn minds_head(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if status.is_success() && !self.on.has(RetryOn::OF_A_SUCCESS) {
            return false;
        }
        let limited = self.on.has(RetryOn::ENVOY_RATE_LIMITED);
        let minds = self.minds_answer(status, headers);
        // The header decides alone, but is looked for only where that makes a difference.
        if limited != minds && headers.contains_key(RATE_LIMITED) {
            return limited;
        }
        minds
    }

    fn minds_answer(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let code = status.as_u16();
        let is_asked = || {
            let listed = self.listed.as_ref();
            listed.is_some_and(|listed| listed.status_codes.contains(&code))
        };
        let is_listed = || self.policy.status_codes.contains(&code) || is_asked();
        (self.on.has(RetryOn::SERVER_ERROR) && status.is_server_error())
            || (self.on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code))
            || (self.on.has(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT)
            || (self.on.has(RetryOn::RETRIABLE_STATUS_CODES) && is_listed())
            || (self.on.has(RetryOn::RETRIABLE_HEADERS) && self.has_listed((status, headers)))
            || self.minds_grpc(headers)
    }

    fn has_listed(&self, head: (StatusCode, &HeaderMap)) -> bool {
        let mut listed = self.policy.headers.iter();
        let has = |name: &HeaderName| head.1.contains_key(name);
        let asked = self.listed.as_ref();
        listed.any(|header| router::header_fits(header, head))
            || asked.is_some_and(|asked| asked.header_names.iter().any(has))
    }

    /// Whether the status of gRPC in a head or in trailers is not good enough.
    pub(super) fn minds_grpc(&self, headers: &HeaderMap) -> bool {
        if !self.waits_for_trailers() {
            return false;
        }
        let status = headers.get(GRPC_STATUS).map(http::HeaderValue::as_bytes);
        self.on.has(match status {
            Some(b"1") => RetryOn::GRPC_CANCELLED,
            Some(b"4") => RetryOn::GRPC_DEADLINE_EXCEEDED,
            Some(b"8") => RetryOn::GRPC_RESOURCE_EXHAUSTED,
            Some(b"13") => RetryOn::GRPC_INTERNAL,
            Some(b"14") => RetryOn::GRPC_UNAVAILABLE,
            _ => RetryOn::NOTHING,
        })
    }

    /// Whether a status of gRPC would make a difference.
    pub(super) fn waits_for_trailers(&self) -> bool {
        self.on.has(RetryOn::GRPC)
    }

    /// Whether a failed attempt is one to be repeated. `was_sent`: something of the request was, in this
    /// attempt or one before.
    pub(super) fn minds_failure(&self, reason: Reason, was_sent: bool) -> bool {
        let of_reason = match reason {
            Reason::ConnectFailed | Reason::ConnectTimeout => RetryOn::CONNECT_FAILURE,
            Reason::UpstreamRefused => RetryOn::REFUSED_STREAM,
            _ if is_of_attempt(reason) => RetryOn::NOTHING,
            _ => return false,
        };
        let any = RetryOn::RESET
            .and(RetryOn::SERVER_ERROR)
            .and(RetryOn::GATEWAY_ERROR)
            .and(of_reason);
        self.on.has(any) || (self.on.has(RetryOn::RESET_BEFORE_REQUEST) && !was_sent)
    }

    /// Takes one of the retries that are left.
    pub(super) fn take(&mut self) -> bool {
        let has_more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_more
    }

    /// How long is waited. `head` is that of the response that was not good enough, `now` the time since
    /// 1970.
    pub(super) fn wait(&mut self, head: Option<&HeaderMap>, now: Duration, random: u64) -> Wait {
        let asked = head.and_then(|head| self.asked_for(head, now));
        if let Some(asked) = asked {
            return Wait::RateLimited(asked + part_of(asked / 2, random));
        }
        let BackOff { max, .. } = self.policy.back_off;
        let wait = part_of(self.bound.min(max), random);
        self.bound = self.bound.saturating_mul(2).min(max);
        Wait::Exponential(wait)
    }

    /// What a header asks for. Nothing that is longer than the policy allows is heard, and no moment
    /// that has passed.
    fn asked_for(&self, head: &HeaderMap, now: Duration) -> Option<Duration> {
        let rate_limited = self.policy.rate_limited.as_ref()?;
        let asked = rate_limited.headers.iter().filter_map(|header| {
            let seconds: u64 = head.get(&header.name)?.to_str().ok()?.trim().parse().ok()?;
            if header.is_time {
                seconds.checked_sub(now.as_secs())
            } else {
                Some(seconds)
            }
        });
        let mut asked = asked.map(Duration::from_secs);
        let heard = asked.find(|asked| *asked <= rate_limited.max);
        heard.filter(|asked| !asked.is_zero())
    }
}

/// Whether it is the attempt that failed, not the request.
pub(in crate::http::exchange) fn is_of_attempt(reason: Reason) -> bool {
    match reason {
        Reason::ConnectFailed
        | Reason::ConnectTimeout
        | Reason::CertificateEnded
        | Reason::HostLeft
        | Reason::PerTryIdleTimeout
        | Reason::PerTryTimeout
        | Reason::UpstreamClosed
        | Reason::UpstreamProtocol
        | Reason::UpstreamRefused
        | Reason::UpstreamReset => true,
        Reason::Aborted
        | Reason::BreakerOpen(_)
        | Reason::DownstreamGone
        | Reason::DownstreamProtocol(_)
        | Reason::DownstreamTimeout
        | Reason::HeldTooMuch
        | Reason::DownstreamVersion
        | Reason::Dropped { .. }
        | Reason::DurationTimeout
        | Reason::Misdirected
        | Reason::NoCluster
        | Reason::NoHealthyUpstream
        | Reason::NoRoute
        | Reason::Overflow
        | Reason::Overloaded
        | Reason::RequestIdle
        | Reason::StreamIdle
        | Reason::UpgradeRefused
        | Reason::UpstreamTimeout => false,
    }
}

/// Less than `whole`, by whole milliseconds as Envoy's timers.
fn part_of(whole: Duration, random: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.checked_rem(millis).unwrap_or(0))
}
