//! Requests that the control plane wanted dropped (`drop_overloads`), by what for: as lines, as JSON, as metrics.

use std::fmt::Display;

use serde_json::Value;
use serde_json::json;

use crate::admin::endpoint::weights::real;
use crate::admin::state::ClusterView;
use crate::config::Name;
use crate::telemetry::prometheus::Selection;
use crate::telemetry::prometheus::counters;

/// Of a cluster, for the lines of `/clusters`.
pub(super) fn text(dropped: &[(Name, u64)], line: &mut dyn FnMut(&str, &dyn Display)) {
    for (category, requests) in dropped {
        line(&format!("drop_overload::{category}"), requests);
    }
}

/// The same as JSON.
pub(super) fn json(dropped: &[(Name, u64)]) -> Value {
    let each = dropped
        .iter()
        .map(|(category, requests)| json!({"category": &**category, "requests": requests}));
    each.collect()
}

/// Appends a counter for each category whose name, as in `cluster.NAME.rq_drop_overload.CATEGORY`, is selected.
pub(super) fn render(clusters: &[ClusterView], selection: &Selection, out: &mut String) {
    let each = clusters.iter().flat_map(|cluster| {
        let dropped = cluster.dropped.iter();
        dropped.map(|(category, requests)| (&*cluster.name, &**category, *requests))
    });
    let selected = each.filter(|(cluster, category, _)| {
        let dotted = || format!("cluster.{cluster}.rq_drop_overload.{category}");
        let filter = selection.filter.as_ref();
        filter.is_none_or(|filter| filter.is_match(&dotted()))
    });
    let labelled: Vec<_> = selected
        .map(|(cluster, category, requests)| {
            let labels = [("envoy_cluster_name", cluster), ("category", category)];
            (labels, real(requests))
        })
        .collect();
    let samples = labelled
        .iter()
        .map(|(labels, value)| (labels.as_slice(), *value));
    counters(
        "weir_cluster_rq_drop_overload",
        "Requests not sent because the control plane wanted them dropped, by what for.",
        samples,
        out,
    );
}
