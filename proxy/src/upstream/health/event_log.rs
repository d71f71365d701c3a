//! Events of health checks as Envoy writes them: one line of JSON each, appended to a file. It happens
//! on the thread that checks, which nobody waits for.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use super::checker::Plan;
use super::flags::HealthFlags;
use super::session::Failure;
use super::session::Outcome;
use super::timeline::What;
use crate::config::endpoint::Address;
use crate::config::health::Probe;
use crate::telemetry::access_log::rfc3339;
use crate::upstream::Host;

/// Writes down that something about a host has changed.
pub(super) fn write(
    host: &Host,
    plan: &Plan,
    what: &What,
    (before, after): (HealthFlags, HealthFlags),
) {
    let event = match what {
        What::CheckFailed { failure, .. } => {
            let is_news = !before.has(HealthFlags::FAILED_CHECK);
            if !is_news {
                return; // it is written as a failure like any other
            }
            ("eject_unhealthy_event", failed(*failure))
        }
        What::CheckPassed { is_first } => {
            let is_news =
                before.has(HealthFlags::FAILED_CHECK) && !after.has(HealthFlags::FAILED_CHECK);
            if !is_news {
                return;
            }
            ("add_healthy_event", json!({ "first_check": is_first }))
        }
        What::Degraded(true) => ("degraded_healthy_host", json!({})),
        What::Degraded(false) => ("no_longer_degraded_host", json!({})),
        What::AnsweredDegraded { .. }
        | What::Ejected { .. }
        | What::NoLongerDegraded { .. }
        | What::Returned { .. }
        | What::Spared(_) => return,
    };
    // What is said first is said of every host at the start.
    if before.has(HealthFlags::UNCHECKED) {
        tracing::debug!(host = %host.label, event = event.0, detail = %event.1, "health");
    } else {
        tracing::info!(host = %host.label, event = event.0, detail = %event.1, "health");
    }
    append(host, plan, event);
}

/// Writes down a check that changed nothing, where that is wanted.
pub(super) fn write_routine(
    host: &Host,
    plan: &Plan,
    outcome: Outcome,
    (before, after): (HealthFlags, HealthFlags),
) {
    let log = &plan.config.log;
    let is_first = before.has(HealthFlags::UNCHECKED);
    match outcome {
        Outcome::Bad(failure) if log.all_failures || is_first => {
            let mut event = failed(failure);
            event["first_check"] = is_first.into();
            append(host, plan, ("health_check_failure_event", event));
        }
        Outcome::Good { .. } if log.all_successes => {
            let flag = HealthFlags::FAILED_CHECK;
            if before.has(flag) == after.has(flag) {
                append(host, plan, ("successful_health_check_event", json!({})));
            }
        }
        Outcome::Bad(_) | Outcome::Good { .. } => {}
    }
}

fn failed(failure: Failure) -> Value {
    let kind = match failure {
        Failure::Answer { .. } => "ACTIVE",
        Failure::Network | Failure::Ours => "NETWORK",
        Failure::Passive => "PASSIVE",
        Failure::Timeout => "NETWORK_TIMEOUT",
    };
    let status = match failure {
        Failure::Answer { status, .. } => status.unwrap_or_default(),
        _ => 0,
    };
    json!({ "failure_type": kind, "http_status_code": status })
}

fn append(host: &Host, plan: &Plan, (name, event): (&str, Value)) {
    let Some(path) = &plan.config.log.path else {
        return;
    };
    #[expect(clippy::disallowed_methods, reason = "the log tells the time of day")]
    let now = SystemTime::now();
    let kind = match plan.config.probe {
        Probe::Grpc(_) => "GRPC",
        Probe::Http(_) => "HTTP",
        Probe::Tcp(_) => "TCP",
    };
    let mut line = json!({
        "health_checker_type": kind,
        "host": address(&host.address),
        "locality": locality(host, plan),
        "cluster_name": &**plan.cluster.name(),
        "timestamp": rfc3339(now),
    });
    line[name] = event;
    if let Err(error) = write_line(path, &line) {
        tracing::warn!(path = %path.display(), %error, "a health event cannot be written");
    }
}

/// Where the host is, as long as it is a member.
fn locality(host: &Host, plan: &Plan) -> Value {
    let current = plan.cluster.load();
    let mut members = current.hosts.members().iter();
    let member = members.find(|member| member.host.id == host.id);
    let place = member.map(|member| member.locality);
    let place = place.and_then(|place| current.endpoints.localities.get(place));
    let Some(place) = place.map(|place| &place.locality) else {
        return json!({});
    };
    json!({
        "region": &*place.region,
        "zone": &*place.zone,
        "sub_zone": &*place.sub_zone,
    })
}

/// Opened every time: events are rare, and whoever rotates the file need not tell us.
fn write_line(path: &Path, line: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn address(address: &Address) -> Value {
    match address {
        Address::Pipe(path) => json!({ "pipe": { "path": path.to_string_lossy() } }),
        Address::Socket(address) => json!({ "socket_address": {
            "protocol": "TCP",
            "address": address.ip().to_string(),
            "port_value": address.port(),
        }}),
    }
}
