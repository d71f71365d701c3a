//! What the admin server reads, as the composition root offers it.
//!
//! Views are plain owned values made for one request: nothing of live state is held while an answer
//! is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;
use xds_proto::pb::google::protobuf::Any;

use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Locality;
use crate::net::tls::facts::Names;
use crate::telemetry::log::LogControl;
use crate::telemetry::stats::Registry;
use crate::upstream::breaker::Standing as Limit;
use crate::upstream::breaker::outcome::Report;
use crate::upstream::departure::Cause;
use crate::upstream::health::HealthFlags;
use crate::upstream::health::timeline::Event;
use crate::upstream::latency::Standing;
use crate::upstream::shadow;

/// Everything the endpoints need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Live state.
    pub inspect: Arc<dyn Inspect>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// The diagnostic log; none if the binary cannot change it.
    pub log: Option<Arc<dyn LogControl>>,
    /// What was built.
    pub build: BuildInfo,
}

/// What was built.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// `1.2.3`.
    pub version: &'static str,
    /// Commit, or empty.
    pub revision: &'static str,
}

/// Live state, as the process offers it.
///
/// Calls may come from any thread and must not wait for workers.
pub trait Inspect: fmt::Debug + Send + Sync {
    /// Whether traffic may come, and what is still missing.
    fn readiness(&self) -> Readiness;

    /// Who this process is.
    fn server_info(&self) -> ServerInfo;

    /// Every cluster, by name.
    fn clusters(&self) -> Vec<ClusterView>;

    /// Those whose policy follows latency or where one looks on, and those of which requests were dropped.
    fn clusters_of_metrics(&self) -> Vec<ClusterView>;

    /// Every listener that is bound, by name.
    fn listeners(&self) -> Vec<ListenerView>;

    /// The certificates of every TLS context that can be used.
    fn tls_contexts(&self) -> Vec<TlsContextView>;

    /// The configuration as received.
    fn config(&self) -> ConfigView;

    /// Hosts that have left and still have connections, and those drained by hand.
    fn departing(&self) -> Vec<DepartingView>;

    /// Drains a member of a cluster, or takes it back; returns what is still on it.
    ///
    /// # Errors
    /// There is no such member, or nothing to take back; in a sentence.
    fn drain_endpoint(
        &self,
        cluster: &str,
        address: &Address,
        drain: bool,
    ) -> Result<Vec<DepartingView>, String>;

    /// Asks connections to finish and stops accepting, at once or, `graceful`, after the drain time.
    fn drain_listeners(&self, graceful: bool);

    /// Ends the process as TERM does.
    fn quit(&self);

    /// Opens the access logs anew.
    fn reopen_logs(&self);
}

/// Whether traffic may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// In one word.
    pub state: ServerState,
    /// What it waits for, one sentence each: `cluster "a": no endpoints yet`.
    pub waiting_for: Vec<String>,
}

/// Envoy's server states, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum ServerState {
    /// Serving.
    Live = 0,
    /// Ending.
    Draining = 1,
    /// Not yet talking to the control plane.
    PreInitializing = 2,
    /// Waiting for configuration.
    Initializing = 3,
}

impl ServerState {
    /// Envoy's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "DRAINING",
            Self::Initializing => "INITIALIZING",
            Self::Live => "LIVE",
            Self::PreInitializing => "PRE_INITIALIZING",
        }
    }
}

/// Who this process is.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Since the start.
    pub uptime: Duration,
    /// Flags as in force, an object under Envoy's names where there is one.
    pub command_line_options: Value,
    /// `core.v3.Node` as sent to the control plane, as JSON.
    pub node: Value,
}

