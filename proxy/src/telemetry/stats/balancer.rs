//! What balancers of clusters count, as Envoy does. A group is there only where there is something to count.

use std::sync::Arc;

use crate::telemetry::stats::ClusterStats;

stats! {
    /// Of the subsets of one cluster, among its other counters.
    pub struct SubsetStats(SubsetCells) in "lb_subsets" {
        level lb_subsets_active: "Subsets that have members, once for each thread.";
        counter lb_subsets_created: "Subsets made, once for each thread.";
        counter lb_subsets_removed: "Subsets that have no members any more, once for each thread.";
        counter lb_subsets_selected: "Choices made in the subset that was asked for.";
        counter lb_subsets_fallback: "Choices made in the fallback of the cluster.";
        counter lb_subsets_fallback_panic: "Choices made among all members because the fallback had nobody.";
    }
}

stats! {
    /// Of the zone-aware routing of one cluster, among its other counters.
    pub struct ZoneStats(ZoneCells) in "lb_zone" {
        counter lb_recalculate_zone_structures: "Times shares of zones were computed, once for each thread.";
        counter lb_local_cluster_not_ok: "Computations and choices for which zones did not count because of the local cluster.";
        counter lb_zone_cluster_too_small: "Computations by which zones do not count because there are few members, once for each thread.";
        counter lb_zone_routing_all_directly: "Choices made in the zone of the proxy, which takes everything.";
        counter lb_zone_routing_sampled: "Choices made in the zone of the proxy, which takes a part.";
        counter lb_zone_routing_cross_zone: "Choices made in other zones.";
        counter lb_zone_no_capacity_left: "Choices made in any zone because none had anything left.";
    }
}

/// What the balancer of one cluster counts.
#[derive(Debug)]
pub struct BalancerStats {
    /// Among the cluster's own.
    pub cluster: Arc<ClusterStats>,
    /// There if members are divided.
    pub subsets: Option<Arc<SubsetStats>>,
    /// There if requests may go by zones.
    pub zones: Option<Arc<ZoneStats>>,
    /// Threads that have a balancer of their own in Envoy: the workers and the control side. Here they share one,
    /// but a dashboard is made for the numbers of Envoy.
    pub threads: usize,
}

impl BalancerStats {
    /// Of a cluster without subsets and zones.
    #[must_use]
    pub fn plain(cluster: Arc<ClusterStats>, workers: usize) -> Self {
        Self {
            cluster,
            subsets: None,
            zones: None,
            threads: workers + 1,
        }
    }

    /// Subsets came and went, so that there are so many now.
    pub(crate) fn count_subsets(&self, created: usize, removed: usize, active: usize) {
        let Some(stats) = &self.subsets else {
            return;
        };
        let each = |count: usize| count.saturating_mul(self.threads);
        stats.lb_subsets_created().add(each(created) as u64);
        stats.lb_subsets_removed().add(each(removed) as u64);
        stats.lb_subsets_active().set_count(each(active));
    }
}
