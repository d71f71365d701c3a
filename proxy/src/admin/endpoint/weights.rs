//! What policies that follow latency make of each member, and what it gets, as metrics of Prometheus. Members
//! come and go, so nothing is kept for them: the values are read when they are asked for.

use std::time::Duration;

use crate::admin::endpoint::address_text;
use crate::admin::state::ClusterView;
use crate::admin::state::HostView;
use crate::telemetry::prometheus;
use crate::telemetry::prometheus::Selection;
use crate::upstream::latency::Standing;

/// Name, meaning and value of each metric.
type Metric = (&'static str, &'static str, fn(&HostView, &Standing) -> f64);

/// The share of a member is what it has of the requests of all.
const COUNTERS: [Metric; 1] = [(
    "weir_cluster_endpoint_rq_total",
    "Requests sent to the endpoint.",
    |host, _| real(host.stats.rq_total),
)];

const GAUGES: [Metric; 6] = [
    (
        "weir_cluster_endpoint_configured_weight",
        "Weight of the endpoint as configured.",
        |host, _| f64::from(host.weight),
    ),
    (
        "weir_cluster_endpoint_effective_weight",
        "The configured weight times what its latency makes of it.",
        |host, standing| f64::from(host.weight) * standing.weight,
    ),
    (
        "weir_cluster_endpoint_latency_milliseconds",
        "Time to the first byte as it is believed to be.",
        |_, standing| milliseconds(standing.latency),
    ),
    (
        "weir_cluster_endpoint_latency_baseline_milliseconds",
        "What the latency is compared with.",
        |_, standing| milliseconds(standing.baseline),
    ),
    (
        "weir_cluster_endpoint_wanted_weight",
        "What the effective weight moves towards, as far as a period allows.",
        |host, standing| f64::from(host.weight) * standing.wanted,
    ),
    (
        "weir_cluster_endpoint_latency_penalty_milliseconds",
        "What a failure counts as, at least; 0 without guards.",
        |_, standing| {
            standing
                .guard
                .map_or(0.0, |guard| milliseconds(guard.penalty))
        },
    ),
];

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A number of Prometheus.
#[expect(clippy::cast_precision_loss, reason = "numbers of Prometheus are so")]
pub(super) fn real(value: u64) -> f64 {
    value as f64
}

/// Appends the metrics of every member whose weight follows latency and whose name, as in
/// `cluster.NAME.endpoint.ADDRESS.METRIC`, is selected.
pub(super) fn render(clusters: &[ClusterView], selection: &Selection, out: &mut String) {
    let members: Vec<_> = clusters.iter().flat_map(members).collect();
    let counters = COUNTERS.map(|metric| (metric, true));
    let all = counters
        .into_iter()
        .chain(GAUGES.map(|metric| (metric, false)));
    for ((name, help, value), is_counter) in all {
        let short = name.trim_start_matches("weir_cluster_endpoint_");
        let is_selected = |cluster: &str, address: &str| {
            let filter = selection.filter.as_ref();
            let dotted = || format!("cluster.{cluster}.endpoint.{address}.{short}");
            filter.is_none_or(|filter| filter.is_match(&dotted()))
        };
        let labelled: Vec<_> = members
            .iter()
            .filter(|(cluster, address, ..)| is_selected(&cluster.name, address))
            .map(|(cluster, address, host, standing)| {
                let labels = [
                    ("envoy_cluster_name", &*cluster.name),
                    ("envoy_endpoint_address", &**address),
                ];
                (labels, value(host, standing))
            })
            .collect();
        let samples = labelled
            .iter()
            .map(|(labels, value)| (labels.as_slice(), *value));
        match is_counter {
            true => prometheus::counters(name, help, samples, out),
            false => prometheus::gauges(name, help, samples, out),
        }
    }
}

/// The members that have a standing: cluster, address, and what is known.
fn members(
    cluster: &ClusterView,
) -> impl Iterator<Item = (&ClusterView, String, &HostView, &Standing)> {
    cluster.hosts.iter().filter_map(move |host| {
        let standing = host.standing.as_ref()?;
        Some((cluster, address_text(&host.address), host, standing))
    })
}