/// The certificates of one TLS context.
#[derive(Clone, Debug, Default)]
pub struct TlsContextView {
    /// Whom it trusts.
    pub roots: Vec<CertificateView>,
    /// Who it is.
    pub own: Vec<CertificateView>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct CertificateView {
    /// The file it was read from.
    pub path: String,
    /// What it says of its owner.
    pub names: Names,
    /// When it begins.
    pub begin: SystemTime,
    /// When it ends.
    pub end: SystemTime,
    /// Until then.
    pub left: Duration,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// Whether it came from the control plane.
    pub added_via_api: bool,
    /// Circuit breakers of default priority.
    pub default_thresholds: ThresholdsView,
    /// Circuit breakers of high priority.
    pub high_thresholds: ThresholdsView,
    /// How its limits stand.
    pub limits: Vec<LimitView>,
    /// How its breakers stand that look at outcomes.
    pub outcomes: Vec<OutcomeView>,
    /// What chooses among its members.
    pub policy: &'static str,
    /// What is known of a policy that looks on.
    pub shadow: Option<shadow::Report>,
    /// Requests that the control plane wanted dropped, by what for.
    pub dropped: Vec<(Name, u64)>,
    /// Its members.
    pub hosts: Vec<HostView>,
}

/// How one limit of a cluster stands.
#[derive(Clone, Copy, Debug)]
pub struct LimitView {
    /// Of which requests.
    pub priority: &'static str,
    /// Of what.
    pub resource: &'static str,
    /// How many are inside, and may be.
    pub standing: Limit,
}

/// How one breaker stands that looks at outcomes.
#[derive(Clone, Debug)]
pub struct OutcomeView {
    /// The member it is of; none if it is the cluster's.
    pub host: Option<Box<str>>,
    /// Its state and why.
    pub report: Report,
}

/// Circuit breakers of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThresholdsView {
    /// Connections.
    pub max_connections: u32,
    /// Requests waiting for a connection.
    pub max_pending_requests: u32,
    /// Requests in progress.
    pub max_requests: u32,
    /// Retries in progress.
    pub max_retries: u32,
}

/// One member of a cluster.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Where it listens.
    pub address: Address,
    /// Its name, or empty.
    pub hostname: String,
    /// Where it is.
    pub locality: Locality,
    /// 0 is the highest.
    pub priority: u32,
    /// As configured.
    pub weight: u32,
    /// What its weight is multiplied by and why, if the policy follows latency.
    pub standing: Option<Standing>,
    /// What a policy that looks on, and the other, sent to it.
    pub shadow: Option<shadow::Share>,
    /// What the control plane says.
    pub health: HealthStatus,
    /// What its health checks and outlier detection say.
    pub flags: HealthFlags,
    /// What happened to its health, oldest first.
    pub events: Vec<Event>,
    /// Percent of requests that succeeded in the last outlier interval, if there were enough.
    pub success_rate: Option<f64>,
    /// It says that it is a canary.
    pub is_canary: bool,
    /// Counters.
    pub stats: HostStats,
}

/// A host that has left its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepartingView {
    /// Its cluster, which may be gone too.
    pub cluster: String,
    /// Where it listens.
    pub address: Address,
    /// Why it leaves.
    pub cause: Cause,
    /// Connections still open.
    pub connections: u64,
    /// Requests in progress.
    pub requests: u64,
    /// Until they are cut.
    pub left: Duration,
}

/// Counters of one host, under Envoy's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are Envoy's, and each is explained there"
)]
pub struct HostStats {
    pub cx_active: u64,
    pub cx_connect_fail: u64,
    pub cx_total: u64,
    pub rq_active: u64,
    pub rq_error: u64,
    pub rq_pending_active: u64,
    pub rq_success: u64,
    pub rq_timeout: u64,
    pub rq_total: u64,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it is really bound: port 0 has become a port.
    pub addresses: Vec<Address>,
}

/// The configuration as received.
#[derive(Clone, Debug, Default)]
pub struct ConfigView {
    /// The bootstrap, and when it was read.
    pub bootstrap: Option<(Any, SystemTime)>,
    /// Clusters.
    pub clusters: Resources,
    /// Members, listed on demand only.
    pub endpoints: Resources,
    /// Listeners.
    pub listeners: Resources,
    /// Route tables.
    pub routes: Resources,
    /// Certificates and keys; keys are not shown.
    pub secrets: Resources,
}

/// The resources of one type.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Of the last response that was acknowledged; empty if there was none.
    pub version_info: String,
    /// By name.
    pub resources: Vec<ResourceView>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct ResourceView {
    /// Its name.
    pub name: String,
    /// In what state it is.
    pub state: ResourceState,
    /// Its version, empty for static ones.
    pub version_info: String,
    /// When it last changed.
    pub last_updated: Option<SystemTime>,
    /// As received; none if it was never accepted.
    pub resource: Option<Any>,
    /// What was wrong with the last update, if it was refused.
    pub error: Option<ConfigError>,
}

/// Where a resource comes from, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// From the control plane, in use.
    Active,
    /// From the control plane, on its way out.
    Draining,
    /// From the bootstrap or a file.
    Static,
    /// From the control plane, not yet in use.
    Warming,
}

/// A refused update (`envoy.admin.v3.UpdateFailureState`).
#[derive(Clone, Debug)]
pub struct ConfigError {
    /// The reason, with the path of the field.
    pub details: String,
    /// When it came.
    pub last_update_attempt: Option<SystemTime>,
    /// Its version.
    pub version_info: String,
    /// What was refused.
    pub failed_configuration: Option<Any>,
}
