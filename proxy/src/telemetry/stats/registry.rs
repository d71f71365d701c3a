//! The groups of a process, by kind and instance.
//!
//! Only the control side comes here: workers keep the handle they were built with. An instance that
//! nobody holds any more disappears from the listing; one that is asked for again while somebody
//! still holds it is the same, so that counters survive a change of configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use crate::telemetry::stats::AccessLogStats;
use crate::telemetry::stats::CertificateStats;
use crate::telemetry::stats::ClusterManagerStats;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::ConnectionLimitStats;
use crate::telemetry::stats::ControlPlaneStats;
use crate::telemetry::stats::DrainStats;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::HealthCheckStats;
use crate::telemetry::stats::HttpStats;
use crate::telemetry::stats::InspectorStats;
use crate::telemetry::stats::ListenerManagerStats;
use crate::telemetry::stats::ListenerStats;
use crate::telemetry::stats::OutlierStats;
use crate::telemetry::stats::OverloadActionStats;
use crate::telemetry::stats::OverloadResourceStats;
use crate::telemetry::stats::Scope;
use crate::telemetry::stats::ServerStats;
use crate::telemetry::stats::ShedPointStats;
use crate::telemetry::stats::SubscriptionStats;
use crate::telemetry::stats::SubsetStats;
use crate::telemetry::stats::TcpStats;
use crate::telemetry::stats::TlsStats;
use crate::telemetry::stats::ZoneStats;
use crate::telemetry::stats::group::Declared;

/// All groups of one kind at one moment.
#[derive(Debug)]
pub struct GroupList {
    /// Where their names live.
    pub scope: Scope,
    /// By instance name, ascending; the name is empty where there is only one.
    pub instances: Vec<(Arc<str>, Arc<dyn Group>)>,
}

/// Brings in groups that another component owns, for example the xDS client.
pub type Source = Box<dyn Fn() -> GroupList + Send + Sync>;

/// The groups of one process.
pub struct Registry {
    workers: usize,
    access_log: Arc<AccessLogStats>,
    cds: Arc<SubscriptionStats>,
    cluster_manager: Arc<ClusterManagerStats>,
    control_plane: Arc<ControlPlaneStats>,
    inspectors: InspectorStats,
    lds: Arc<SubscriptionStats>,
    listener_manager: Arc<ListenerManagerStats>,
    sds: Arc<SubscriptionStats>,
    server: Arc<ServerStats>,
    named: Mutex<Named>,
}

#[derive(Default)]
struct Named {
    certificates: Instances<CertificateStats>,
    clusters: Instances<ClusterStats>,
    cluster_drain: Instances<DrainStats>,
    cluster_checks: Instances<HealthCheckStats>,
    cluster_outliers: Instances<OutlierStats>,
    cluster_subsets: Instances<SubsetStats>,
    cluster_tls: Instances<TlsStats>,
    cluster_zones: Instances<ZoneStats>,
    connection_limits: Instances<ConnectionLimitStats>,
    http: Instances<HttpStats>,
    listeners: Instances<ListenerStats>,
    listener_tls: Instances<TlsStats>,
    overload_actions: Instances<OverloadActionStats>,
    overload_resources: Instances<OverloadResourceStats>,
    shed_points: Instances<ShedPointStats>,
    tcp: Instances<TcpStats>,
    sources: Vec<Source>,
}

