//! Changes of a cluster: of its members, its policy, its configuration. Each makes a new value, and swaps it in
//! whole.

use std::sync::Arc;

use super::ClusterHandle;
use super::Kept;
use super::UpstreamCluster;
use super::kept_outcomes;
use crate::config;
use crate::config::Endpoints;
use crate::config::endpoint::Address;
use crate::telemetry::stats::BalancerStats;
use crate::upstream::departure;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Drained;
use crate::upstream::health::Care;
use crate::upstream::transport::Transports;

impl ClusterHandle {
    /// Changes the members only; those that stay keep their connections. Called by `apply`.
    pub fn set_endpoints(&self, endpoints: Arc<Endpoints>) {
        self.renew(endpoints, |old, endpoints, drained| {
            old.with_endpoints(endpoints, drained)
        });
    }

    /// Drains a member, or takes it back; it stays so while it is a member. What runs on it has the
    /// drain time to end.
    ///
    /// # Errors
    /// It is no member, or there is nothing to take back; in a sentence.
    pub fn set_drained(&self, address: &Address, drain: bool) -> Result<(), String> {
        let mut drained = self.0.drained();
        let endpoints = Arc::clone(&self.load().endpoints);
        let known = departure::addresses(&endpoints);
        if !known.into_iter().any(|known| known == address) {
            let name = self.name();
            return Err(format!("cluster {name:?} has no endpoint at this address"));
        }
        if drain {
            drained.insert(address.clone())?;
        } else if !drained.remove(address) {
            return Err("the endpoint is not drained".to_owned());
        }
        let old = self.load_full();
        self.swap(
            &old,
            old.with_endpoints(endpoints, &drained),
            Cause::Drained,
        );
        Ok(())
    }

    /// Members that are drained by hand.
    pub fn drained(&self) -> Vec<Address> {
        self.0.drained().iter().cloned().collect()
    }

    /// Changes how members are chosen and how much may be on its way, and nothing else: connections,
    /// health and what was learned of latency stay. Called by `apply`.
    pub fn set_policy(
        &self,
        config: Arc<config::Cluster>,
        endpoints: Arc<Endpoints>,
        stats: Arc<BalancerStats>,
    ) {
        self.renew(endpoints, |old, endpoints, drained| {
            let kept = Kept {
                drained,
                care: old.care.clone(),
                zone: old.zone.clone(),
                previous: Some(&old.hosts),
                stats,
            };
            UpstreamCluster::new(config, Arc::clone(&old.transports), endpoints, kept)
        });
    }

    /// Members that were found unfit take no load from now on, those that are fit again do. Called by
    /// the health checks.
    pub fn refresh_health(&self) {
        let drained = self.0.drained();
        let old = self.load_full();
        let new = old.with_endpoints(Arc::clone(&old.endpoints), &drained);
        self.replace(&old, new); // nobody has come or gone
    }

    /// Changes the configuration; connections made under the old one are not used again. Called by
    /// `apply`.
    pub fn set_config(
        &self,
        (config, care): (Arc<config::Cluster>, Option<Arc<Care>>),
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        stats: Arc<BalancerStats>,
    ) {
        self.renew(endpoints, |old, endpoints, drained| {
            let kept = Kept {
                drained,
                care,
                zone: old.zone.clone(),
                previous: None,
                stats,
            };
            UpstreamCluster::new(config, transports, endpoints, kept)
        });
    }

    /// Becomes what `warm` is, whose members were checked, with the members of now. Called by `apply`.
    pub fn become_warm(&self, warm: &Self, endpoints: Arc<Endpoints>, stats: Arc<BalancerStats>) {
        let warm = warm.load_full();
        self.renew(endpoints, |_, endpoints, drained| {
            let kept = Kept {
                drained,
                care: warm.care.clone(),
                zone: warm.zone.clone(),
                previous: Some(&warm.hosts),
                stats,
            };
            let config = Arc::clone(&warm.config);
            UpstreamCluster::new(config, Arc::clone(&warm.transports), endpoints, kept)
        });
    }

    /// Becomes what `make` makes of what it is, with these members and those of them that are drained.
    fn renew(
        &self,
        endpoints: Arc<Endpoints>,
        make: impl FnOnce(&UpstreamCluster, Arc<Endpoints>, &Drained) -> UpstreamCluster,
    ) {
        let mut drained = self.0.drained();
        drained.follow(&endpoints);
        let old = self.load_full();
        let new = make(&old, endpoints, &drained);
        self.swap(&old, new, Cause::Removed);
    }

    /// Says that the cluster is no longer part of the configuration. Called by `apply`.
    pub fn retire(&self) {
        let current = self.load();
        let moves = current.hosts.retire(None, self.0.cut_at());
        self.set_fallback(None); // two may have had each other
        self.0.tell(&current.config, moves, Cause::Removed);
    }

    fn swap(&self, old: &UpstreamCluster, new: UpstreamCluster, cause: Cause) {
        let new = self.replace(old, new);
        let moves = old.hosts.retire(Some(&new.hosts), self.0.cut_at());
        self.0.tell(&new.config, moves, cause);
        self.0.stats.membership_change().inc();
    }

    /// The swap alone, where the members are the same.
    pub(super) fn replace(
        &self,
        old: &UpstreamCluster,
        new: UpstreamCluster,
    ) -> Arc<UpstreamCluster> {
        debug_assert_eq!(old.config.name, new.config.name);
        count_subsets(Some(old), &new);
        self.0.inform(&new);
        self.0.breakers.configure(new.config.circuit_breakers);
        let outcomes = kept_outcomes(&new.config, old.outcomes.as_ref());
        let new = Arc::new(UpstreamCluster { outcomes, ..new });
        self.0.current.store(Arc::clone(&new));
        self.0.record_membership();
        self.0.changed.notify_one();
        new
    }
}

/// With another configuration all subsets are others, as with Envoy.
pub(super) fn count_subsets(old: Option<&UpstreamCluster>, new: &UpstreamCluster) {
    match old {
        Some(old) if Arc::ptr_eq(&old.config, &new.config) => {
            new.hosts.count_subsets(Some(&old.hosts), &new.stats);
        }
        Some(old) => {
            let gone = old.hosts.subsets();
            old.stats.count_subsets(0, gone, 0);
            new.hosts.count_subsets(None, &new.stats);
        }
        None => new.hosts.count_subsets(None, &new.stats),
    }
}
