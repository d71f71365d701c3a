//! What is known of policies that look on: as lines, as JSON, as metrics.

use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::admin::endpoint::address_text;
use crate::admin::state::ClusterView;
use crate::telemetry::prometheus::Selection;
use crate::telemetry::prometheus::counters;
use crate::telemetry::prometheus::gauges;
use crate::upstream::shadow::Report;
use crate::upstream::shadow::Share;
use crate::upstream::shadow::Times;

/// Of a cluster, for the lines of `/clusters`.
pub(super) fn text(report: &Report, line: &mut dyn FnMut(&str, &dyn Display)) {
    line("shadow::policy", &report.policy);
    line("shadow::picks", &report.picks);
    line("shadow::agreed", &report.agreed);
    for (what, times) in kinds(report) {
        for (statistic, time) in times.iter().flat_map(statistics) {
            let ms = format!("{:.2}", milliseconds(time));
            line(&format!("shadow::{what}_{statistic}_ms"), &ms);
        }
    }
}

/// The same as JSON.
pub(super) fn json(report: &Report) -> Value {
    let mut object = json!({
        "policy": report.policy,
        "picks": report.picks,
        "agreed": report.agreed,
        "agreement": ratio(report.agreed, report.picks),
    });
    for (what, times) in kinds(report) {
        let of = |times: &Times| {
            let all =
                statistics(times).map(|(name, time)| (name.to_owned(), milliseconds(time).into()));
            Value::Object(all.into_iter().collect())
        };
        object[format!("{what}_ms")] = times.as_ref().map(of).into();
    }
    object
}

/// Of a member, of so many picks.
pub(super) fn share(share: Share, picks: u64) -> Value {
    json!({
        "active_picks": share.chosen,
        "picks": share.would,
        "active_share": ratio(share.chosen, picks),
        "share": ratio(share.would, picks),
    })
}

const fn kinds(report: &Report) -> [(&'static str, Option<Times>); 2] {
    [("seen", report.seen), ("predicted", report.predicted)]
}

const fn statistics(times: &Times) -> [(&'static str, Duration); 3] {
    [("mean", times.mean), ("p50", times.p50), ("p99", times.p99)]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(part: u64, whole: u64) -> f64 {
    real(part) / real(whole).max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts, for people")]
fn real(count: u64) -> f64 {
    count as f64
}

/// Labels and value of one series.
type Series = (Vec<(&'static str, String)>, f64);

/// Appends the metrics of every cluster where a policy looks on and whose name, as in
/// `cluster.NAME.shadow`, is selected.
pub(super) fn render(clusters: &[ClusterView], selection: &Selection, out: &mut String) {
    let is_selected = |cluster: &&ClusterView| {
        let filter = selection.filter.as_ref();
        filter.is_none_or(|filter| filter.is_match(&format!("cluster.{}.shadow", cluster.name)))
    };
    let of = |cluster: &ClusterView| ("envoy_cluster_name", cluster.name.clone());
    let all = || clusters.iter().filter(is_selected);
    let reports = || all().filter_map(|cluster| Some((of(cluster), cluster.shadow?)));
    let count = |value: fn(&Report) -> u64| -> Vec<Series> {
        reports()
            .map(|(name, report)| (vec![name], real(value(&report))))
            .collect()
    };
    write(
        "weir_cluster_shadow_picks_total",
        "How often a policy that looks on was asked.",
        (true, &count(|report| report.picks)),
        out,
    );
    write(
        "weir_cluster_shadow_agreed_total",
        "How often it would have chosen the same endpoint.",
        (true, &count(|report| report.agreed)),
        out,
    );
    let agreement =
        reports().map(|(name, report)| (vec![name], ratio(report.agreed, report.picks)));
    write(
        "weir_cluster_shadow_agreement_ratio",
        "The part of picks for which it would have chosen the same endpoint.",
        (false, &agreement.collect::<Vec<_>>()),
        out,
    );
    let latency = reports().flat_map(|(name, report)| times(&name, &report));
    write(
        "weir_cluster_shadow_latency_milliseconds",
        "Time to the first byte of the last minute, as it was and as it would have been.",
        (false, &latency.collect::<Vec<_>>()),
        out,
    );
    let picks = all().flat_map(|cluster| members(&of(cluster), cluster));
    write(
        "weir_cluster_endpoint_shadow_picks_total",
        "How often the endpoint was chosen, and would have been.",
        (true, &picks.collect::<Vec<_>>()),
        out,
    );
}

fn times(name: &(&'static str, String), report: &Report) -> Vec<Series> {
    let mut all = Vec::new();
    for (what, times) in kinds(report) {
        for (statistic, time) in times.iter().flat_map(statistics) {
            let labels = vec![
                name.clone(),
                ("what", what.to_owned()),
                ("statistic", statistic.to_owned()),
            ];
            all.push((labels, milliseconds(time)));
        }
    }
    all
}

fn members(name: &(&'static str, String), cluster: &ClusterView) -> Vec<Series> {
    let mut all = Vec::new();
    for host in &cluster.hosts {
        let Some(share) = host.shadow else {
            continue;
        };
        for (by, count) in [("active", share.chosen), ("shadow", share.would)] {
            let labels = vec![
                name.clone(),
                ("envoy_endpoint_address", address_text(&host.address)),
                ("by", by.to_owned()),
            ];
            all.push((labels, real(count)));
        }
    }
    all
}

fn write(name: &str, help: &str, (is_counter, series): (bool, &[Series]), out: &mut String) {
    let borrowed: Vec<(Vec<(&str, &str)>, f64)> = series
        .iter()
        .map(|(labels, value)| {
            let labels = labels.iter().map(|(key, value)| (*key, value.as_str()));
            (labels.collect(), *value)
        })
        .collect();
    let samples = borrowed
        .iter()
        .map(|(labels, value)| (labels.as_slice(), *value));
    if is_counter {
        counters(name, help, samples, out);
    } else {
        gauges(name, help, samples, out);
    }
}
