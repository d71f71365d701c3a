//! Zone-aware routing: requests stay in the zone of the proxy as far as that is fair to the members.

use crate::config::Name;
use crate::config::endpoint::Locality;

/// Envoy's default for `min_cluster_size`.
const CLUSTER_SIZE_MIN: u64 = 6;

/// Where the proxy is (`node.locality`), and which cluster its like are the members of
/// (`cluster_manager.local_cluster_name`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Region, zone and sub-zone; without it nothing is routed by zones.
    pub locality: Option<Locality>,
    /// The cluster's name.
    pub cluster: Name,
}

/// What a cluster says of it (`ZoneAwareLbConfig`); without a [`Home`] it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// Percent of the requests it is for, at most 100.
    pub enabled_percent: u32,
    /// It is not done with fewer healthy members.
    pub cluster_size_min: u64,
    /// With so many healthy members in the proxy's own zone, these take all.
    pub forced_from: Option<u32>,
    /// Members count by their weights.
    pub by_weight: bool,
}

impl Default for ZoneAware {
    /// As it is with Envoy where nothing is said, and a local cluster is there.
    fn default() -> Self {
        Self {
            enabled_percent: 100,
            cluster_size_min: CLUSTER_SIZE_MIN,
            forced_from: None,
            by_weight: false,
        }
    }
}
