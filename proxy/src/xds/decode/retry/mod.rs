//! `RetryPolicy` and what goes with it: how much trouble a request is worth.
//!
//! | file | reads |
//! |---|---|
//! | `hedge` | `HedgePolicy`, and ours |
//! | `policy` | `RetryPolicy` |
//! | `targets` | which members another attempt avoids |

mod hedge;
mod policy;
mod targets;

use std::sync::Arc;

use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::google::protobuf::UInt64Value;

use super::Context;
use crate::config::retry::HedgeAfter;
use crate::config::retry::RetryPolicy;
use crate::config::route::BodyLimit;
use crate::config::route::Retries;

pub(crate) use hedge::after_latency;
pub(crate) use hedge::on_per_try_timeout;

/// What a virtual host says for all its routes.
#[derive(Debug, Default)]
pub(crate) struct OfHost {
    /// For routes without one.
    pub(crate) policy: Option<Arc<RetryPolicy>>,
    /// For routes without one.
    pub(crate) body_bytes_max: Option<BodyLimit>,
    pub(crate) request_tells_attempts: bool,
    pub(crate) response_tells_attempts: bool,
    pub(crate) request_tells_timeouts: bool,
    /// For routes without such a policy.
    pub(crate) hedges: Option<bool>,
    /// For routes without one.
    pub(crate) hedge_after: Option<Arc<HedgeAfter>>,
}

/// The deprecated limit of a body, and the one in its place.
type BodyLimits = (Option<UInt32Value>, Option<UInt64Value>);

impl OfHost {
    /// What it says of policies and bodies.
    pub(crate) fn new(
        context: &mut Context,
        (policy, hedging): (Option<pb::RetryPolicy>, Option<pb::HedgePolicy>),
        body_limits: BodyLimits,
    ) -> Self {
        Self {
            policy: self::policy(context, policy).map(Arc::new),
            body_bytes_max: body_bytes_max(context, body_limits),
            hedges: on_per_try_timeout(context, hedging),
            ..Self::default()
        }
    }

    /// Of a route, with what it says itself: a policy of its own replaces the host's.
    pub(crate) fn of_route(
        &self,
        policy: Option<RetryPolicy>,
        (body, hedges): (Option<BodyLimit>, Option<bool>),
    ) -> Retries {
        let body_bytes_max = body.or(self.body_bytes_max);
        Retries {
            policy: policy.map(Arc::new).or_else(|| self.policy.clone()),
            body_bytes_max: body_bytes_max.unwrap_or_default(),
            request_tells_attempts: self.request_tells_attempts,
            response_tells_attempts: self.response_tells_attempts,
            request_tells_timeouts: self.request_tells_timeouts,
            hedges_on_per_try_timeout: hedges.or(self.hedges).unwrap_or(false),
            hedge_after: self.hedge_after.clone(),
        }
    }
}

/// Reads a policy.
pub(crate) fn policy(
    context: &mut Context,
    policy: Option<pb::RetryPolicy>,
) -> Option<RetryPolicy> {
    context.optional("retry_policy", policy, policy::decode)
}

/// How much of a request body is kept for another attempt.
pub(crate) fn body_bytes_max(
    context: &mut Context,
    (deprecated, limit): BodyLimits,
) -> Option<BodyLimit> {
    if deprecated.is_some() && limit.is_some() {
        let reason = "is given together with per_request_buffer_limit_bytes";
        context.reject("request_body_buffer_limit", reason);
    }
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let deprecated = deprecated.map(|most| BodyLimit::AtMost(size(most.value.into())));
    let limit = limit.map(|most| BodyLimit::Exactly(size(most.value)));
    limit.or(deprecated)
}
