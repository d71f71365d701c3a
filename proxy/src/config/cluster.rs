//! Where and how to send (`envoy.config.cluster.v3.Cluster`).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::config::CircuitBreakers;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::OutcomeBreaker;
use crate::config::added_tlv::AddedTlv;
use crate::config::endpoint::Labels;
use crate::config::endpoint::Policy;
use crate::config::endpoint::Traits;
use crate::config::health::EndpointCheck;
use crate::config::health::Health;
use crate::config::limits;
use crate::config::listener_filter::KeptTlvs;
use crate::config::load_balancing::LoadBalancing;
use crate::config::tls::UpstreamTls;
use crate::net::proxy_protocol::Version;

/// One upstream cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name in routes.
    pub name: Name,
    /// The name in statistics, `name` unless `alt_stat_name` says otherwise.
    pub stat_name: Name,
    /// Where its members come from.
    pub discovery: Discovery,
    /// What stands between the socket and the protocol.
    pub transport: UpstreamTransport,
    /// What does instead, for members whose labels fit; the first that fits counts.
    pub transport_matches: Vec<TransportMatch>,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// How much may be on its way to the members.
    pub circuit_breakers: CircuitBreakers,
    /// Opens when too many requests were slow or failed.
    pub outcome_breaker: Option<Arc<OutcomeBreaker>>,
    /// How one of several members is chosen.
    pub load_balancing: LoadBalancing,
    /// What is spoken to the members.
    pub protocol: UpstreamProtocol,
    /// What a request says about TLS to them.
    pub auto_names: AutoNames,
    /// An upstream connection without a stream is closed after this; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// An upstream connection is closed at this age, when its streams have ended.
    pub max_connection_duration: Option<Duration>,
    /// An upstream connection carries this many requests and is closed.
    pub max_requests_per_connection: Option<u32>,
    /// HTTP/2 settings towards the members.
    pub http2: Http2Options,
    /// What is done about unfit members.
    pub health: Health,
    /// Bytes kept of a connection to a member, each way: bounds what is smaller anyway.
    pub buffer_bytes: usize,
}

/// Where members come from (`Cluster.type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Subscribed to by EDS under this name.
    Eds {
        /// `eds_cluster_config.service_name`, or the cluster's name.
        service_name: Name,
    },
    /// The address the client wanted is the only member, for this client.
    OriginalDst,
    /// Part of the cluster itself.
    Static(Arc<Endpoints>),
    /// Host names resolved again and again; every address is a member.
    StrictDns(Dns),
}

/// What stands between an upstream's socket and what is spoken on it; nothing, if there is nothing in
/// it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTransport {
    /// Tell the members who the client is, first thing on a connection.
    pub proxy_protocol: Option<ProxyHeader>,
    /// TLS.
    pub tls: Option<UpstreamTls>,
}

/// `Cluster.TransportSocketMatch`.
#[derive(Clone, Debug, PartialEq)]
pub struct TransportMatch {
    /// All must be among a member's own, or among its locality's.
    pub labels: Labels,
    /// What stands between the socket and the protocol.
    pub transport: UpstreamTransport,
}

/// `ProxyProtocolUpstreamTransport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How it is written.
    pub version: Version,
    /// Which TLVs of the client's own header are passed on; for version 2.
    pub passed_tlvs: KeptTlvs,
    /// TLVs that are always there; for version 2. Templates know nothing but the connection itself.
    pub added_tlvs: Vec<AddedTlv>,
}

/// The names of a `STRICT_DNS` cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// What to resolve.
    pub targets: Vec<DnsTarget>,
    /// Between two resolutions; Envoy's default is 5 s.
    pub refresh_rate: Duration,
    /// Which address families are wanted.
    pub family: DnsFamily,
    /// What is said of all members together.
    pub policy: Policy,
}

