//! A TCP proxy as it lives: its configuration with everything resolved.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Name;
use crate::config::filter_chain::Allowance;
use crate::config::subset::Criteria;
use crate::config::tcp_proxy::TcpProxy;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::TcpStats;
use crate::upstream::ClusterHandle;

/// A TCP proxy as it lives.
#[derive(Debug)]
pub struct TcpManager {
    /// As configured.
    pub config: Arc<TcpProxy>,
    /// Its counters.
    pub stats: Arc<TcpStats>,
    /// What it writes.
    pub loggers: Vec<Logger>,
    /// What its listener lets each connection have.
    pub allowance: Allowance,
    /// In the order of the configuration; none where the snapshot has no such cluster.
    clusters: ArcSwap<Vec<Option<ClusterHandle>>>,
    /// Sum of all weights.
    total: u64,
}

impl TcpManager {
    /// Resolves what `config` names.
    pub fn new(
        config: Arc<TcpProxy>,
        resolve: impl Fn(&Name) -> Option<ClusterHandle>,
        (stats, loggers): (Arc<TcpStats>, Vec<Logger>),
        allowance: Allowance,
    ) -> Self {
        Self {
            clusters: ArcSwap::from_pointee(resolved(&config, resolve)),
            total: config
                .clusters
                .iter()
                .map(|choice| u64::from(choice.weight))
                .sum(),
            config,
            stats,
            loggers,
            allowance,
        }
    }

    /// Follows clusters that came or went. Called by `apply`.
    pub fn resolve_again(&self, resolve: impl Fn(&Name) -> Option<ClusterHandle>) {
        let before = self.clusters.load();
        let now = resolved(&self.config, resolve);
        let is_same = before.iter().zip(&now).all(|pair| match pair {
            (Some(before), Some(now)) => before.is_same(now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        });
        if !is_same {
            self.clusters.store(Arc::new(now));
        }
    }

    /// The cluster of a new connection, by weight, and what is asked of its member.
    pub fn choose(&self, random: u64) -> Option<(ClusterHandle, Option<Arc<Criteria>>)> {
        let mut point = random.checked_rem(self.total)?;
        let place = self.config.clusters.iter().position(|choice| {
            let weight = u64::from(choice.weight);
            let is_here = point < weight;
            point = point.saturating_sub(weight);
            is_here
        });
        let criteria = self.config.clusters.get(place?)?.criteria.clone();
        Some((self.clusters.load().get(place?)?.clone()?, criteria))
    }
}

fn resolved(
    config: &TcpProxy,
    resolve: impl Fn(&Name) -> Option<ClusterHandle>,
) -> Vec<Option<ClusterHandle>> {
    let choices = config.clusters.iter();
    choices.map(|choice| resolve(&choice.name)).collect()
}
