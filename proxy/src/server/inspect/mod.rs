//! What the admin server, and whoever embeds the proxy, can see of it.
//!
//! | file | holds |
//! |---|---|
//! | `inspector` | what the admin server asks |
//! | `views` | live state in its words |

mod inspector;
mod views;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use xds_proto::pb::google::protobuf::Any;

use crate::admin::DepartingView;
use crate::apply::Applier;
use crate::bootstrap::Bootstrap;
use crate::config::endpoint::Address;
use crate::listener::ActiveListener;
use crate::server::Options;
use crate::server::clock;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::GroupList;
use crate::telemetry::stats::Registry;
use crate::upstream::Breakers;
use crate::upstream::ClusterHandle;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Departures;
use crate::xds::resource::ResourceType;
use crate::xds::status::TypeStatus;
use crate::xds::status::XdsStatus;

pub(in crate::server) use inspector::Inspector;

/// The live state of a running proxy, for readers on any thread.
#[derive(Debug)]
pub struct Live {
    /// Counters.
    pub registry: Arc<Registry>,
    /// The conversation with the control plane.
    pub xds: Arc<XdsStatus>,
    logs: Arc<AccessLogWriter>,
    started: Instant,
    draining: AtomicBool,
    /// The configuration needed to start is not only there but applied.
    caught_up: AtomicBool,
    asked: watch::Sender<Asked>,
    pub(in crate::server) departures: Arc<Departures>,
    applied: Mutex<Applied>,
    /// What [`Live::record_xds`] has counted already.
    recorded: Mutex<BTreeMap<ResourceType, TypeStatus>>,
    /// Told whenever something was applied.
    applied_signal: watch::Sender<u64>,
    admin_address: Mutex<Option<SocketAddr>>,
    node: Value,
    command_line: Value,
    statics: Mutex<Arc<Statics>>,
}

/// What the admin interface asks the process to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Asked {
    Nothing,
    /// Close the listening sockets, and ask connections to finish.
    Drain,
    /// Ask connections to finish, and close the listening sockets after the drain time.
    DrainGracefully,
    Quit,
}

/// What was applied last.
#[derive(Debug, Default)]
struct Applied {
    clusters: Vec<ClusterHandle>,
    listeners: Vec<Arc<ActiveListener>>,
}

#[derive(Debug)]
struct Statics {
    read: SystemTime,
    bootstrap: Any,
    clusters: Vec<(String, Any)>,
    listeners: Vec<(String, Any)>,
    secrets: Vec<(String, Any)>,
}

impl Live {
    pub(in crate::server) fn new(
        bootstrap: &Bootstrap,
        options: &Options,
        (registry, logs): (Arc<Registry>, Arc<AccessLogWriter>),
        asked: watch::Sender<Asked>,
    ) -> Self {
        let departures = Departures::new(Arc::clone(&registry), options.drain_time);
        Self {
            departures: Arc::new(departures),
            registry,
            logs,
            xds: Arc::default(),
            started: Instant::now(),
            draining: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            asked,
            applied: Mutex::default(),
            recorded: Mutex::default(),
            applied_signal: watch::Sender::new(0),
            admin_address: Mutex::default(),
            node: serde_json::json!({ "id": &*bootstrap.node_id, "cluster": &*bootstrap.node_cluster }),
            command_line: options.command_line.clone(),
            statics: Mutex::new(Arc::new(Statics::new(bootstrap))),
        }
    }

    /// The bootstrap was read again.
    pub(in crate::server) fn replace_statics(&self, bootstrap: &Bootstrap) {
        let statics = Arc::new(Statics::new(bootstrap));
        *self.statics.lock().unwrap_or_else(PoisonError::into_inner) = statics;
    }

    fn statics(&self) -> Arc<Statics> {
        Arc::clone(&self.statics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the admin interface really listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        *self
            .admin_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a listener really listens, once it does.
    pub fn listener_address(&self, name: &str) -> Option<Address> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied
            .listeners
            .iter()
            .find(|listener| &*listener.name == name)
            .and_then(|listener| listener.addresses.first().cloned())
    }

    /// Listeners that accept.
    pub fn listener_count(&self) -> usize {
        self.applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .listeners
            .len()
    }

    /// Opens the access logs anew, after a rotation.
    pub fn reopen_logs(&self) {
        self.logs.reopen();
    }

    /// Whether traffic may come.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && self.is_caught_up()
    }

