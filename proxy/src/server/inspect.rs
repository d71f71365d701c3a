//! What the admin server, and whoever embeds the proxy, can see of it.

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

use crate::admin::ClusterView;
use crate::admin::ConfigError;
use crate::admin::ConfigView;
use crate::admin::DepartingView;
use crate::admin::HostStats;
use crate::admin::HostView;
use crate::admin::Inspect;
use crate::admin::LimitView;
use crate::admin::ListenerView;
use crate::admin::OutcomeView;
use crate::admin::Readiness;
use crate::admin::ResourceState;
use crate::admin::ResourceView;
use crate::admin::Resources;
use crate::admin::ServerInfo;
use crate::admin::ServerState;
use crate::admin::ThresholdsView;
use crate::admin::TlsContextView;
use crate::apply::Applier;
use crate::bootstrap::Bootstrap;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::Thresholds;
use crate::config::endpoint;
use crate::config::endpoint::Address;
use crate::config::endpoint::Locality;
use crate::listener::ActiveListener;
use crate::server::Options;
use crate::server::certificates;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::GroupList;
use crate::telemetry::stats::Registry;
use crate::upstream::Breakers;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::UpstreamCluster;
use crate::upstream::breaker::Resource;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Departing;
use crate::upstream::departure::Departures;
use crate::upstream::dropped::Dropped;
use crate::upstream::health::HostHealth;
use crate::xds::resource::ResourceType;
use crate::xds::status::TypeStatus;
use crate::xds::status::XdsStatus;
use crate::xds::store::ClientStatus;
use crate::xds::store::Stored;

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
    pub(super) departures: Arc<Departures>,
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
pub(super) enum Asked {
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
    pub(super) fn new(
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
    pub(super) fn replace_statics(&self, bootstrap: &Bootstrap) {
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

    pub(super) fn set_admin_address(&self, address: Option<SocketAddr>) {
        *self
            .admin_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Called between two changes: everything taken so far is applied.
    pub(super) fn catch_up(&self, nothing_waits: impl FnOnce() -> bool) {
        // In this order: once the driver says so, all it had is in the channel or was taken out.
        if !self.is_caught_up() && self.xds.is_initialized() && nothing_waits() {
            self.caught_up.store(true, Ordering::Release);
            self.applied_signal.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The limits of all clusters and how they stand, for the metrics.
    pub(super) fn breakers(&self) -> GroupList {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = applied.clusters.iter().map(|cluster| {
            let group: Arc<dyn Group> = Arc::<Breakers>::clone(cluster.breakers());
            (Arc::clone(&cluster.load().config.stat_name), group)
        });
        groups_of_clusters(instances.collect())
    }

    /// The breakers of all clusters that look at outcomes, for the metrics.
    pub(super) fn outcomes(&self) -> GroupList {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = applied.clusters.iter().filter_map(|cluster| {
            let group: Arc<dyn Group> = cluster.outcomes()?;
            Some((Arc::clone(&cluster.load().config.stat_name), group))
        });
        groups_of_clusters(instances.collect())
    }

    pub(super) fn publish(&self, applier: &Applier) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.clusters = applier.clusters().cloned().collect();
        applied.listeners = applier.listeners().cloned().collect();
        drop(applied);
        self.applied_signal.send_modify(|count| *count += 1);
    }

    /// Brings the counters of the xDS client up to what it says; called about once a second.
    pub(super) fn record_xds(&self) {
        let facts = self.xds.facts();
        let connected = i64::from(facts.connected_state);
        self.registry
            .control_plane()
            .connected_state()
            .set(connected);
        let control_plane = self.registry.control_plane();
        let stale = facts.stale_since.map(age).unwrap_or_default();
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
            stats
                .update_attempt()
                .add(now.update_attempt - before.update_attempt);
            stats
                .update_success()
                .add(now.update_success - before.update_success);
            stats
                .update_failure()
                .add(now.update_failure - before.update_failure);
            stats
                .update_rejected()
                .add(now.update_rejected - before.update_rejected);
            stats
                .init_fetch_timeout()
                .add(now.init_fetch_timeout - before.init_fetch_timeout);
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
        let mut views: Vec<DepartingView> = self.departures.busy().iter().map(departing).collect();
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
pub(super) fn groups_of_clusters(mut instances: Vec<(Arc<str>, Arc<dyn Group>)>) -> GroupList {
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
            read: super::clock(),
            bootstrap: bootstrap.raw.clone(),
            clusters: clusters.collect(),
            listeners: listeners.collect(),
            secrets: secrets.collect(),
        }
    }
}

/// [`Live`] as the admin server wants to see it.
#[derive(Debug)]
pub(super) struct Inspector(pub(super) Arc<Live>);

impl Inspector {
    fn views(&self, is_wanted: impl Fn(&ClusterHandle) -> bool) -> Vec<ClusterView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = applied.clusters.iter().filter(|cluster| is_wanted(cluster));
        wanted
            .map(|cluster| cluster_view(cluster, !self.0.is_static(cluster.name())))
            .collect()
    }
}

impl Inspect for Inspector {
    fn readiness(&self) -> Readiness {
        let facts = self.0.xds.facts();
        let state = if self.0.draining.load(Ordering::Relaxed) {
            ServerState::Draining
        } else if self.0.is_caught_up() {
            ServerState::Live
        } else {
            ServerState::Initializing
        };
        let stale = facts.stale_since.map(|since| {
            let kept = if facts.is_restored {
                " and was read from disk"
            } else {
                ""
            };
            let seconds = age(since).as_secs();
            format!("no control plane: the configuration is stale for {seconds} s{kept}")
        });
        Readiness {
            state,
            waiting_for: facts.waiting_for.into_iter().chain(stale).collect(),
        }
    }

    fn server_info(&self) -> ServerInfo {
        ServerInfo {
            uptime: self.0.started.elapsed(),
            command_line_options: self.0.command_line.clone(),
            node: self.0.node.clone(),
        }
    }

    fn clusters(&self) -> Vec<ClusterView> {
        self.views(|_| true)
    }

    fn clusters_of_metrics(&self) -> Vec<ClusterView> {
        self.views(|cluster| {
            let measures = cluster.load().config.load_balancing.measures_latency();
            measures || cluster.dropped().is_some()
        })
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let views = applied.listeners.iter().map(|listener| ListenerView {
            name: listener.name.to_string(),
            addresses: listener.addresses.clone(),
        });
        views.collect()
    }

    fn tls_contexts(&self) -> Vec<TlsContextView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (listeners, clusters) = (applied.listeners.clone(), applied.clusters.clone());
        drop(applied); // reading certificates takes its time
        let now = super::clock();
        let contexts = certificates::contexts(&listeners, &clusters);
        contexts
            .iter()
            .map(|context| certificates::view(context, now))
            .collect()
    }

    fn config(&self) -> ConfigView {
        let statics = self.0.statics();
        ConfigView {
            bootstrap: Some((statics.bootstrap.clone(), statics.read)),
            clusters: self.resources(ResourceType::Cluster, &statics.clusters, statics.read),
            endpoints: self.resources(ResourceType::Endpoints, &[], statics.read),
            listeners: self.resources(ResourceType::Listener, &statics.listeners, statics.read),
            routes: self.resources(ResourceType::RouteConfig, &[], statics.read),
            secrets: self.secrets(&statics),
        }
    }

    fn departing(&self) -> Vec<DepartingView> {
        self.0.departing()
    }

    fn drain_endpoint(
        &self,
        cluster: &str,
        address: &Address,
        drain: bool,
    ) -> Result<Vec<DepartingView>, String> {
        let handle = self.0.cluster(cluster);
        let handle = handle.ok_or_else(|| format!("there is no cluster {cluster:?}"))?;
        handle.set_drained(address, drain)?;
        let mut views = self.0.departing();
        views.retain(|view| view.cluster == cluster && view.address == *address);
        Ok(views)
    }

    fn drain_listeners(&self, graceful: bool) {
        self.0.set_draining();
        self.0.ask(if graceful {
            Asked::DrainGracefully
        } else {
            Asked::Drain
        });
    }

    fn quit(&self) {
        self.0.ask(Asked::Quit);
    }

    fn reopen_logs(&self) {
        self.0.logs.reopen();
    }
}

impl Inspector {
    /// Those of every source.
    fn secrets(&self, statics: &Statics) -> Resources {
        let secret = ResourceType::Secret;
        let mut all = self.resources(secret, &statics.secrets, statics.read);
        self.0.xds.with_secrets(|stores| {
            let known = stores.values().flat_map(|store| store.resources(secret));
            let views = known.map(|(name, stored)| stored_view(secret, name, stored));
            all.resources.extend(views);
        });
        all
    }

    fn resources(
        &self,
        resource_type: ResourceType,
        statics: &[(String, Any)],
        read: SystemTime,
    ) -> Resources {
        let fixed = statics.iter().map(|(name, raw)| ResourceView {
            name: name.clone(),
            state: ResourceState::Static,
            version_info: String::new(),
            last_updated: Some(read),
            resource: Some(raw.clone()),
            error: None,
        });
        let mut resources: Vec<ResourceView> = fixed.collect();
        self.0.xds.with_store(|store| {
            let known = store.resources(resource_type);
            resources.extend(known.map(|(name, stored)| stored_view(resource_type, name, stored)));
        });
        let version = self
            .0
            .xds
            .facts()
            .types
            .get(&resource_type)
            .map(|status| status.version.clone());
        Resources {
            version_info: version.unwrap_or_default(),
            resources,
        }
    }
}

fn age(since: SystemTime) -> Duration {
    super::clock().duration_since(since).unwrap_or_default()
}

fn stored_view(resource_type: ResourceType, name: &str, stored: &Stored) -> ResourceView {
    let good = stored.good.as_ref();
    ResourceView {
        name: name.to_owned(),
        state: if matches!(stored.status, ClientStatus::Acked | ClientStatus::Nacked)
            && good.is_some()
        {
            ResourceState::Active
        } else {
            ResourceState::Warming
        },
        version_info: good.map(|good| good.version.clone()).unwrap_or_default(),
        last_updated: good.map(|good| good.last_updated),
        resource: good.map(|good| Any {
            type_url: resource_type.type_url().to_owned(),
            value: good.body.to_vec(),
        }),
        error: stored.last_error.as_ref().map(|error| ConfigError {
            details: error.detail.clone(),
            last_update_attempt: Some(error.at),
            version_info: String::new(),
            failed_configuration: None,
        }),
    }
}

fn departing(departing: &Departing) -> DepartingView {
    let left = departing.cut_at.saturating_duration_since(Instant::now());
    DepartingView {
        cluster: departing.cluster.to_string(),
        address: departing.host.address.clone(),
        cause: departing.cause,
        connections: departing.connections(),
        requests: departing.requests(),
        left,
    }
}

fn host_stats(host: &Host) -> HostStats {
    HostStats {
        cx_active: host.sum(|counts| &counts.cx_active),
        cx_connect_fail: host.sum(|counts| &counts.cx_connect_fail),
        cx_total: host.sum(|counts| &counts.cx_total),
        rq_active: host.sum(|counts| &counts.rq_active),
        rq_error: host.sum(|counts| &counts.rq_error),
        rq_pending_active: 0, // counted for the cluster
        rq_success: host.sum(|counts| &counts.rq_success),
        rq_timeout: host.sum(|counts| &counts.rq_timeout),
        rq_total: host.sum(|counts| &counts.rq_total),
    }
}

/// All limits, by priority.
fn limits(breakers: &Breakers) -> Vec<LimitView> {
    let of_priority = |priority: Priority| {
        Resource::ALL.into_iter().map(move |resource| LimitView {
            priority: priority.as_str(),
            resource: resource.as_str(),
            standing: breakers.standing(priority, resource),
        })
    };
    Priority::ALL.into_iter().flat_map(of_priority).collect()
}

/// What looks at outcomes: of the cluster, and of its members.
fn outcomes(current: &UpstreamCluster) -> Vec<OutcomeView> {
    let Some(outcomes) = &current.outcomes else {
        return Vec::new();
    };
    let now = outcomes.age(Instant::now());
    let of_cluster = OutcomeView {
        host: None,
        report: outcomes.report(now),
    };
    let of_members = current.hosts.members().iter().filter_map(|member| {
        let breaker = outcomes.of_host(&member.host)?;
        Some(OutcomeView {
            host: Some(member.host.label.clone()),
            report: breaker.report(now),
        })
    });
    std::iter::once(of_cluster).chain(of_members).collect()
}

fn thresholds(limits: &Thresholds) -> ThresholdsView {
    ThresholdsView {
        max_connections: limits.connections_max,
        max_pending_requests: limits.pending_max,
        max_requests: limits.requests_max,
        max_retries: limits.retries_max,
    }
}

fn cluster_view(cluster: &ClusterHandle, added_via_api: bool) -> ClusterView {
    let current = cluster.load();
    let localities = current.serving.localities.iter();
    let places: Vec<&Locality> = localities
        .flat_map(|locality| locality.endpoints.iter().map(|_| &locality.locality))
        .collect();
    let hosts = current
        .hosts
        .members()
        .iter()
        .enumerate()
        .map(|(index, member)| HostView {
            address: member.host.address.clone(),
            hostname: member.host.hostname.to_string(),
            locality: places
                .get(index)
                .map(|place| (*place).clone())
                .unwrap_or_default(),
            priority: member.priority,
            weight: member.weight,
            standing: cluster.standing(&member.host),
            shadow: cluster.shadow_share(&member.host),
            health: member.health,
            flags: member.host.health_flags(),
            events: member
                .host
                .health()
                .map_or_else(Vec::new, HostHealth::events),
            success_rate: member.host.health().and_then(HostHealth::success_rate),
            is_canary: endpoint::is_canary(member.traits.as_deref()),
            stats: host_stats(&member.host),
        });
    ClusterView {
        name: cluster.name().to_string(),
        added_via_api,
        default_thresholds: thresholds(&current.config.circuit_breakers.default),
        high_thresholds: thresholds(&current.config.circuit_breakers.high),
        limits: limits(cluster.breakers()),
        outcomes: outcomes(&current),
        policy: current.config.load_balancing.policy.name(),
        shadow: cluster.shadow(),
        dropped: cluster.dropped().map_or_else(Vec::new, Dropped::all),
        hosts: hosts.collect(),
    }
}
