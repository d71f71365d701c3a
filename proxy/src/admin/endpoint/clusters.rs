//! `/clusters`: clusters, their limits and their hosts.

use std::fmt::Display;
use std::fmt::Write;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::admin::endpoint::address_json;
use crate::admin::endpoint::address_text;
use crate::admin::endpoint::breakers;
use crate::admin::endpoint::dropped;
use crate::admin::endpoint::format_of;
use crate::admin::endpoint::health;
use crate::admin::endpoint::pattern;
use crate::admin::endpoint::shadow;
use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::admin::state::ClusterView;
use crate::admin::state::DepartingView;
use crate::admin::state::HostStats;
use crate::admin::state::HostView;
use crate::admin::state::ThresholdsView;
use crate::upstream::latency::Standing;

/// As Envoy's lines, or in the shape of `envoy.admin.v3.Clusters`.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let asked = format_of(call.query, "/clusters", &["text", "json"]);
    let (format, filter) =
        match asked.and_then(|format| Ok((format, pattern(call.query, "filter")?))) {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
    let mut clusters = call.admin.inspect.clusters();
    let mut departing = call.admin.inspect.departing();
    if let Some(filter) = filter {
        clusters.retain(|cluster| filter.is_match(&cluster.name));
        departing.retain(|view| filter.is_match(&view.cluster));
    }
    if format == "json" {
        let statuses: Vec<_> = clusters.iter().map(status).collect();
        let mut answer = json!({ "cluster_statuses": statuses });
        if !departing.is_empty() {
            let departing: Vec<_> = departing.iter().map(departing_status).collect();
            answer["weir_departing"] = departing.into();
        }
        return Reply::json(&answer);
    }
    let mut body = String::new();
    clusters.iter().for_each(|cluster| text(cluster, &mut body));
    for view in &departing {
        departing_text(view, &mut body);
    }
    Reply::text(body)
}

fn text(cluster: &ClusterView, out: &mut String) {
    let mut line = |what: &str, value: &dyn Display| {
        let name = &cluster.name;
        writeln!(out, "{name}::{what}::{value}").expect("a string takes every character");
    };
    line("observability_name", &cluster.name);
    for (name, limits) in [
        ("default_priority", cluster.default_thresholds),
        ("high_priority", cluster.high_thresholds),
    ] {
        for (limit, value) in thresholds(limits) {
            line(&format!("{name}::{limit}"), &value);
        }
    }
    breakers::text(&cluster.limits, &mut line);
    breakers::outcomes_text(&cluster.outcomes, &mut line);
    line("added_via_api", &cluster.added_via_api);
    if let Some(report) = &cluster.shadow {
        shadow::text(report, &mut line);
    }
    dropped::text(&cluster.dropped, &mut line);
    for host in &cluster.hosts {
        let address = address_text(&host.address);
        host_text(host, &mut |what, value| {
            line(&format!("{address}::{what}"), value);
        });
    }
}

/// Ours: what is still on a host that has left.
fn departing_text(view: &DepartingView, out: &mut String) {
    let (name, address) = (&view.cluster, address_text(&view.address));
    let mut line = |what: &str, value: &dyn Display| {
        writeln!(out, "{name}::{address}::drain::{what}::{value}")
            .expect("a string takes every character");
    };
    line("cause", &view.cause.as_str());
    line("connections", &view.connections);
    line("requests", &view.requests);
    line("seconds_left", &view.left.as_secs());
}

fn departing_status(view: &DepartingView) -> Value {
    json!({
        "cluster": view.cluster,
        "address": address_json(&view.address),
        "cause": view.cause.as_str(),
        "connections": view.connections,
        "requests": view.requests,
        "seconds_left": view.left.as_secs(),
    })
}

fn host_text(host: &HostView, line: &mut dyn FnMut(&str, &dyn Display)) {
    for (name, value, _) in counters(host.stats) {
        line(name, &value);
    }
    line("hostname", &host.hostname);
    line("health_flags", &health::flags(host));
    line("weight", &host.weight);
    if let Some(standing) = &host.standing {
        latency_text(host, standing, line);
    }
    if let Some(share) = &host.shadow {
        line("shadow::picks", &share.would);
        line("shadow::active_picks", &share.chosen);
    }
    line("region", &host.locality.region);
    line("zone", &host.locality.zone);
    line("sub_zone", &host.locality.sub_zone);
    line("canary", &host.is_canary);
    line("priority", &host.priority);
    line("success_rate", &host.success_rate.unwrap_or(-1.0));
    line("local_origin_success_rate", &-1);
}

/// Ours: what the policy that follows latency made of its weight, and why.
fn latency_text(host: &HostView, standing: &Standing, line: &mut dyn FnMut(&str, &dyn Display)) {
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
    let weight = f64::from(host.weight) * standing.weight;
    line("effective_weight", &format!("{weight:.1}"));
    line("latency_ms", &ms(standing.latency));
    line("latency_baseline_ms", &ms(standing.baseline));
    line("latency_samples", &standing.samples);
    line("latency_failures", &standing.failed);
    line("spared", &standing.is_spared);
    let times = |weight: f64| format!("{:.1}", f64::from(host.weight) * weight);
    line("wanted_weight", &times(standing.wanted));
    if let Some(guard) = &standing.guard {
        line("latency_penalty_ms", &ms(guard.penalty));
        line("floor_weight", &times(guard.floor));
        line("explored", &format!("{:.5}", guard.explored));
        line("step_max", &guard.step_max);
    }
}