impl Registry {
    /// For workers `0..workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let registry = Self {
            workers,
            access_log: Arc::new(Declared::with_workers(workers)),
            cds: Arc::new(Declared::with_workers(workers)),
            cluster_manager: Arc::new(Declared::with_workers(workers)),
            control_plane: Arc::new(Declared::with_workers(workers)),
            inspectors: InspectorStats {
                http: Arc::new(Declared::with_workers(workers)),
                proxy_protocol: Arc::new(Declared::with_workers(workers)),
                tls: Arc::new(Declared::with_workers(workers)),
            },
            lds: Arc::new(Declared::with_workers(workers)),
            listener_manager: Arc::new(Declared::with_workers(workers)),
            sds: Arc::new(Declared::with_workers(workers)),
            server: Arc::new(Declared::with_workers(workers)),
            named: Mutex::default(),
        };
        registry.server.concurrency().set_count(workers);
        registry
    }

    /// How many workers the groups are made for.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// The access log writer's.
    pub const fn access_log(&self) -> &Arc<AccessLogStats> {
        &self.access_log
    }

    /// The subscription to clusters.
    pub const fn cds(&self) -> &Arc<SubscriptionStats> {
        &self.cds
    }

    /// The listener filters'.
    pub const fn inspectors(&self) -> &InspectorStats {
        &self.inspectors
    }

    /// The subscription to listeners.
    pub const fn lds(&self) -> &Arc<SubscriptionStats> {
        &self.lds
    }

    /// The subscriptions to secrets, of all sources.
    pub const fn sds(&self) -> &Arc<SubscriptionStats> {
        &self.sds
    }

    /// The stream to the control plane.
    pub const fn control_plane(&self) -> &Arc<ControlPlaneStats> {
        &self.control_plane
    }

    /// The set of clusters'.
    pub const fn cluster_manager(&self) -> &Arc<ClusterManagerStats> {
        &self.cluster_manager
    }

    /// The set of listeners'.
    pub const fn listener_manager(&self) -> &Arc<ListenerManagerStats> {
        &self.listener_manager
    }

    /// The process's.
    pub const fn server(&self) -> &Arc<ServerStats> {
        &self.server
    }

    /// Of the certificate with this name.
    pub fn certificate(&self, name: &str) -> Arc<CertificateStats> {
        self.named().certificates.get(name, self.workers)
    }

    /// Of the cluster with this name.
    pub fn cluster(&self, name: &str) -> Arc<ClusterStats> {
        self.named().clusters.get(name, self.workers)
    }

    /// Of the hosts that leave the cluster with this name.
    pub fn cluster_drain(&self, name: &str) -> Arc<DrainStats> {
        self.named().cluster_drain.get(name, self.workers)
    }

    /// Of the health checks of the cluster with this name.
    pub fn cluster_checks(&self, name: &str) -> Arc<HealthCheckStats> {
        self.named().cluster_checks.get(name, self.workers)
    }

    /// Of the outlier detection of the cluster with this name.
    pub fn cluster_outliers(&self, name: &str) -> Arc<OutlierStats> {
        self.named().cluster_outliers.get(name, self.workers)
    }

    /// Of the subsets of the cluster with this name.
    pub fn cluster_subsets(&self, name: &str) -> Arc<SubsetStats> {
        self.named().cluster_subsets.get(name, self.workers)
    }

    /// Of the zone-aware routing of the cluster with this name.
    pub fn cluster_zones(&self, name: &str) -> Arc<ZoneStats> {
        self.named().cluster_zones.get(name, self.workers)
    }

    /// Of the TLS of the cluster with this name.
    pub fn cluster_tls(&self, name: &str) -> Arc<TlsStats> {
        self.named().cluster_tls.get(name, self.workers)
    }

    /// Of the connection limits with this `stat_prefix`.
    pub fn connection_limit(&self, stat_prefix: &str) -> Arc<ConnectionLimitStats> {
        let limits = &mut self.named().connection_limits;
        limits.get(stat_prefix, self.workers)
    }

    /// Of the HTTP connection managers with this `stat_prefix`.
    pub fn http(&self, stat_prefix: &str) -> Arc<HttpStats> {
        self.named().http.get(stat_prefix, self.workers)
    }

    /// Of the listener with this `stat_prefix`, or else this address.
    pub fn listener(&self, name: &str) -> Arc<ListenerStats> {
        self.named().listeners.get(name, self.workers)
    }

    /// Of the TLS of the listener with this address.
    pub fn listener_tls(&self, name: &str) -> Arc<TlsStats> {
        self.named().listener_tls.get(name, self.workers)
    }

    /// Of the action of the overload manager with this name.
    pub fn overload_action(&self, name: &str) -> Arc<OverloadActionStats> {
        self.named().overload_actions.get(name, self.workers)
    }

    /// Of the resource with this name.
    pub fn overload_resource(&self, name: &str) -> Arc<OverloadResourceStats> {
        self.named().overload_resources.get(name, self.workers)
    }

    /// Of the place with this name where load is shed.
    pub fn shed_point(&self, name: &str) -> Arc<ShedPointStats> {
        self.named().shed_points.get(name, self.workers)
    }

    /// Of the TCP proxies with this `stat_prefix`.
    pub fn tcp(&self, stat_prefix: &str) -> Arc<TcpStats> {
        self.named().tcp.get(stat_prefix, self.workers)
    }

    /// Lists what `source` gives from now on.
    pub fn add_source(&self, source: Source) {
        self.named().sources.push(source);
    }

    /// Everything there is.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupList> {
        let named = self.named();
        let mut all = vec![
            named.certificates.list(),
            named.clusters.list(),
            named.cluster_drain.list_among(ClusterStats::SCOPE),
            named.cluster_checks.list_among(ClusterStats::SCOPE),
            named.cluster_outliers.list_among(ClusterStats::SCOPE),
            named.cluster_subsets.list_among(ClusterStats::SCOPE),
            named.cluster_tls.list_among(ClusterStats::SCOPE),
            named.cluster_zones.list_among(ClusterStats::SCOPE),
            named.connection_limits.list(),
            named.http.list(),
            named.listeners.list(),
            named.listener_tls.list_among(ListenerStats::SCOPE),
            named.overload_actions.list(),
            named.overload_resources.list(),
            named.shed_points.list(),
            named.tcp.list(),
        ];
        all.extend(named.sources.iter().map(|source| source()));
        drop(named);
        all.extend([
            only(&self.access_log),
            only(&self.cluster_manager),
            only(&self.control_plane),
            only(&self.inspectors.http),
            only(&self.inspectors.proxy_protocol),
            only(&self.inspectors.tls),
            only(&self.listener_manager),
            only(&self.server),
            only_in("cluster_manager.cds", &self.cds),
            only_in("listener_manager.lds", &self.lds),
            only_in("sds", &self.sds),
        ]);
        all
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        // The maps are whole after every step, so a panic elsewhere does not spoil them.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Groups of one kind, as long as somebody else holds them.
struct Instances<S> {
    by_name: BTreeMap<Arc<str>, Weak<S>>,
    /// Size at which dead names are swept out next: twice what was left, so sweeping is amortized.
    sweep_at: usize,
}

