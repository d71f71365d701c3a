//! `HedgePolicy`, and our own policy beside it.

use std::time::Duration;

use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::google::protobuf::DoubleValue;
use xds_proto::pb::weir::route::v1::HedgeAfterLatency;

use crate::config::retry::HedgeAfter;
use crate::xds::decode::Context;
use crate::xds::decode::value;

const DELAY_MAX: Duration = Duration::from_secs(10);

/// Whether an attempt that reaches its limit goes on beside another one.
pub(crate) fn on_per_try_timeout(
    context: &mut Context,
    policy: Option<pb::HedgePolicy>,
) -> Option<bool> {
    context.optional("hedge_policy", policy, |context, policy| {
        let pb::HedgePolicy {
            initial_requests,
            additional_request_chance,
            hedge_on_per_try_timeout,
        } = policy;
        if initial_requests.is_some_and(|requests| requests.value == 0) {
            context.reject("initial_requests", "must be at least 1");
        }
        // Envoy reads both and does nothing with them.
        let initial_requests = initial_requests.filter(|requests| requests.value > 1);
        unsupported!(context, warn: initial_requests, additional_request_chance);
        Some(hedge_on_per_try_timeout)
    })
}

/// Reads ours.
pub(crate) fn after_latency(
    context: &mut Context,
    policy: HedgeAfterLatency,
) -> Option<HedgeAfter> {
    let HedgeAfterLatency {
        percentile,
        min_samples,
        min_delay,
        budget_percent,
        unsafe_methods,
    } = policy;
    let default = HedgeAfter::default();
    let usual = default.per_mille;
    let per_mille = per_mille(context, ("percentile", percentile), usual, (500, 999));
    let samples_min = match min_samples {
        None => Some(default.samples_min),
        some => value::number(context, "min_samples", some, (10, 100_000)),
    };
    let delay_min = match min_delay {
        None => Some(default.delay_min),
        some => value::duration(context, "min_delay", some),
    };
    if delay_min.is_some_and(|delay| delay > DELAY_MAX) {
        context.reject("min_delay", format!("must not be more than {DELAY_MAX:?}"));
    }
    let usual = default.share_per_mille;
    let share = self::per_mille(context, ("budget_percent", budget_percent), usual, (1, 500));
    Some(HedgeAfter {
        per_mille: per_mille?,
        samples_min: samples_min?,
        delay_min: delay_min?,
        share_per_mille: share?,
        any_method: unsafe_methods,
    })
}

/// Percent with one place after the point. No NaN is within any bounds.
fn per_mille(
    context: &mut Context,
    (field, value): (&str, Option<DoubleValue>),
    usual: u32,
    (least, most): (u32, u32),
) -> Option<u32> {
    let Some(DoubleValue { value }) = value else {
        return Some(usual);
    };
    let bounds = f64::from(least) / 10.0..=f64::from(most) / 10.0;
    if !bounds.contains(&value) {
        let (least, most) = (bounds.start(), bounds.end());
        return context.refuse(field, format!("must be between {least} and {most}"));
    }
    (least..=most).find(|per_mille| f64::from(*per_mille) / 10.0 >= value)
}
