//! `ClientSideWeightedRoundRobin`: weights that servers report with their answers.
//!
//! Reports that are asked for over a stream of their own (`enable_oob_load_report`) are refused: without
//! them no weight would ever be known.

use xds_proto::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use xds_proto::pb::google::protobuf::Duration as PbDuration;
use xds_proto::pb::google::protobuf::FloatValue;

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::slow_start;
use super::value;
use crate::config::limits;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_report::Metric;
use crate::config::load_report::ReportWeighted;

/// Shorter update periods count as this, as in Envoy.
const UPDATE_MIN: Duration = Duration::from_millis(100);

/// Reads it.
pub(super) fn decode(
    context: &mut Context,
    config: ClientSideWeightedRoundRobin,
) -> Option<LoadBalancing> {
    let ClientSideWeightedRoundRobin {
        enable_oob_load_report,
        oob_reporting_period,
        blackout_period,
        weight_expiration_period,
        weight_update_period,
        error_utilization_penalty,
        metric_names_for_computing_utilization,
        slow_start_config,
        oob_reporting_config,
    } = config;
    if value::is_true(enable_oob_load_report) {
        context.reject(
            "enable_oob_load_report",
            "not supported: load reports are read from answers only",
        );
    }
    unsupported!(context, warn "has no effect without enable_oob_load_report":
        oob_reporting_period, oob_reporting_config);
    let default = ReportWeighted::default();
    let blackout = or(
        context,
        ("blackout_period", blackout_period),
        default.blackout,
    );
    let expiration = ("weight_expiration_period", weight_expiration_period);
    let expiration = or(context, expiration, default.expiration);
    let period = ("weight_update_period", weight_update_period);
    let period = or(context, period, default.update_period);
    let penalty = penalty(context, error_utilization_penalty);
    let names = metrics(context, &metric_names_for_computing_utilization);
    let slow_start = slow_start::typed(context, slow_start_config);
    let config = ReportWeighted {
        blackout: blackout?,
        expiration: expiration?,
        update_period: period?.max(UPDATE_MIN),
        error_penalty: penalty?,
        utilization: names?,
    };
    Some(LoadBalancing {
        policy: LbPolicy::Reported(config),
        slow_start,
        ..LoadBalancing::default()
    })
}

fn or(
    context: &mut Context,
    (field, value): (&str, Option<PbDuration>),
    default: Duration,
) -> Option<Duration> {
    match value {
        None => Some(default),
        some => value::duration(context, field, some),
    }
}

/// No NaN is at least zero.
fn penalty(context: &mut Context, value: Option<FloatValue>) -> Option<f64> {
    let value = value.map_or(1.0, |value| f64::from(value.value));
    if !(value.is_finite() && value >= 0.0) {
        let field = "error_utilization_penalty";
        return context.refuse(field, "must be a finite number of at least 0");
    }
    Some(value)
}

fn metrics(context: &mut Context, names: &[String]) -> Option<Arc<[Metric<Box<str>>]>> {
    const FIELD: &str = "metric_names_for_computing_utilization";
    if names.len() > limits::LOAD_REPORT_METRICS_MAX {
        let most = limits::LOAD_REPORT_METRICS_MAX;
        return context.refuse(FIELD, format!("at most {most} are compared"));
    }
    let mut found = Vec::new();
    for (place, name) in names.iter().enumerate() {
        match Metric::of_name(name) {
            Some(metric) => found.push(metric.to_owned()),
            None => context.warn(
                &format!("{FIELD}[{place}]"),
                "is no metric of a load report, has no effect",
            ),
        }
    }
    Some(found.into())
}
