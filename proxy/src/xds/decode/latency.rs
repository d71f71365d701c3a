//! `LatencyWeightedRoundRobin`. Every number has a range, because outside of it the formula stops
//! meaning anything: a window of zero, weights that overflow, a factor that is no number.

use std::time::Duration;

use xds_proto::pb::google::protobuf::DoubleValue;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::weir::load_balancing::v1 as pb;
use xds_proto::pb::weir::load_balancing::v1::latency_weighted_round_robin::Selector as PbSelector;

use super::Context;
use super::value;
use crate::config::latency::Guards;
use crate::config::latency::LatencyWeighted;
use crate::config::latency::Selector;

/// Longest window, longest time to be spared.
const MINUTES_10: Duration = Duration::from_secs(600);

/// No weight is outside.
const WEIGHTS: (u32, u32) = (1, 100);

/// Reads it.
pub(super) fn decode(
    context: &mut Context,
    config: pb::LatencyWeightedRoundRobin,
) -> Option<LatencyWeighted> {
    let pb::LatencyWeightedRoundRobin {
        selector,
        window,
        update_period,
        weight_base,
        weight_min,
        weight_max,
        epsilon,
        guards,
        plain,
        ignore_load_reports,
    } = config;
    let default = LatencyWeighted::default();
    let seconds = Duration::from_secs;
    let window = value::duration_within(
        context,
        ("window", window),
        default.window,
        (seconds(1), MINUTES_10),
    );
    let bounds = (Duration::from_millis(50), seconds(10));
    let period = ("update_period", update_period);
    let update_period = value::duration_within(context, period, default.update_period, bounds);
    let bounds = (Duration::from_micros(1), seconds(1));
    let epsilon = value::duration_within(context, ("epsilon", epsilon), default.epsilon, bounds);
    let base = weight(context, ("weight_base", weight_base), default.weight_base);
    let min = weight(context, ("weight_min", weight_min), default.weight_min);
    let max = weight(context, ("weight_max", weight_max), default.weight_max);
    let selector = value::enumeration(context, "selector", selector);
    let given = guards.is_some();
    let guards = context.field("guards", |context| {
        read_guards(context, guards.unwrap_or_default())
    });
    if plain && given {
        context.warn("guards", "has no effect with plain");
    }
    let config = LatencyWeighted {
        selector: match selector? {
            PbSelector::WeightedChoice => Selector::WeightedChoice,
            PbSelector::Smooth => Selector::Smooth,
        },
        window: window?,
        update_period: update_period?,
        weight_base: base?,
        weight_min: min?,
        weight_max: max?,
        epsilon: epsilon?,
        guards: Some(guards?).filter(|_| !plain),
        reads_reports: !plain && !ignore_load_reports,
    };
    if !(config.weight_min..=config.weight_max).contains(&config.weight_base) {
        return context.refuse("weight_base", "must be between weight_min and weight_max");
    }
    if config.update_period > config.window {
        return context.refuse("update_period", "must not be longer than window");
    }
    Some(config)
}

fn read_guards(context: &mut Context, guards: pb::Guards) -> Option<Guards> {
    let pb::Guards {
        failure_penalty,
        retry_after_max,
        min_samples,
        exploration,
        step_max,
        warm_up,
        sample_expiry,
    } = guards;
    let default = Guards::default();
    let penalty = ("failure_penalty", failure_penalty);
    let penalty = real(context, penalty, default.failure_penalty, (1.0, 1000.0));
    let most = (Duration::ZERO, Duration::from_secs(300));
    let spared = ("retry_after_max", retry_after_max);
    let retry_after_max = value::duration_within(context, spared, default.retry_after_max, most);
    let samples_min = match min_samples {
        None => Some(default.samples_min),
        some => value::number(context, "min_samples", some, (1, 10_000)).map(f64::from),
    };
    let percent = ("exploration", exploration);
    let exploration = real(context, percent, default.exploration * 100.0, (0.0, 50.0));
    let step_max = real(
        context,
        ("step_max", step_max),
        default.step_max,
        (1.05, 100.0),
    );
    let bounds = (Duration::ZERO, MINUTES_10);
    let warm_up = value::duration_within(context, ("warm_up", warm_up), default.warm_up, bounds);
    let bounds = (Duration::from_secs(1), Duration::from_secs(3600));
    let expiry = ("sample_expiry", sample_expiry);
    let sample_expiry = value::duration_within(context, expiry, default.sample_expiry, bounds);
    Some(Guards {
        failure_penalty: penalty?,
        retry_after_max: retry_after_max?,
        samples_min: samples_min?,
        exploration: exploration? / 100.0,
        step_max: step_max?,
        warm_up: warm_up?,
        sample_expiry: sample_expiry?,
    })
}

fn weight(
    context: &mut Context,
    (field, value): (&str, Option<UInt32Value>),
    default: f64,
) -> Option<f64> {
    match value {
        None => Some(default),
        some => value::number(context, field, some, WEIGHTS).map(f64::from),
    }
}

/// No NaN is within any bounds.
fn real(
    context: &mut Context,
    (field, value): (&str, Option<DoubleValue>),
    default: f64,
    (least, most): (f64, f64),
) -> Option<f64> {
    let found = value.map_or(default, |value| value.value);
    if !(least..=most).contains(&found) {
        return context.refuse(field, format!("must be between {least} and {most}"));
    }
    Some(found)
}
