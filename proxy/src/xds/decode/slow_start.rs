//! `SlowStartConfig`, in both spellings.

use xds_proto::pb::envoy::config::cluster::v3::cluster::SlowStartConfig as Legacy;
use xds_proto::pb::envoy::config::core::v3::RuntimeDouble;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::SlowStartConfig as Typed;
use xds_proto::pb::envoy::r#type::v3::Percent;
use xds_proto::pb::google::protobuf::Duration as PbDuration;

use super::Context;
use super::value;
use crate::config::load_balancing::SlowStart;

/// Envoy's default for `min_weight_percent`, of 1.
const WEIGHT_MIN: f64 = 0.1;

/// Reads the old form.
pub(super) fn legacy(context: &mut Context, config: Option<Legacy>) -> Option<SlowStart> {
    context.optional("slow_start_config", config, |context, config| {
        let Legacy {
            slow_start_window,
            aggression,
            min_weight_percent,
        } = config;
        decode(context, slow_start_window, aggression, min_weight_percent)
    })
}

/// Reads the typed form.
pub(super) fn typed(context: &mut Context, config: Option<Typed>) -> Option<SlowStart> {
    context.optional("slow_start_config", config, |context, config| {
        let Typed {
            slow_start_window,
            aggression,
            min_weight_percent,
        } = config;
        decode(context, slow_start_window, aggression, min_weight_percent)
    })
}

/// `None` without a window: then there is no slow start.
fn decode(
    context: &mut Context,
    window: Option<PbDuration>,
    aggression: Option<RuntimeDouble>,
    weight_min: Option<Percent>,
) -> Option<SlowStart> {
    let window = value::duration(context, "slow_start_window", window);
    let aggression = aggression.map_or(Some(1.0), |aggression| {
        context.field("aggression", |context| {
            self::aggression(context, aggression)
        })
    });
    let weight_min = weight_min.map_or(Some(WEIGHT_MIN), |percent| {
        context.field("min_weight_percent", |context| {
            value::share(context, percent)
        })
    });
    let window = window.filter(|window| !window.is_zero());
    if window.is_none() {
        context.warn("slow_start_window", "without it there is no slow start");
    }
    Some(SlowStart {
        window: window?,
        aggression: aggression?,
        weight_min: weight_min?,
    })
}

fn aggression(context: &mut Context, aggression: RuntimeDouble) -> Option<f64> {
    let RuntimeDouble {
        default_value,
        runtime_key,
    } = aggression;
    unsupported!(context, warn: runtime_key);
    if !default_value.is_finite() || default_value <= 0.0 {
        return context.refuse("default_value", "must be a finite number above 0");
    }
    Some(default_value)
}
