//! `OutcomeBreaker`, which is carried in the metadata of a cluster.

use std::time::Duration;

use http::HeaderValue;
use http::StatusCode;
use xds_proto::pb::envoy::config::core::v3::Metadata;
use xds_proto::pb::google::protobuf::DoubleValue;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::weir::circuit_breaking::v1 as pb;
use xds_proto::pb::weir::circuit_breaking::v1::outcome_breaker::Answer;
use xds_proto::pb::weir::circuit_breaking::v1::outcome_breaker::Fallback as PbFallback;
use xds_proto::pb::weir::circuit_breaking::v1::outcome_breaker::SlowRequests as PbSlow;

use super::Context;
use super::extension;
use super::value;
use crate::config::limits;
use crate::config::outcome_breaker::Fallback;
use crate::config::outcome_breaker::OutcomeBreaker;
use crate::config::outcome_breaker::SlowRequests;

/// Where it stands among the metadata.
const KEY: &str = "weir.circuit_breaking.v1";

const MINUTES_10: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

/// A step of a window counts so many, see the window.
const COUNT_MAX: u32 = 8000;

/// Reads the metadata of the cluster of this name, of which nothing else has an effect.
pub(super) fn of_metadata(
    context: &mut Context,
    metadata: Metadata,
    cluster: &str,
) -> Option<OutcomeBreaker> {
    let Metadata {
        filter_metadata,
        mut typed_filter_metadata,
    } = metadata;
    let own = typed_filter_metadata.remove(KEY);
    unsupported!(context, warn: filter_metadata, typed_filter_metadata);
    let any = own?;
    context.item("typed_filter_metadata", format!("{KEY:?}"), |context| {
        if !extension::holds::<pb::OutcomeBreaker>(&any) {
            let kind = extension::type_name(&any);
            return context.refuse(
                "",
                format!("{kind} is not weir.circuit_breaking.v1.OutcomeBreaker"),
            );
        }
        let breaker = extension::unpack(context, &any)?;
        let breaker = decode(context, breaker)?;
        let own = |to: &Fallback| matches!(to, Fallback::Cluster(name) if **name == *cluster);
        if breaker.fallback.as_ref().is_some_and(own) {
            return context.refuse(
                "cluster",
                "must not be the cluster itself: name another one",
            );
        }
        Some(breaker)
    })
}

fn decode(context: &mut Context, breaker: pb::OutcomeBreaker) -> Option<OutcomeBreaker> {
    let pb::OutcomeBreaker {
        slow_requests,
        error_percent,
        error_count,
        window,
        min_requests,
        open_time,
        probes,
        per_host,
        fallback,
    } = breaker;
    if slow_requests.is_none() && error_percent.is_none() && error_count.is_none() {
        return context.refuse("", "needs slow_requests, error_percent or error_count");
    }
    let default = OutcomeBreaker::default();
    let has_slow = slow_requests.is_some();
    let slow = context.optional("slow_requests", slow_requests, slow);
    let (has_percent, has_count) = (error_percent.is_some(), error_count.is_some());
    let error_percent = error_percent.and_then(|value| percent(context, "error_percent", value));
    let error_count = value::number(context, "error_count", error_count, (1, COUNT_MAX));
    let bounds = (Duration::from_millis(100), MINUTES_10);
    let window = value::duration_within(context, ("window", window), default.window, bounds);
    let requests_min = number(
        context,
        ("min_requests", min_requests),
        default.requests_min,
        COUNT_MAX,
    );
    let bounds = (Duration::from_millis(10), HOUR);
    let open_time =
        value::duration_within(context, ("open_time", open_time), default.open_time, bounds);
    let probes = number(context, ("probes", probes), default.probes, 1000);
    let has_fallback = fallback.is_some();
    let fallback = fallback.and_then(|fallback| read_fallback(context, fallback));
    let is_whole = has_slow == slow.is_some()
        && has_percent == error_percent.is_some()
        && has_count == error_count.is_some()
        && has_fallback == fallback.is_some();
    if !is_whole {
        return None; // and it was told why
    }
    Some(OutcomeBreaker {
        slow,
        error_percent,
        error_count,
        window: window?,
        requests_min: requests_min?,
        open_time: open_time?,
        probes: probes?,
        per_host,
        fallback,
    })
}

fn slow(context: &mut Context, slow: PbSlow) -> Option<SlowRequests> {
    let PbSlow {
        slower_than,
        percent: share,
    } = slow;
    if slower_than.is_none() {
        return context.missing("slower_than");
    }
    let bounds = (Duration::from_millis(1), MINUTES_10);
    let slower_than = value::duration_within(
        context,
        ("slower_than", slower_than),
        Duration::ZERO,
        bounds,
    );
    let share = share.unwrap_or(DoubleValue { value: 50.0 });
    let percent = percent(context, "percent", share);
    Some(SlowRequests {
        slower_than: slower_than?,
        percent: percent?,
    })
}

/// No NaN is within any bounds.
fn percent(context: &mut Context, field: &str, value: DoubleValue) -> Option<f64> {
    let value = value.value;
    if value > 0.0 && value <= 100.0 {
        return Some(value);
    }
    context.refuse(field, "must be above 0 and at most 100")
}

fn number(
    context: &mut Context,
    (field, value): (&str, Option<UInt32Value>),
    default: u32,
    most: u32,
) -> Option<u32> {
    match value {
        None => Some(default),
        some => value::number(context, field, some, (1, most)),
    }
}

fn read_fallback(context: &mut Context, fallback: PbFallback) -> Option<Fallback> {
    match fallback {
        PbFallback::Cluster(name) if name.is_empty() => {
            context.refuse("cluster", "must not be empty")
        }
        PbFallback::Cluster(name) => Some(Fallback::Cluster(name.into())),
        PbFallback::Answer(given) => context.field("answer", |context| answer(context, given)),
    }
}

fn answer(context: &mut Context, answer: Answer) -> Option<Fallback> {
    let Answer {
        status,
        body,
        content_type,
    } = answer;
    let status = match status {
        None => Some(StatusCode::SERVICE_UNAVAILABLE),
        some => value::number(context, "status", some, (200, 599))
            .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok()),
    };
    if body.len() > limits::FALLBACK_BODY_BYTES_MAX {
        return context.refuse(
            "body",
            format!(
                "must not be longer than {} bytes",
                limits::FALLBACK_BODY_BYTES_MAX
            ),
        );
    }
    let content_type = match content_type.as_str() {
        "" => Some(None),
        text => value::header_value(context, "content_type", text).map(Some),
    };
    Some(Fallback::Answer {
        status: status?,
        body: body.into(),
        content_type: content_type?.or_else(|| None::<HeaderValue>),
    })
}
