//! Route tables as written (`envoy.config.route.v3.RouteConfiguration`).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use regex::bytes::Regex;

use crate::config::Name;
use crate::config::circuit_breakers::Priority;
use crate::config::hash_policy::HashPolicy;
use crate::config::matcher::HeaderMatch;
use crate::config::matcher::StringMatch;
use crate::config::retry::HedgeAfter;
use crate::config::retry::RetryPolicy;
use crate::config::session::SessionOverrides;
use crate::config::subset::Criteria;
use crate::config::upgrade::Upgrade;

/// One route table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfig {
    /// Its name in RDS.
    pub name: Name,
    /// Hosts, each with its routes.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Compare domains without the port of the Host header.
    pub ignore_port_in_host_matching: bool,
    /// Edits of the outermost level.
    pub headers: HeaderEdits,
    /// Apply edits from the table to the route instead of the other way round, so the most specific
    /// wins (`most_specific_header_mutations_wins`).
    pub most_specific_header_edits_win: bool,
    /// What it says of session filters.
    pub sessions: SessionOverrides,
}

/// A set of domains with their routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualHost {
    /// Its name in logs.
    pub name: Name,
    /// Lower case; `a.b`, `*.b`, `a.*` or `*`. Precedence: exact, longest suffix wildcard, longest
    /// prefix wildcard, `*`. Unique in the table.
    pub domains: Vec<Box<str>>,
    /// First match wins.
    pub routes: Vec<Route>,
    /// Edits of the middle level.
    pub headers: HeaderEdits,
    /// What it says of session filters.
    pub sessions: SessionOverrides,
}

/// A predicate and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in logs; may be empty.
    pub name: Name,
    /// When it applies.
    pub matches: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Edits of the innermost level.
    pub headers: HeaderEdits,
    /// What it says of session filters.
    pub sessions: SessionOverrides,
}

/// All parts must hold (`RouteMatch`).
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// On the path without query, except where said.
    pub path: PathMatch,
    /// `false`: `Prefix`, `Exact` and `PathSeparatedPrefix` compare without ASCII case.
    pub case_sensitive: bool,
    /// All must hold.
    pub headers: Vec<HeaderMatch>,
    /// All must hold.
    pub query_parameters: Vec<QueryMatch>,
    /// Share of requests, numerator of a million; `None` is all.
    pub runtime_fraction_per_million: Option<u32>,
    /// Only requests whose content type is gRPC.
    pub grpc: bool,
    /// On the client's certificate.
    pub certificate: CertificateMatch,
}

/// `RouteMatch.TlsContextMatchOptions`; `None` is no condition. A client without TLS has neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateMatch {
    /// The client presented one, or did not.
    pub presented: Option<bool>,
    /// It was found good, or was not.
    pub validated: Option<bool>,
}

/// The kinds of path predicate.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// The path is this, or goes on with `/`. Stored without a trailing slash.
    PathSeparatedPrefix(Box<str>),
    /// The path begins so.
    Prefix(Box<str>),
    /// The whole path matches (already anchored on both ends).
    Regex(Regex),
}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::PathSeparatedPrefix(a), Self::PathSeparatedPrefix(b))
            | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A predicate on one query parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatch {
    /// Its name, compared as written.
    pub name: Box<str>,
    /// `None`: it must only be there.
    pub value: Option<StringMatch>,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answers by itself.
    DirectResponse {
        /// Its status.
        status: StatusCode,
        /// Its body; empty if none.
        body: bytes::Bytes,
    },
    /// Sends to a cluster.
    Forward(Box<Forward>),
    /// Answers with a redirect.
    Redirect(Box<Redirect>),
}

/// Where and how to send (`RouteAction`).
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Which cluster.
    pub cluster: ClusterSpecifier,
    /// Status when the cluster does not exist; Envoy's default 503.
    pub cluster_not_found: StatusCode,
    /// From the end of the request to the end of the response; `None` is no limit.
    pub timeout: Option<Duration>,
    /// How long all of it may take; then there is no `timeout`.
    pub stream_duration: Option<StreamDuration>,
    /// What a gRPC client says instead of `timeout`, in deprecated fields.
    pub grpc_timeout: Option<GrpcTimeout>,
    /// No byte either way; overrides the connection manager's. `Some(None)` is no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// Overrides the manager's `stream_flush_timeout`, or what holds in place of it; `Some(None)` is no limit.
    pub flush_timeout: Option<Option<Duration>>,
    /// Replaces the matched prefix or path.
    pub prefix_rewrite: Option<Box<str>>,
    /// What becomes of the authority.
    pub host_rewrite: HostRewrite,
    /// What is hashed, if the cluster's policy chooses by hash and does not say it itself.
    pub hash_policies: Vec<HashPolicy>,
    /// Which limits of the cluster it counts against.
    pub priority: Priority,
    /// Of several clusters the hash chooses, too, if there is one.
    pub hash_chooses_cluster: bool,
    /// Whether and how it is sent again.
    pub retries: Retries,
    /// What is asked of the cluster's members; of several clusters each says it with it.
    pub criteria: Option<Arc<Criteria>>,
    /// Protocols that requests may go on as, or may not; the rest is the connection manager's to say.
    pub upgrades: Vec<Upgrade>,
}

