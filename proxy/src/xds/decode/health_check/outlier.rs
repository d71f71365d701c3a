//! `OutlierDetection`.

use std::time::Duration;

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::google::protobuf::Duration as PbDuration;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::value;
use crate::config::health::FailurePercentage;
use crate::config::health::OutlierDetection;
use crate::config::health::Rule;
use crate::config::health::SuccessRate;

const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// Reads it; Envoy's defaults hold.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
pub(in crate::xds::decode) fn decode(
    context: &mut Context,
    config: pb::OutlierDetection,
) -> Option<OutlierDetection> {
    let pb::OutlierDetection {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        monitors,
        always_eject_one_host,
        detect_degraded_hosts,
    } = config;
    unsupported!(context, reject: monitors);
    let interval = time(context, "interval", interval, INTERVAL);
    let base = time(
        context,
        "base_ejection_time",
        base_ejection_time,
        BASE_EJECTION_TIME,
    );
    let longest = MAX_EJECTION_TIME.max(base.unwrap_or_default());
    let max = time(context, "max_ejection_time", max_ejection_time, longest);
    let jitter = value::duration(
        context,
        "max_ejection_time_jitter",
        max_ejection_time_jitter,
    );
    let consecutive_5xx = count(consecutive_5xx, 5);
    let consecutive_gateway = count(consecutive_gateway_failure, 5);
    let consecutive_local_origin = count(consecutive_local_origin_failure, 5);
    let mut percent = |field: &str, value: Option<UInt32Value>, default: u32| match value {
        None => Some(default),
        some => value::number(context, field, some, (0, 100)),
    };
    let max_ejection_percent = percent("max_ejection_percent", max_ejection_percent, 10);
    let enforcing_5xx = percent("enforcing_consecutive_5xx", enforcing_consecutive_5xx, 100);
    let enforcing_gateway = percent(
        "enforcing_consecutive_gateway_failure",
        enforcing_consecutive_gateway_failure,
        0,
    );
    let enforcing_local = percent(
        "enforcing_consecutive_local_origin_failure",
        enforcing_consecutive_local_origin_failure,
        100,
    );
    let enforcing_rate = percent("enforcing_success_rate", enforcing_success_rate, 100);
    let enforcing_local_rate = percent(
        "enforcing_local_origin_success_rate",
        enforcing_local_origin_success_rate,
        100,
    );
    let threshold = percent(
        "failure_percentage_threshold",
        failure_percentage_threshold,
        85,
    );
    let enforcing_percentage = percent(
        "enforcing_failure_percentage",
        enforcing_failure_percentage,
        0,
    );
    let enforcing_local_percentage = percent(
        "enforcing_failure_percentage_local_origin",
        enforcing_failure_percentage_local_origin,
        0,
    );
    if max? < base? {
        context.reject(
            "max_ejection_time",
            "must not be shorter than base_ejection_time",
        );
    }
    let rule = |count: u32, enforcing: u32| Rule { count, enforcing };
    Some(OutlierDetection {
        interval: interval?,
        base_ejection_time: base?,
        max_ejection_time: max?,
        max_ejection_time_jitter: jitter.unwrap_or_default(),
        max_ejection_percent: max_ejection_percent?,
        always_ejects_one: value::is_true(always_eject_one_host),
        splits_local_origin: split_external_local_origin_errors,
        errors: None, // another field says it
        detects_degraded: value::is_true(detect_degraded_hosts),
        check_unejects: !value::is_false(successful_active_health_check_uneject_host),
        consecutive_5xx: rule(consecutive_5xx, enforcing_5xx?),
        consecutive_gateway: rule(consecutive_gateway, enforcing_gateway?),
        consecutive_local_origin: rule(consecutive_local_origin, enforcing_local?),
        success_rate: SuccessRate {
            hosts_min: count(success_rate_minimum_hosts, 5),
            requests_min: count(success_rate_request_volume, 100),
            stdev_factor: count(success_rate_stdev_factor, 1900),
            enforcing: enforcing_rate?,
            enforcing_local_origin: enforcing_local_rate?,
        },
        failure_percentage: FailurePercentage {
            threshold: threshold?,
            hosts_min: count(failure_percentage_minimum_hosts, 5),
            requests_min: count(failure_percentage_request_volume, 50),
            enforcing: enforcing_percentage?,
            enforcing_local_origin: enforcing_local_percentage?,
        },
    })
}

fn time(
    context: &mut Context,
    field: &str,
    time: Option<PbDuration>,
    default: Duration,
) -> Option<Duration> {
    if time.is_none() {
        return Some(default);
    }
    value::positive_duration(context, field, time)
}

fn count(value: Option<UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}
