//! `PeakEwma` of Envoy's contrib extensions.

use std::time::Duration;

use xds_proto::pb::envoy::extensions::load_balancing_policies::peak_ewma::v3alpha as pb;
use xds_proto::pb::google::protobuf::Duration as PbDuration;

use super::Context;
use super::value;
use crate::config::latency::PeakEwma;

/// Shorter intervals count as this: what is new is looked for no oftener.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Reads it.
pub(super) fn decode(context: &mut Context, config: pb::PeakEwma) -> Option<PeakEwma> {
    let pb::PeakEwma {
        decay_time,
        aggregation_interval,
        max_samples_per_host,
        default_rtt,
        penalty_value,
    } = config;
    unsupported!(context, warn "samples are summed, so none is lost": max_samples_per_host);
    let default = PeakEwma::default();
    let positive = |context: &mut Context, field, value: Option<PbDuration>, default| match value {
        None => Some(default),
        some => value::positive_duration(context, field, some),
    };
    let decay = positive(context, "decay_time", decay_time, default.decay);
    let interval = ("aggregation_interval", aggregation_interval);
    let interval = positive(context, interval.0, interval.1, default.interval);
    if interval.is_some_and(|interval| interval < INTERVAL_MIN) {
        context.warn("aggregation_interval", "50 ms are used instead");
    }
    let rtt = match default_rtt {
        None => Some(default.default),
        some => value::duration(context, "default_rtt", some),
    };
    let penalty = penalty_value.map_or(default.penalty, |value| value.value);
    if !(penalty.is_finite() && penalty >= 0.0) {
        context.reject("penalty_value", "must be a finite number of at least 0");
    }
    Some(PeakEwma {
        decay: decay?,
        interval: interval?.max(INTERVAL_MIN),
        default: rtt?,
        penalty,
    })
}