const fn thresholds(limits: ThresholdsView) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

/// Name, value, whether it is a gauge; in Envoy's order.
const fn counters(stats: HostStats) -> [(&'static str, u64, bool); 9] {
    [
        ("cx_active", stats.cx_active, true),
        ("cx_connect_fail", stats.cx_connect_fail, false),
        ("cx_total", stats.cx_total, false),
        ("rq_active", stats.rq_active, true),
        ("rq_error", stats.rq_error, false),
        ("rq_pending_active", stats.rq_pending_active, true),
        ("rq_success", stats.rq_success, false),
        ("rq_timeout", stats.rq_timeout, false),
        ("rq_total", stats.rq_total, false),
    ]
}

fn status(cluster: &ClusterView) -> Value {
    let limits = |limits| {
        let limits = thresholds(limits).into_iter();
        limits
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect::<Map<_, _>>()
    };
    let mut high = limits(cluster.high_thresholds);
    high.insert("priority".to_owned(), "HIGH".into());
    let picks = cluster.shadow.map_or(0, |report| report.picks);
    let hosts = cluster.hosts.iter().map(|host| host_status(host, picks));
    let hosts: Vec<_> = hosts.collect();
    // As protobuf's JSON, a false is left out.
    let mut status = json!({
        "name": cluster.name,
        "observability_name": cluster.name,
        "circuit_breakers": {"thresholds": [limits(cluster.default_thresholds), high]},
        "host_statuses": hosts,
        "weir_policy": cluster.policy,
    });
    if let Some(report) = &cluster.shadow {
        status["weir_shadow"] = shadow::json(report);
    }
    if !cluster.dropped.is_empty() {
        status["weir_dropped"] = dropped::json(&cluster.dropped);
    }
    if !cluster.limits.is_empty() {
        status["weir_limits"] = breakers::json(&cluster.limits);
    }
    if !cluster.outcomes.is_empty() {
        status["weir_breakers"] = breakers::outcomes_json(&cluster.outcomes);
    }
    if cluster.added_via_api {
        status["added_via_api"] = true.into();
    }
    status
}

fn host_status(host: &HostView, picks: u64) -> Value {
    let mut status = json!({
        "address": address_json(&host.address),
        "stats": host_stats(host.stats),
        "health_status": health::status(host),
        "weight": host.weight,
        "locality": locality(host),
    });
    if !host.hostname.is_empty() {
        status["hostname"] = host.hostname.clone().into();
    }
    if host.priority > 0 {
        status["priority"] = host.priority.into();
    }
    if let Some(percent) = host.success_rate {
        status["success_rate"] = json!({ "value": percent });
    }
    if !host.events.is_empty() {
        status["weir_health"] = health::events(&host.events);
    }
    if let Some(share) = &host.shadow {
        status["weir_shadow"] = shadow::share(*share, picks);
    }
    if let Some(standing) = &host.standing {
        status["weir_latency"] = json!({
            "effective_weight": f64::from(host.weight) * standing.weight,
            "latency_ms": standing.latency.as_secs_f64() * 1e3,
            "baseline_ms": standing.baseline.as_secs_f64() * 1e3,
            "ratio": standing.ratio,
            "samples": standing.samples,
            "failures": standing.failed,
            "spared": standing.is_spared,
            "wanted_weight": f64::from(host.weight) * standing.wanted,
            "guards": standing.guard.map(|guard| json!({
                "penalty_ms": guard.penalty.as_secs_f64() * 1e3,
                "floor_weight": f64::from(host.weight) * guard.floor,
                "explored": guard.explored,
                "step_max": guard.step_max,
            })),
        });
    }
    status
}

/// Counters first, zeros left out, as protobuf's JSON.
fn host_stats(stats: HostStats) -> Vec<Value> {
    let mut all = Vec::new();
    for gauges in [false, true] {
        for (name, value, is_gauge) in counters(stats) {
            if is_gauge == gauges {
                let mut one = json!({ "name": name });
                if value > 0 {
                    one["value"] = value.to_string().into();
                }
                if is_gauge {
                    one["type"] = "GAUGE".into();
                }
                all.push(one);
            }
        }
    }
    all
}

fn locality(host: &HostView) -> Value {
    let names = [
        ("region", &host.locality.region),
        ("zone", &host.locality.zone),
        ("sub_zone", &host.locality.sub_zone),
    ];
    let given = names.into_iter().filter(|(_, name)| !name.is_empty());
    let given = given.map(|(key, name)| (key.to_owned(), Value::from(&**name)));
    Value::Object(given.collect())
}
