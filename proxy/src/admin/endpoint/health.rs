//! What `/clusters` says of a host's health: Envoy's flags, and what happened to it.

use serde_json::Value;
use serde_json::json;

use crate::admin::state::HostView;
use crate::config::endpoint::HealthStatus;
use crate::telemetry::access_log::rfc3339;
use crate::upstream::health::HealthFlags;
use crate::upstream::health::session::Failure;
use crate::upstream::health::timeline::Event;
use crate::upstream::health::timeline::FailedRequest;
use crate::upstream::health::timeline::What;

/// `healthy`, or every reason why not, in Envoy's order.
pub(super) fn flags(host: &HostView) -> String {
    let eds = |wanted: &[HealthStatus]| wanted.contains(&host.health);
    let has = |flag| host.flags.has(flag);
    let all = [
        (has(HealthFlags::FAILED_CHECK), "/failed_active_hc"),
        (has(HealthFlags::EJECTED), "/failed_outlier_check"),
        (
            eds(&[HealthStatus::Timeout, HealthStatus::Unhealthy]),
            "/failed_eds_health",
        ),
        (has(HealthFlags::DEGRADED), "/degraded_active_hc"),
        (eds(&[HealthStatus::Degraded]), "/degraded_eds_health"),
        (has(HealthFlags::PENDING), "/pending_active_hc"),
        (
            has(HealthFlags::EXCLUDED),
            "/excluded_via_immediate_hc_fail",
        ),
        (has(HealthFlags::TIMED_OUT), "/active_hc_timeout"),
        (eds(&[HealthStatus::Draining]), "/eds_status_draining"),
        (
            has(HealthFlags::ANSWERS_DEGRADED),
            "/degraded_outlier_detection",
        ),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    let flags: String = set.map(|(_, name)| name).collect();
    if flags.is_empty() {
        "healthy".to_owned()
    } else {
        flags
    }
}

/// In the shape of `envoy.admin.v3.HostHealthStatus`.
pub(super) fn status(host: &HostView) -> Value {
    let eds = match host.health {
        HealthStatus::Degraded => "DEGRADED",
        HealthStatus::Draining => "DRAINING",
        HealthStatus::Healthy | HealthStatus::Unknown => "HEALTHY",
        HealthStatus::Timeout => "TIMEOUT",
        HealthStatus::Unhealthy => "UNHEALTHY",
    };
    let mut status = json!({ "eds_health_status": eds });
    for (flag, name) in [
        (HealthFlags::FAILED_CHECK, "failed_active_health_check"),
        (HealthFlags::EJECTED, "failed_outlier_check"),
        (HealthFlags::DEGRADED, "failed_active_degraded_check"),
        (HealthFlags::PENDING, "pending_active_hc"),
        (HealthFlags::EXCLUDED, "excluded_via_immediate_hc_fail"),
        (HealthFlags::TIMED_OUT, "active_hc_timeout"),
        (
            HealthFlags::ANSWERS_DEGRADED,
            "failed_degraded_outlier_detection",
        ),
    ] {
        if host.flags.has(flag) {
            status[name] = true.into();
        }
    }
    status
}

/// Ours: what happened, when, and because of what.
pub(super) fn events(events: &[Event]) -> Value {
    let events: Vec<Value> = events.iter().map(event).collect();
    json!({ "events": events })
}

fn event(event: &Event) -> Value {
    let mut value = match &event.what {
        What::CheckFailed { failure, is_first } => {
            let mut value = json!({ "event": "check_failed", "reason": reason(*failure) });
            if let Failure::Answer {
                status: Some(status),
                ..
            } = failure
            {
                value["status"] = (*status).into();
            }
            value["first_check"] = (*is_first).into();
            value
        }
        What::CheckPassed { is_first } => {
            json!({ "event": "check_passed", "first_check": is_first })
        }
        What::Degraded(true) => json!({ "event": "degraded" }),
        What::Degraded(false) => json!({ "event": "no_longer_degraded" }),
        What::Ejected {
            kind,
            is_enforced,
            count,
            requests,
        } => {
            let requests: Vec<Value> = requests.iter().map(request).collect();
            json!({
                "event": "ejected",
                "reason": kind.name(),
                "enforced": is_enforced,
                "ejections": count,
                "requests": requests,
            })
        }
        What::Spared(kind) => json!({ "event": "spared", "reason": kind.name() }),
        What::AnsweredDegraded { count } => json!({ "event": "answered_degraded", "count": count }),
        What::NoLongerDegraded { after } => json!({
            "event": "no_longer_degraded", "after": format!("{:.3}s", after.as_secs_f64()),
        }),
        What::Returned { after } => {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            json!({ "event": "returned", "after_ms": after })
        }
    };
    value["time"] = rfc3339(event.at).into();
    value
}

const fn reason(failure: Failure) -> &'static str {
    match failure {
        Failure::Answer { .. } => "answer",
        Failure::Network | Failure::Ours => "network",
        Failure::Passive => "answer_to_request",
        Failure::Timeout => "timeout",
    }
}

fn request(request: &FailedRequest) -> Value {
    let age = u64::try_from(request.age.as_millis()).unwrap_or(u64::MAX);
    let mut value = json!({ "age_ms": age, "status": request.status });
    if request.is_local {
        value["local_origin"] = true.into();
    }
    if let Some(id) = &request.id {
        value["request_id"] = (**id).into();
    }
    value
}