/// `RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamDuration {
    /// Zero is no limit; absent, the connection manager's.
    pub max: Option<Duration>,
    /// Take what `grpc-timeout` says, but no more than this; zero is no bound.
    pub grpc_header_max: Option<Duration>,
    /// So much less than it says.
    pub grpc_header_offset: Duration,
}

/// `RouteAction.max_grpc_timeout` and `grpc_timeout_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcTimeout {
    /// Take what `grpc-timeout` says, but no more than this; zero is no bound.
    pub max: Duration,
    /// So much less than it says.
    pub offset: Duration,
}

/// What a route and its virtual host say about attempts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retries {
    /// The route's own, else the virtual host's.
    pub policy: Option<Arc<RetryPolicy>>,
    /// Bytes of a request body that are kept for another attempt.
    pub body_bytes_max: BodyLimit,
    /// Tell upstreams which attempt it is (`x-envoy-attempt-count`).
    pub request_tells_attempts: bool,
    /// Tell clients how many there were.
    pub response_tells_attempts: bool,
    /// Tell upstreams whether the attempt before took too long (`x-envoy-is-timeout-retry`).
    pub request_tells_timeouts: bool,
    /// An attempt that reaches its limit goes on, and another one is made beside it.
    pub hedges_on_per_try_timeout: bool,
    /// One is made beside the first that is slower than most.
    pub hedge_after: Option<Arc<HedgeAfter>>,
}

/// How much of a request body is kept for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLimit {
    /// So many bytes, but no more than are buffered of a connection (`per_request_buffer_limit_bytes`).
    AtMost(usize),
    /// So many bytes (`request_body_buffer_limit`).
    Exactly(usize),
}

impl Default for BodyLimit {
    fn default() -> Self {
        Self::AtMost(usize::MAX)
    }
}

impl BodyLimit {
    /// For a request on a connection of which so many bytes are buffered.
    pub fn bytes(self, connection: usize) -> usize {
        match self {
            Self::AtMost(bytes) => bytes.min(connection),
            Self::Exactly(bytes) => bytes,
        }
    }
}

/// `RouteAction.host_rewrite_specifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// The chosen member's host name.
    Auto,
    /// The first value of this request header, if it has one that can be an authority.
    Header(HeaderName),
    /// Unchanged.
    #[default]
    Keep,
    /// This text.
    Literal(HeaderValue),
}

/// Which cluster a route sends to.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterSpecifier {
    /// Always this one.
    Cluster(Name),
    /// One of several, by weight.
    Weighted(Vec<WeightedCluster>),
}

/// One choice of [`ClusterSpecifier::Weighted`].
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// Its name.
    pub name: Name,
    /// Its share of the sum; the sum is at least 1 and fits u32.
    pub weight: u32,
    /// Edits when this one is chosen, more specific than the route's.
    pub headers: HeaderEdits,
    /// What is asked of its members, by the route and for this one.
    pub criteria: Option<Arc<Criteria>>,
    /// What it says of session filters.
    pub sessions: SessionOverrides,
}

/// `RedirectAction`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redirect {
    /// New scheme: `https` or `http`.
    pub scheme: Option<Box<str>>,
    /// New host.
    pub host: Option<Box<str>>,
    /// New port.
    pub port: Option<u16>,
    /// What becomes of the path.
    pub path: RedirectPath,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Drop the query.
    pub strip_query: bool,
}

/// `RedirectAction.path_rewrite_specifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedirectPath {
    /// Unchanged.
    #[default]
    Keep,
    /// The matched prefix is replaced.
    Prefix(Box<str>),
    /// The whole path is replaced; may carry its own query.
    Whole(Box<str>),
}

/// Header edits of one level, requests and responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    /// On the way to the upstream.
    pub request: HeaderEdit,
    /// On the way to the downstream.
    pub response: HeaderEdit,
}

/// Removals come first, then additions in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdit {
    /// To be set or appended.
    pub add: Vec<HeaderAdd>,
    /// To be removed.
    pub remove: Vec<HeaderName>,
}

/// One `HeaderValueOption`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderAdd {
    /// The header.
    pub name: HeaderName,
    /// Literal value, or a template with Envoy's `%COMMAND%` operators.
    pub value: crate::config::access_log::Template,
    /// What to do if it is there.
    pub action: AppendAction,
    /// Set it also when the value comes out empty.
    pub keep_empty_value: bool,
}

/// `HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Only if it is not there.
    AddIfAbsent,
    /// One more value.
    #[default]
    AppendIfExistsOrAdd,
    /// Only if it is there.
    OverwriteIfExists,
    /// In place of what is there.
    OverwriteIfExistsOrAdd,
}
