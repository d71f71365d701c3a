//! How members are found unfit: active checks (`core.v3.HealthCheck`) and outlier detection
//! (`cluster.v3.OutlierDetection`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;

use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::endpoint::Labels;
use crate::config::matcher::ResponseMatch;
use crate::config::matcher::StringMatch;
use crate::config::route::HeaderEdit;
use crate::net::proxy_protocol::Version;

/// What a cluster does about unfit members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Members are asked.
    pub check: Option<Arc<HealthCheck>>,
    /// Members are judged by what they answer.
    pub outlier: Option<Arc<OutlierDetection>>,
    /// Members that were not asked yet do not count at all
    /// (`common_lb_config.ignore_new_hosts_until_first_hc`).
    pub excludes_unchecked: bool,
    /// TCP streams of a member end when it is found unfit
    /// (`close_connections_on_host_health_failure`).
    pub closes_streams: bool,
}

/// `core.v3.HealthCheck`.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Until an answer must be there.
    pub timeout: Duration,
    /// Between two checks.
    pub interval: Duration,
    /// The first check waits a random part of this.
    pub initial_jitter: Duration,
    /// Every wait is longer by a random part of this,
    pub interval_jitter: Duration,
    /// and by a random part of so many percent of it.
    pub interval_jitter_percent: u32,
    /// Checks that must fail, one after the other, before a member is taken for unfit.
    pub unhealthy_threshold: u32,
    /// Checks that must succeed, one after the other, before it is taken for fit again.
    pub healthy_threshold: u32,
    /// The interval while the cluster never had traffic.
    pub no_traffic_interval: Duration,
    /// The same after a check that changed nothing about a fit member.
    pub no_traffic_healthy_interval: Duration,
    /// The interval after a failed check,
    pub unhealthy_interval: Duration,
    /// or after one that counts towards the threshold.
    pub unhealthy_edge_interval: Duration,
    /// The interval after a success that counts towards the threshold.
    pub healthy_edge_interval: Duration,
    /// A connection is kept for the next check.
    pub reuses_connection: bool,
    /// The port that is asked, of members that say nothing.
    pub port: Option<u16>,
    /// What the transport is chosen by, instead of the member's own labels.
    pub transport_labels: Option<Arc<Labels>>,
    /// Protocols that are offered by ALPN, instead of those that the cluster's TLS offers.
    pub alpn: Option<Vec<Vec<u8>>>,
    /// What is written down, and where.
    pub log: EventLog,
    /// What is asked.
    pub probe: Probe,
}

/// Where events go, besides the diagnostic log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    /// Lines of JSON are appended here.
    pub path: Option<PathBuf>,
    /// Failures that change nothing are written down, too.
    pub all_failures: bool,
    /// So are successes.
    pub all_successes: bool,
}

/// What a member is asked.
#[expect(clippy::large_enum_variant, reason = "there is one per cluster")]
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
    /// A request.
    Http(HttpProbe),
    /// A connection, and perhaps bytes on it.
    Tcp(TcpProbe),
}

/// `HealthCheck.HttpHealthCheck`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub is_http2: bool,
    /// The authority, of members that say nothing.
    pub host: Name,
    /// What is asked for.
    pub path: PathAndQuery,
    /// How.
    pub method: Method,
    /// The body that is sent.
    pub body: Vec<u8>,
    /// What the answer must contain, one after the other.
    pub receive: Vec<Vec<u8>>,
    /// How much of an answer is looked at for that.
    pub response_bytes_max: usize,
    /// Changes to the request's headers.
    pub edits: HeaderEdit,
    /// Statuses that are good, from and up to but not with.
    pub expected: Vec<(u16, u16)>,
    /// Statuses that only count towards the threshold.
    pub retriable: Vec<(u16, u16)>,
    /// What `x-envoy-upstream-healthchecked-cluster` must be.
    pub service_name: Option<StringMatch>,
}

/// `HealthCheck.TcpHealthCheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpProbe {
    /// What is sent.
    pub send: Vec<u8>,
    /// What must come, one after the other; nothing means that a connection is enough.
    pub receive: Vec<Vec<u8>>,
    /// A PROXY protocol header comes first.
    pub proxy_protocol: Option<Version>,
}

/// `HealthCheck.GrpcHealthCheck`.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcProbe {
    /// Of which service; empty is the server as a whole.
    pub service: Name,
    /// The authority, of members that say nothing.
    pub authority: Name,
    /// Headers besides.
    pub edits: HeaderEdit,
}

/// What a member says about its checks (`Endpoint.HealthCheckConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointCheck {
    /// Asked there instead.
    pub address: Option<Address>,
    /// Asked at this port instead.
    pub port: Option<u16>,
    /// The authority it is asked with; empty if nothing is said.
    pub hostname: Name,
    /// It is not asked, and taken for fit.
    pub is_disabled: bool,
}

/// `cluster.v3.OutlierDetection`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// Between two looks at all members.
    pub interval: Duration,
    /// How long the first ejection lasts; each further one lasts longer by as much.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer,
    pub max_ejection_time: Duration,
    /// but for a random part of this.
    pub max_ejection_time_jitter: Duration,
    /// No more than so many percent of the members are ejected,
    pub max_ejection_percent: u32,
    /// but for one, whatever the percentage.
    pub always_ejects_one: bool,
    /// Failures to reach a member count apart from what it answers.
    pub splits_local_origin: bool,
    /// A successful check ends an ejection.
    pub check_unejects: bool,
    /// Answers with 5xx, one after the other.
    pub consecutive_5xx: Rule,
    /// Answers with 502, 503 or 504, one after the other.
    pub consecutive_gateway: Rule,
    /// Failures to reach it, one after the other.
    pub consecutive_local_origin: Rule,
    /// Members that are worse than the others.
    pub success_rate: SuccessRate,
    /// Members that fail too often.
    pub failure_percentage: FailurePercentage,
    /// A member whose answer, if it is not 5xx, has `x-envoy-degraded` takes load only where too few others
    /// do, for as long as an ejection would last.
    pub detects_degraded: bool,
    /// What holds for an answer that is an error, and for no other one; without it those with 5xx are
    /// (`HttpProtocolOptions.outlier_detection.error_matcher`).
    pub errors: Option<ResponseMatch>,
}

/// How often, and whether it is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// So often.
    pub count: u32,
    /// Percent of cases in which the member is ejected, not only counted.
    pub enforcing: u32,
}

/// Members whose successes are rarer than the mean by so many standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// With fewer members that have enough requests nothing is judged.
    pub hosts_min: u32,
    /// With fewer requests in an interval a member is not judged.
    pub requests_min: u32,
    /// In thousandths.
    pub stdev_factor: u32,
    /// As [`Rule::enforcing`].
    pub enforcing: u32,
    /// As [`Rule::enforcing`], of failures to reach a member.
    pub enforcing_local_origin: u32,
}

/// Members that fail in at least so many percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// The percentage.
    pub threshold: u32,
    /// As [`SuccessRate::hosts_min`].
    pub hosts_min: u32,
    /// As [`SuccessRate::requests_min`].
    pub requests_min: u32,
    /// As [`Rule::enforcing`].
    pub enforcing: u32,
    /// As [`SuccessRate::enforcing_local_origin`].
    pub enforcing_local_origin: u32,
}
