//! Live clusters by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::Snapshot;
use crate::config::outcome_breaker::Fallback;
use crate::telemetry::stats::BalancerStats;
use crate::telemetry::stats::Registry;
use crate::upstream::ClusterHandle;
use crate::upstream::departure::Departures;
use crate::upstream::health::Care;
use crate::upstream::health::Monitor;
use crate::upstream::health::Watched;
use crate::upstream::transport::Transport;
use crate::upstream::transport::Transports;
use crate::upstream::zone::Zone;
use crate::xds::resource::CheckQuery;

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
    /// Where the proxy is, if it was said.
    zone: Option<Arc<Zone>>,
    /// Those whose members are checked before anybody uses them.
    warming: BTreeMap<Name, ClusterHandle>,
    monitor: Monitor,
}

impl Clusters {
    pub(super) fn new(registry: Arc<Registry>, workers: usize, monitor: Monitor) -> Self {
        Self {
            registry,
            workers,
            secrets: Arc::default(),
            live: BTreeMap::new(),
            following: Vec::new(),
            departures: None,
            zone: None,
            warming: BTreeMap::new(),
            monitor,
        }
    }

    /// New clusters tell of hosts that leave.
    pub(super) fn tell(&mut self, departures: Arc<Departures>) {
        self.departures = Some(departures);
    }

    /// New clusters know where the proxy is.
    pub(super) fn stand_in(&mut self, zone: Arc<Zone>) {
        self.zone = Some(zone);
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

    /// Makes every cluster of `snapshot` live, as it is there. Returns the transports that trust others
    /// now.
    pub(super) fn add(&mut self, snapshot: &Snapshot) -> Vec<Arc<Transport>> {
        let trusting = self.set_secrets(&snapshot.secrets);
        let empty = Arc::new(Endpoints::default());
        for (name, config) in &snapshot.clusters {
            let endpoints = snapshot.endpoints.get(name).unwrap_or(&empty);
            let warm = self.take_warm(name, config, endpoints);
            match self.live.get(name) {
                Some(cluster) => match warm {
                    Some(warm) => {
                        cluster.become_warm(&warm, Arc::clone(endpoints), self.stats(config));
                    }
                    None => self.update(cluster, config, endpoints),
                },
                None => {
                    let stats = self.stats(config);
                    let handle = match warm {
                        Some(warm) => warm.counting(stats),
                        None => self.handle(config, endpoints, &self.secrets, stats),
                    };
                    let handle = match &self.departures {
                        Some(departures) => handle.telling(departures),
                        None => handle,
                    };
                    self.live.insert(Arc::clone(name), handle);
                    self.registry.cluster_manager().cluster_added().inc();
                }
            }
        }
        self.set_fallbacks();
        self.record();
        trusting
    }

    /// Tells every cluster who takes what its breaker refuses.
    fn set_fallbacks(&self) {
        for cluster in self.live.values() {
            let current = cluster.load();
            let breaker = current.config.outcome_breaker.as_ref();
            let name = breaker.and_then(|breaker| match &breaker.fallback {
                Some(Fallback::Cluster(name)) => Some(name),
                Some(Fallback::Answer { .. }) | None => None,
            });
            cluster.set_fallback(name.and_then(|name| self.live.get(name)).cloned());
        }
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
        self.set_fallbacks();
        self.record();
    }

    /// Handshakes of all clusters use these secrets from now on; connections made with others are
    /// not used again. Returns the transports that trust others now.
    pub(super) fn set_secrets(&mut self, secrets: &Arc<Secrets>) -> Vec<Arc<Transport>> {
        self.secrets = Arc::clone(secrets);
        let all = self.live.values().chain(self.warming.values());
        all.map(ClusterHandle::load)
            .flat_map(|cluster| cluster.transports.refresh(secrets))
            .collect()
    }

    /// Has the members of these clusters checked, and of no others that are not live.
    pub(super) fn warm(&mut self, queries: &[CheckQuery]) {
        let mut old = std::mem::take(&mut self.warming);
        for query in queries {
            let (name, endpoints) = (&query.cluster.name, &query.endpoints);
            let is_same = |warm: &ClusterHandle| Arc::ptr_eq(&warm.load().config, &query.cluster);
            let handle = match old.remove(name).filter(is_same) {
                Some(warm) => {
                    bring_members(&warm, endpoints);
                    warm
                }
                None => {
                    let stats = self.registry.cluster(&query.cluster.stat_name);
                    let stats = Arc::new(BalancerStats::plain(stats, self.workers));
                    self.handle(&query.cluster, endpoints, &query.secrets, stats)
                }
            };
            self.warming.insert(Arc::clone(name), handle);
        }
        self.look_after();
    }

    /// The cluster whose members were checked, if it is the one that becomes live.
    fn take_warm(
        &mut self,
        name: &Name,
        config: &Arc<config::Cluster>,
        endpoints: &Arc<Endpoints>,
    ) -> Option<ClusterHandle> {
        let warm = self.warming.get(name)?;
        if !Arc::ptr_eq(&warm.load().config, config) {
            return None;
        }
        bring_members(warm, endpoints);
        self.warming.remove(name)
    }

    fn handle(
        &self,
        config: &Arc<config::Cluster>,
        endpoints: &Arc<Endpoints>,
        secrets: &Secrets,
        stats: Arc<BalancerStats>,
    ) -> ClusterHandle {
        let handle = ClusterHandle::with_care(
            (Arc::clone(config), self.care(config)),
            self.transports(config, secrets),
            Arc::clone(endpoints),
            stats,
            self.workers,
        );
        match &self.zone {
            Some(zone) => handle.in_zone(zone),
            None => handle,
        }
    }

    /// What the balancer of a live cluster counts. One that warms counts nothing of this yet.
    fn stats(&self, config: &config::Cluster) -> Arc<BalancerStats> {
        let (name, balancing) = (&config.stat_name, &config.load_balancing);
        let subsets = || self.registry.cluster_subsets(name);
        let zone = self.zone.as_ref().filter(|zone| !zone.is_of(&config.name));
        let goes_by_zones = zone.is_some() && balancing.policy.knows_zones();
        Arc::new(BalancerStats {
            subsets: balancing.subsets.as_ref().map(|_| subsets()),
            zones: goes_by_zones.then(|| self.registry.cluster_zones(name)),
            ..BalancerStats::plain(self.registry.cluster(name), self.workers)
        })
    }

    /// How unfit members are found, if the cluster asks for it.
    fn care(&self, config: &config::Cluster) -> Option<Arc<Care>> {
        let health = &config.health;
        if health.check.is_none() && health.outlier.is_none() {
            return None;
        }
        let checks = || self.registry.cluster_checks(&config.stat_name);
        let checks = health.check.as_ref().map(|_| checks());
        let outliers = || self.registry.cluster_outliers(&config.stat_name);
        let outliers = health.outlier.as_ref().map(|_| outliers());
        Some(Arc::new(Care::new(health.clone(), checks, outliers)))
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
            let stats = self.stats(config);
            if config.has_members_of(&current.config) {
                cluster.set_policy(Arc::clone(config), Arc::clone(endpoints), stats);
                return;
            }
            let transports = self.transports(config, &self.secrets);
            let config = (Arc::clone(config), self.care(config));
            cluster.set_config(config, transports, Arc::clone(endpoints), stats);
        } else {
            bring_members(cluster, endpoints);
        }
    }

