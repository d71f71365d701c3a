//! `RetryPolicy`.

use std::time::Duration;

use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::envoy::config::route::v3::retry_policy::RateLimitedRetryBackOff;
use xds_proto::pb::envoy::config::route::v3::retry_policy::ResetHeader as PbResetHeader;
use xds_proto::pb::envoy::config::route::v3::retry_policy::ResetHeaderFormat;
use xds_proto::pb::envoy::config::route::v3::retry_policy::RetryBackOff;

use super::targets;
use crate::config::retry::BackOff;
use crate::config::retry::RETRIES;
use crate::config::retry::RateLimitedBackOff;
use crate::config::retry::ResetHeader;
use crate::config::retry::RetryOn;
use crate::config::retry::RetryPolicy;
use crate::xds::decode::Context;
use crate::xds::decode::matcher;
use crate::xds::decode::value;

/// The longest wait a response may ask for, when nothing is said: Envoy's default.
const RATE_LIMITED_MAX: Duration = Duration::from_secs(300);

/// Envoy's timers count milliseconds.
const BACK_OFF_MIN: Duration = Duration::from_millis(1);

/// Reads a policy.
pub(super) fn decode(context: &mut Context, policy: pb::RetryPolicy) -> Option<RetryPolicy> {
    let pb::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = policy;
    unsupported!(context, reject: retry_options_predicates, refresh_cluster_on_retry);
    let on = conditions(context, &retry_on);
    let per_try_timeout = value::timeout(context, "per_try_timeout", per_try_timeout, None);
    let per_try_idle_timeout =
        value::timeout(context, "per_try_idle_timeout", per_try_idle_timeout, None);
    let avoid = targets::avoid(context, retry_host_predicate);
    let host_attempts = targets::host_attempts(context, host_selection_retry_max_attempts);
    let priority = context.optional("retry_priority", retry_priority, targets::priority);
    let back_off = context.optional("retry_back_off", retry_back_off, back_off);
    let rate_limited = context.optional(
        "rate_limited_retry_back_off",
        rate_limited_retry_back_off,
        rate_limited,
    );
    Some(RetryPolicy {
        on,
        retries: num_retries.map_or(RETRIES, |retries| retries.value),
        per_try_timeout,
        per_try_idle_timeout,
        back_off: back_off.unwrap_or_default(),
        rate_limited,
        status_codes: context.each("retriable_status_codes", retriable_status_codes, status),
        headers: context.each("retriable_headers", retriable_headers, matcher::header),
        request_headers: context.each(
            "retriable_request_headers",
            retriable_request_headers,
            matcher::header,
        ),
        avoid: avoid?,
        host_attempts: host_attempts?,
        priority_update_frequency: priority,
    })
}

/// Envoy passes over what it does not know; here it is told.
fn conditions(context: &mut Context, list: &str) -> RetryOn {
    let mut on = RetryOn::NOTHING;
    for token in list.split(',').map(str::trim) {
        match RetryOn::of_http(token).or_else(|| RetryOn::of_grpc(token)) {
            Some(condition) if condition.is_nothing() => {
                let reason = format!("{token:?} has no effect, HTTP/3 is not spoken");
                context.warn("retry_on", reason);
            }
            Some(condition) => on = on.and(condition),
            None if token.is_empty() => {}
            None => context.warn("retry_on", format!("{token:?} is unknown, has no effect")),
        }
    }
    on
}

fn status(context: &mut Context, code: u32) -> Option<u16> {
    let status = u16::try_from(code).ok();
    if status.is_none() {
        context.warn("", "is no status, has no effect");
    }
    status
}

fn back_off(context: &mut Context, back_off: RetryBackOff) -> Option<BackOff> {
    let RetryBackOff {
        base_interval,
        max_interval,
    } = back_off;
    if base_interval.is_none() {
        context.reject_missing("base_interval");
    }
    let base = value::positive_duration(context, "base_interval", base_interval);
    let max = value::positive_duration(context, "max_interval", max_interval);
    let base = base?.max(BACK_OFF_MIN);
    let max = max.map_or_else(|| base.saturating_mul(10), |max| max.max(BACK_OFF_MIN));
    if max < base {
        return context.refuse("max_interval", "is less than base_interval");
    }
    Some(BackOff { base, max })
}

fn rate_limited(
    context: &mut Context,
    back_off: RateLimitedRetryBackOff,
) -> Option<RateLimitedBackOff> {
    let RateLimitedRetryBackOff {
        reset_headers,
        max_interval,
    } = back_off;
    if reset_headers.is_empty() {
        context.reject("reset_headers", "must not be empty");
    }
    let headers = context.each("reset_headers", reset_headers, reset_header);
    let max = value::positive_duration(context, "max_interval", max_interval);
    Some(RateLimitedBackOff {
        headers,
        max: max.unwrap_or(RATE_LIMITED_MAX),
    })
}

fn reset_header(context: &mut Context, header: PbResetHeader) -> Option<ResetHeader> {
    let PbResetHeader { name, format } = header;
    let format = value::enumeration(context, "format", format);
    Some(ResetHeader {
        name: value::header_name(context, "name", &name)?,
        is_time: match format? {
            ResetHeaderFormat::Seconds => false,
            ResetHeaderFormat::UnixTimestamp => true,
        },
    })
}