    /// Changes whenever configuration was applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied_signal.subscribe()
    }

    pub(in crate::server) fn set_admin_address(&self, address: Option<SocketAddr>) {
        *self
            .admin_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(in crate::server) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Called between two changes: everything taken so far is applied.
    pub(in crate::server) fn catch_up(&self, nothing_waits: impl FnOnce() -> bool) {
        // In this order: once the driver says so, all it had is in the channel or was taken out.
        if !self.is_caught_up() && self.xds.is_initialized() && nothing_waits() {
            self.caught_up.store(true, Ordering::Release);
            self.applied_signal.send_modify(|count| *count += 1);
        }
    }

    pub(in crate::server) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The limits of all clusters and how they stand, for the metrics.
    pub(in crate::server) fn breakers(&self) -> GroupList {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = applied.clusters.iter().map(|cluster| {
            let group: Arc<dyn Group> = Arc::<Breakers>::clone(cluster.breakers());
            (Arc::clone(&cluster.load().config.stat_name), group)
        });
        groups_of_clusters(instances.collect())
    }

    /// The breakers of all clusters that look at outcomes, for the metrics.
    pub(in crate::server) fn outcomes(&self) -> GroupList {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = applied.clusters.iter().filter_map(|cluster| {
            let group: Arc<dyn Group> = cluster.outcomes()?;
            Some((Arc::clone(&cluster.load().config.stat_name), group))
        });
        groups_of_clusters(instances.collect())
    }

    pub(in crate::server) fn publish(&self, applier: &Applier) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.clusters = applier.clusters().cloned().collect();
        applied.listeners = applier.listeners().cloned().collect();
        drop(applied);
        self.applied_signal.send_modify(|count| *count += 1);
    }

    /// Brings the counters of the xDS client up to what it says; called about once a second.
    pub(in crate::server) fn record_xds(&self) {
        let facts = self.xds.facts();
        let connected = i64::from(facts.connected_state);
        self.registry
            .control_plane()
            .connected_state()
            .set(connected);
        let control_plane = self.registry.control_plane();
        let stale = facts.stale_since.map(views::age).unwrap_or_default();
        let seconds = i64::try_from(stale.as_secs()).unwrap_or(i64::MAX);
        control_plane.stale_seconds().set(seconds);
        control_plane
            .serving_kept_config()
            .set(i64::from(facts.is_restored));
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        for (resource_type, stats) in [
            (ResourceType::Cluster, self.registry.cds()),
            (ResourceType::Listener, self.registry.lds()),
            (ResourceType::Secret, self.registry.sds()),
        ] {
            let before = recorded.remove(&resource_type).unwrap_or_default();
            let now = facts.types.get(&resource_type).cloned().unwrap_or_default();
            let came = |count: fn(&TypeStatus) -> u64| count(&now) - count(&before);
            stats.update_attempt().add(came(|of| of.update_attempt));
            stats.update_success().add(came(|of| of.update_success));
            stats.update_failure().add(came(|of| of.update_failure));
            stats.update_rejected().add(came(|of| of.update_rejected));
            let timeouts = came(|of| of.init_fetch_timeout);
            stats.init_fetch_timeout().add(timeouts);
            let since_1970 = now
                .update_time
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let millis = since_1970.and_then(|since| i64::try_from(since.as_millis()).ok());
            stats.update_time().set(millis.unwrap_or(0));
            recorded.insert(resource_type, now);
        }
    }

    /// Nobody listens any more if it is stopping already.
    fn ask(&self, asked: Asked) {
        let _ = self.asked.send(asked);
    }

    fn cluster(&self, name: &str) -> Option<ClusterHandle> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clusters = applied.clusters.iter();
        clusters.find(|cluster| &**cluster.name() == name).cloned()
    }

    /// Hosts that have left and are not done, and those that are drained by hand.
    fn departing(&self) -> Vec<DepartingView> {
        let mut views: Vec<DepartingView> = self
            .departures
            .busy()
            .iter()
            .map(views::departing)
            .collect();
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let clusters = applied.clusters.clone();
        drop(applied);
        for cluster in clusters {
            for address in cluster.drained() {
                let name = cluster.name();
                let is_known = |view: &DepartingView| {
                    view.cluster == **name
                        && view.address == address
                        && view.cause == Cause::Drained
                };
                if !views.iter().any(is_known) {
                    views.push(DepartingView {
                        cluster: name.to_string(),
                        address,
                        cause: Cause::Drained,
                        connections: 0,
                        requests: 0,
                        left: Duration::ZERO,
                    });
                }
            }
        }
        views
    }

    fn is_static(&self, name: &str) -> bool {
        self.statics()
            .clusters
            .iter()
            .any(|(known, _)| known == name)
    }
}

/// Sorted, and each name once, as one series has one value.
pub(in crate::server) fn groups_of_clusters(
    mut instances: Vec<(Arc<str>, Arc<dyn Group>)>,
) -> GroupList {
    instances.sort_by(|(left, _), (right, _)| left.cmp(right));
    instances.dedup_by(|(left, _), (right, _)| left == right);
    GroupList {
        scope: ClusterStats::scope(),
        instances,
    }
}

impl Statics {
    fn new(bootstrap: &Bootstrap) -> Self {
        let clusters = bootstrap
            .static_clusters
            .iter()
            .map(|c| (c.value.name.to_string(), c.raw.clone()));
        let listeners = bootstrap
            .static_listeners
            .iter()
            .map(|l| (l.value.name.to_string(), l.raw.clone()));
        let secrets = bootstrap
            .static_secrets
            .iter()
            .map(|(name, secret)| (name.to_string(), secret.raw.clone()));
        Self {
            read: clock(),
            bootstrap: bootstrap.raw.clone(),
            clusters: clusters.collect(),
            listeners: listeners.collect(),
            secrets: secrets.collect(),
        }
    }
}