    fn transports(&self, config: &config::Cluster, secrets: &Secrets) -> Arc<Transports> {
        let stats = || self.registry.cluster_tls(&config.stat_name);
        Arc::new(Transports::new(config, secrets, stats))
    }

    fn record(&mut self) {
        let follows = |cluster: &&ClusterHandle| {
            let current = cluster.load();
            current.config.load_balancing.has_feedback()
        };
        self.following = self.live.values().filter(follows).cloned().collect();
        self.registry
            .cluster_manager()
            .active_clusters()
            .set_count(self.live.len());
        self.look_after();
    }

    /// Tells the monitor whom to look after.
    fn look_after(&mut self) {
        let has_care = |cluster: &&ClusterHandle| cluster.load().care.is_some();
        let watched = |is_warming| {
            move |cluster: &ClusterHandle| Watched {
                cluster: cluster.clone(),
                is_warming,
            }
        };
        let live = self.live.values().filter(has_care).map(watched(false));
        let warming = self.warming.values().map(watched(true));
        self.monitor.watch(live.chain(warming).collect());
    }

    /// Ends the health checks.
    pub(super) fn stop(self) {
        self.monitor.stop();
    }
}

fn bring_members(cluster: &ClusterHandle, endpoints: &Arc<Endpoints>) {
    let current = cluster.load_full();
    if !Arc::ptr_eq(&current.endpoints, endpoints) && current.endpoints != *endpoints {
        cluster.set_endpoints(Arc::clone(endpoints));
    }
}
