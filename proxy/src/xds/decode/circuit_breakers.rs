//! `Cluster.circuit_breakers`: how much may be on its way to a cluster at once.

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as PbThresholds;
use xds_proto::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as PbBudget;
use xds_proto::pb::envoy::config::core::v3::RoutingPriority;
use xds_proto::pb::envoy::r#type::v3::Percent;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::value;
use crate::config::CircuitBreakers;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::RetryBudget;
use crate::config::circuit_breakers::Thresholds;

/// Reads them; a cluster that says nothing has Envoy's defaults.
pub(super) fn decode(
    context: &mut Context,
    breakers: Option<pb::CircuitBreakers>,
) -> CircuitBreakers {
    let mut config = CircuitBreakers::default();
    let Some(breakers) = breakers else {
        return config;
    };
    context.field("circuit_breakers", |context| {
        let pb::CircuitBreakers {
            thresholds: all,
            per_host_thresholds,
        } = breakers;
        let all = context.each("thresholds", all, thresholds);
        let per_host = context.each("per_host_thresholds", per_host_thresholds, host_thresholds);
        for (priority, place) in [
            (Priority::Default, &mut config.default),
            (Priority::High, &mut config.high),
        ] {
            // As with Envoy, the first one of a priority counts.
            if let Some((_, limits)) = all.iter().find(|(of, _)| *of == priority) {
                *place = *limits;
            }
            let host = per_host.iter().find(|(of, _)| *of == priority);
            place.host_connections_max = host.and_then(|(_, max)| *max);
        }
    });
    config
}

/// `RoutingPriority`.
pub(super) fn priority(context: &mut Context, priority: i32) -> Option<Priority> {
    Some(match value::enumeration(context, "priority", priority)? {
        RoutingPriority::Default => Priority::Default,
        RoutingPriority::High => Priority::High,
    })
}

fn thresholds(context: &mut Context, limits: PbThresholds) -> Option<(Priority, Thresholds)> {
    let PbThresholds {
        priority: of,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = limits;
    // Each worker keeps one pool for a member, so there is no number of them that a limit could hold.
    unsupported!(context, reject: max_connection_pools);
    let default = Thresholds::default();
    let or = |given: Option<UInt32Value>, default| given.map_or(default, |given| given.value);
    let retries = max_retries.is_some();
    let retry_budget = context.optional("retry_budget", retry_budget, budget);
    if retries && retry_budget.is_some() {
        context.warn("max_retries", "has no effect, retry_budget holds");
    }
    let limits = Thresholds {
        connections_max: or(max_connections, default.connections_max),
        pending_max: or(max_pending_requests, default.pending_max),
        requests_max: or(max_requests, default.requests_max),
        retries_max: or(max_retries, default.retries_max),
        retry_budget,
        host_connections_max: None,
        tracks_remaining: track_remaining,
    };
    Some((priority(context, of)?, limits))
}

fn budget(context: &mut Context, budget: PbBudget) -> Option<RetryBudget> {
    let PbBudget {
        budget_percent,
        min_retry_concurrency,
        budget_interval,
    } = budget;
    let window = value::duration(context, "budget_interval", budget_interval);
    let default = RetryBudget::default();
    let percent = budget_percent.map_or(default.percent, |Percent { value }| value);
    // No NaN is within any bounds.
    if !(0.0..=100.0).contains(&percent) {
        return context.refuse("budget_percent", "must be between 0 and 100");
    }
    let retries_min = min_retry_concurrency.map_or(default.retries_min, |min| min.value);
    Some(RetryBudget {
        percent,
        retries_min,
        window: window.filter(|window| !window.is_zero()),
    })
}

/// Of one member there is a limit of connections only, as with Envoy.
fn host_thresholds(context: &mut Context, limits: PbThresholds) -> Option<(Priority, Option<u32>)> {
    let PbThresholds {
        priority: of,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = limits;
    unsupported!(context, reject: max_pending_requests, max_requests, max_retries, retry_budget,
        track_remaining, max_connection_pools);
    Some((priority(context, of)?, max_connections.map(|max| max.value)))
}