/// One name of a `STRICT_DNS` cluster; its addresses share the locality and the weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTarget {
    /// Host name or literal address.
    pub host: Name,
    /// TCP port.
    pub port: u16,
    /// Index into the localities of the assignment.
    pub locality: crate::config::endpoint::Locality,
    /// Priority of the locality.
    pub priority: u32,
    /// Weight of the locality.
    pub locality_weight: Option<u32>,
    /// Weight of each resolved address.
    pub weight: u32,
    /// As in [`crate::config::endpoint::Endpoint::hostname`]; the host if none was given.
    pub hostname: Name,
    /// Health stated in the assignment.
    pub health: crate::config::endpoint::HealthStatus,
    /// As in [`crate::config::endpoint::LocalityEndpoints::labels`].
    pub locality_labels: Option<Arc<Labels>>,
    /// As in [`crate::config::endpoint::Endpoint::labels`].
    pub labels: Option<Arc<Labels>>,
    /// As in [`crate::config::endpoint::Endpoint::hash_key`].
    pub hash_key: Option<Name>,
    /// As in [`crate::config::endpoint::Endpoint::traits`].
    pub traits: Option<Arc<Traits>>,
    /// As in [`crate::config::endpoint::Endpoint::check`].
    pub check: Option<Arc<EndpointCheck>>,
}

/// `Cluster.dns_lookup_family`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// Both, all are members.
    All,
    /// IPv6 if there is any, else IPv4: Envoy's default.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// IPv6 only.
    V6Only,
}

/// Names of servers that come from requests (`UpstreamHttpProtocolOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoNames {
    /// The request's host is the server's name in TLS.
    pub sni: bool,
    /// The server's certificate must be for the request's host, besides what is wanted otherwise.
    pub san: bool,
    /// The host stands in this header, if it is there.
    pub header: Option<HeaderName>,
}

/// What is spoken upstream (`HttpProtocolOptions`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// What ALPN agrees on (`auto_config`).
    Alpn,
    /// HTTP/1.1 always.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge always.
    Http2,
    /// What the downstream speaks (`use_downstream_protocol_config`).
    SameAsDownstream,
}

/// HTTP/2 settings of one side (`core.v3.Http2ProtocolOptions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` we announce, or the most we open upstream.
    pub max_concurrent_streams: u32,
    /// Clients are told that streams may go on as another protocol (RFC 8441). Servers are not: of them it is what
    /// they say themselves that counts, as with Envoy.
    pub allow_connect: bool,
    /// `SETTINGS_INITIAL_WINDOW_SIZE`, bytes.
    pub initial_stream_window: u32,
    /// Window of the whole connection, bytes.
    pub initial_connection_window: u32,
    /// Send a PING after this much silence; `None` never.
    pub keepalive_interval: Option<Duration>,
    /// Close if the PING is not answered in time.
    pub keepalive_timeout: Duration,
}

/// What [`Cluster::can_be_asked`] wants, for whoever named another one.
pub const CAN_BE_ASKED: &str = "it needs http2_protocol_options, members that stand in the file or come \
    by DNS, and neither a PROXY protocol header nor transport_socket_matches";

impl Cluster {
    /// What is read at once of a member.
    pub fn read_bytes_max(&self) -> usize {
        self.buffer_bytes.max(limits::BUFFER_BYTES_MIN)
    }

    /// Members of `old` are the same here, and only chosen otherwise, or may be asked more or less
    /// at once, or are spared by another measure.
    pub fn has_members_of(&self, old: &Self) -> bool {
        let same = Self {
            circuit_breakers: self.circuit_breakers,
            outcome_breaker: self.outcome_breaker.clone(),
            load_balancing: self.load_balancing.clone(),
            ..old.clone()
        };
        same == *self
    }

    /// Whether gRPC can be spoken with it before anything is received; see [`CAN_BE_ASKED`].
    pub fn can_be_asked(&self) -> bool {
        let is_known = matches!(
            self.discovery,
            Discovery::Static(_) | Discovery::StrictDns(_)
        );
        // Both are for requests of somebody: the one tells of a client, the other tells members apart.
        let is_direct =
            self.transport.proxy_protocol.is_none() && self.transport_matches.is_empty();
        is_known && is_direct && self.protocol == UpstreamProtocol::Http2
    }
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: limits::HTTP2_STREAMS_MAX,
            allow_connect: false,
            initial_stream_window: limits::HTTP2_STREAM_WINDOW,
            initial_connection_window: limits::HTTP2_CONNECTION_WINDOW,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}