impl<S> Default for Instances<S> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

/// Below this many names dead ones cost nothing worth a sweep.
const SWEEP_MIN: usize = 64;

impl<S: Declared> Instances<S> {
    fn get(&mut self, name: &str, workers: usize) -> Arc<S> {
        if let Some(alive) = self.by_name.get(name).and_then(Weak::upgrade) {
            return alive;
        }
        if self.by_name.len() >= self.sweep_at {
            self.by_name.retain(|_, stats| stats.strong_count() > 0);
            self.sweep_at = (self.by_name.len() * 2).max(SWEEP_MIN);
        }
        let new = Arc::new(S::with_workers(workers));
        self.by_name.insert(Arc::from(name), Arc::downgrade(&new));
        new
    }

    fn list(&self) -> GroupList {
        self.list_among(S::SCOPE)
    }

    fn list_among(&self, scope: Scope) -> GroupList {
        let alive = self.by_name.iter().filter_map(|(name, stats)| {
            let stats: Arc<dyn Group> = stats.upgrade()?;
            Some((Arc::clone(name), stats))
        });
        GroupList {
            scope,
            instances: alive.collect(),
        }
    }
}

fn only<S: Declared>(stats: &Arc<S>) -> GroupList {
    only_in(S::SCOPE.prefix, stats)
}

fn only_in<S: Declared>(prefix: &'static str, stats: &Arc<S>) -> GroupList {
    let stats: Arc<dyn Group> = Arc::<S>::clone(stats);
    let label = None;
    GroupList {
        scope: Scope { prefix, label },
        instances: vec![(Arc::from(""), stats)],
    }
}
