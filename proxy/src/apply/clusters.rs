//! Live clusters by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::Snapshot;
use crate::telemetry::stats::Registry;
use crate::upstream::ClusterHandle;
use crate::upstream::departure::Departures;
use crate::upstream::transport::Transports;

/// Live clusters by name.
#[derive(Debug)]
pub(super) struct Clusters {
    registry: Arc<Registry>,
    workers: usize,
    secrets: Arc<Secrets>,
    live: BTreeMap<Name, ClusterHandle>,
    /// Those whose weights follow latency.
    following: Vec<ClusterHandle>,
    /// Where hosts that leave are told.
    departures: Option<Arc<Departures>>,
}

/// Whether members are the same and only chosen otherwise, or may be asked more or less at once. One that counts the requests of the whole
/// cluster counts them from the first on.
fn has_other_policy_only(old: &config::Cluster, new: &config::Cluster) -> bool {
    let counts_all = |config: &config::Cluster| {
        let hashing = config.load_balancing.policy.hashing();
        hashing.is_some_and(|hashing| hashing.balance_factor.is_some())
    };
    let same = config::Cluster {
        circuit_breakers: new.circuit_breakers,
        load_balancing: new.load_balancing.clone(),
        ..old.clone()
    };
    same == *new && counts_all(old) == counts_all(new)
}

impl Clusters {
    pub(super) fn new(registry: Arc<Registry>, workers: usize) -> Self {
        Self {
            registry,
            workers,
            secrets: Arc::default(),
            live: BTreeMap::new(),
            following: Vec::new(),
            departures: None,
        }
    }

    /// New clusters tell of hosts that leave.
    pub(super) fn tell(&mut self, departures: Arc<Departures>) {
        self.departures = Some(departures);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ClusterHandle> {
        self.live.values()
    }

    /// Those whose weights follow latency.
    pub(super) fn following(&self) -> &[ClusterHandle] {
        &self.following
    }

    pub(super) fn get(&self, name: &str) -> Option<&ClusterHandle> {
        self.live.get(name)
    }

    /// Makes every cluster of `snapshot` live, as it is there.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        self.set_secrets(&snapshot.secrets);
        let empty = Arc::new(Endpoints::default());
        for (name, config) in &snapshot.clusters {
            let endpoints = snapshot.endpoints.get(name).unwrap_or(&empty);
            match self.live.get(name) {
                Some(cluster) => self.update(cluster, config, endpoints),
                None => {
                    let stats = self.registry.cluster(&config.stat_name);
                    let handle = ClusterHandle::new(
                        Arc::clone(config),
                        self.transports(config),
                        Arc::clone(endpoints),
                        stats,
                        self.workers,
                    );
                    let handle = match &self.departures {
                        Some(departures) => handle.telling(departures),
                        None => handle,
                    };
                    self.live.insert(Arc::clone(name), handle);
                    self.registry.cluster_manager().cluster_added().inc();
                }
            }
        }
        self.record();
    }

    /// Ends the clusters that are not in `snapshot`.
    pub(super) fn remove(&mut self, snapshot: &Snapshot) {
        self.live.retain(|name, cluster| {
            let stays = snapshot.clusters.contains_key(name);
            if !stays {
                cluster.retire();
                self.registry.cluster_manager().cluster_removed().inc();
            }
            stays
        });
        self.record();
    }

    /// Handshakes of all clusters use these secrets from now on; connections made with others are
    /// not used again.
    pub(super) fn set_secrets(&mut self, secrets: &Arc<Secrets>) {
        self.secrets = Arc::clone(secrets);
        for cluster in self.live.values() {
            cluster.load().transports.refresh(secrets);
        }
    }

    /// Changes the members of one cluster.
    pub(super) fn set_endpoints(&self, name: &str, endpoints: &Arc<Endpoints>) {
        if let Some(cluster) = self.live.get(name) {
            cluster.set_endpoints(Arc::clone(endpoints));
            self.registry.cluster_manager().cluster_updated().inc();
        }
    }

    fn update(
        &self,
        cluster: &ClusterHandle,
        config: &Arc<config::Cluster>,
        endpoints: &Arc<Endpoints>,
    ) {
        let current = cluster.load();
        if !Arc::ptr_eq(&current.config, config) && current.config != *config {
            if has_other_policy_only(&current.config, config) {
                cluster.set_policy(Arc::clone(config), Arc::clone(endpoints));
                return;
            }
            let transports = self.transports(config);
            cluster.set_config(Arc::clone(config), transports, Arc::clone(endpoints));
        } else if !Arc::ptr_eq(&current.endpoints, endpoints) && current.endpoints != *endpoints {
            cluster.set_endpoints(Arc::clone(endpoints));
        }
    }

    fn transports(&self, config: &config::Cluster) -> Arc<Transports> {
        let stats = || self.registry.cluster_tls(&config.stat_name);
        Arc::new(Transports::new(config, &self.secrets, stats))
    }

    fn record(&mut self) {
        let follows = |cluster: &&ClusterHandle| {
            let current = cluster.load();
            current.config.load_balancing.policy.latency().is_some()
        };
        self.following = self.live.values().filter(follows).cloned().collect();
        self.registry
            .cluster_manager()
            .active_clusters()
            .set_count(self.live.len());
    }
}
