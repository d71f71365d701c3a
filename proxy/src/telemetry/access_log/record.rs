//! The facts of an exchange or of a TCP connection, borrowed from whoever has just finished it.
//!
//! Header edits use the same record earlier: what is not known yet is none.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::Version;

use crate::config::endpoint::Address;
use crate::downstream::Metadatum;
use crate::net::tls::Facts;
use crate::telemetry::response_flag::ResponseFlags;

/// Why an entry is written (`%ACCESS_LOG_TYPE%`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Occasion {
    /// An exchange is over.
    DownstreamEnd,
    /// None is written: a header is edited.
    #[default]
    NotSet,
    /// A stream is over.
    TcpConnectionEnd,
    /// A stream begins.
    TcpConnectionStart,
    /// A stream goes on.
    TcpPeriodic,
    /// A stream's upstream connection stands.
    TcpUpstreamConnected,
}

impl Occasion {
    /// Envoy's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DownstreamEnd => "DownstreamEnd",
            Self::NotSet => "NotSet",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::TcpConnectionStart => "TcpConnectionStart",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
        }
    }
}

/// What there is to say about one exchange or connection.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeRecord<'a> {
    /// Why it is said.
    pub occasion: Occasion,
    /// When the first byte of the request came, or the connection.
    pub start: SystemTime,
    /// From `start` to the end.
    pub duration: Option<Duration>,
    /// From `start` to the last byte of the request.
    pub request_duration: Option<Duration>,
    /// From `start` to the first byte of the upstream's response.
    pub response_duration: Option<Duration>,
    /// From the first byte of the upstream's response to the last byte sent downstream.
    pub response_tx_duration: Option<Duration>,
    /// The downstream's.
    pub protocol: Option<Version>,
    /// The request; none for TCP and for a request that could not be read.
    pub request: Option<RequestFacts<'a>>,
    /// The status sent.
    pub response_code: Option<u16>,
    /// Why that status, in Envoy's words: `via_upstream`, `route_not_found`, ...
    pub response_code_details: Option<&'a str>,
    /// As sent.
    pub response_headers: Option<&'a HeaderMap>,
    /// As sent.
    pub response_trailers: Option<&'a HeaderMap>,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Why this side ended the connection.
    pub connection_termination_details: Option<&'a str>,
    /// Body bytes from the downstream.
    pub bytes_received: u64,
    /// Body bytes to the downstream.
    pub bytes_sent: u64,
    /// The host of the last attempt.
    pub upstream_host: Option<&'a Address>,
    /// This end of the connection to it.
    pub upstream_local_address: Option<SocketAddr>,
    /// The cluster of the last attempt.
    pub upstream_cluster: Option<&'a str>,
    /// Why the connection to the upstream failed.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Attempts made; 0 if the upstream was never asked.
    pub attempts: u32,
    /// The route that matched, if it has a name.
    pub route_name: Option<&'a str>,
    /// The virtual host that matched.
    pub virtual_host_name: Option<&'a str>,
    /// Number of the downstream connection in this process.
    pub connection_id: u64,
    /// The peer of the socket.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// The client as far as it can be trusted: PROXY protocol, `x-forwarded-for`.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The address the client connected to.
    pub downstream_local_address: Option<SocketAddr>,
    /// The server name found in the client's first bytes.
    pub requested_server_name: Option<&'a str>,
    /// Why the client's transport failed.
    pub downstream_transport_failure_reason: Option<&'a str>,
    /// What listener filters left of the client's connection.
    pub metadata: &'a [Metadatum],
    /// The same, where only filter state is looked for: a request sees its connection's.
    pub state: &'a [Metadatum],
    /// TLS of the client's connection.
    pub downstream_tls: Option<&'a Facts>,
    /// TLS of the connection to the upstream.
    pub upstream_tls: Option<&'a Facts>,
}

/// The request of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// `GET`, ...
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// Host and port.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The fields, without pseudo fields.
    pub headers: &'a HeaderMap,
    /// Size of the head as received.
    pub headers_bytes: u64,
}

impl ExchangeRecord<'_> {
    /// Nothing known but the start.
    #[must_use]
    pub const fn new(start: SystemTime) -> Self {
        Self {
            occasion: Occasion::NotSet,
            start,
            duration: None,
            request_duration: None,
            response_duration: None,
            response_tx_duration: None,
            protocol: None,
            request: None,
            response_code: None,
            response_code_details: None,
            response_headers: None,
            response_trailers: None,
            flags: ResponseFlags::NONE,
            connection_termination_details: None,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            upstream_local_address: None,
            upstream_cluster: None,
            upstream_transport_failure_reason: None,
            attempts: 0,
            route_name: None,
            virtual_host_name: None,
            connection_id: 0,
            downstream_direct_remote_address: None,
            downstream_remote_address: None,
            downstream_local_address: None,
            requested_server_name: None,
            downstream_transport_failure_reason: None,
            metadata: &[],
            state: &[],
            downstream_tls: None,
            upstream_tls: None,
        }
    }
}
