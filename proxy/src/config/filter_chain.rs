//! Filter chains (`envoy.config.listener.v3.FilterChain`): what is done with a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Name;
use crate::config::connection_limits::ConnectionLimit;
use crate::config::filter_state::ConnectionState;
use crate::config::limits;
use crate::config::listener::HttpConnectionManager;
use crate::config::prefix_map::IpPrefix;
use crate::config::tcp_proxy::TcpProxy;
use crate::config::tls::DownstreamTls;

/// What is done with a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Name,
    /// Which connections it takes. The listener's `selector` is compiled from it; here it tells a
    /// chain that takes others from one that stays.
    pub conditions: FilterChainMatch,
    /// What stands between the socket and the filter.
    pub transport_socket: TransportSocket,
    /// How long a client may take to get through it; `None` leaves
    /// `limits::TLS_HANDSHAKE_TIMEOUT`.
    pub transport_timeout: Option<Duration>,
    /// Looked at before anything of a connection is read, in order.
    pub connection_limits: Vec<ConnectionLimit>,
    /// What its connections are given for hash policies.
    pub state: ConnectionState,
    /// The one terminal filter.
    pub filter: NetworkFilter,
    /// What its listener lets each connection have.
    pub allowance: Allowance,
}

/// What a listener lets each of its connections have; part of a chain, so that connections keep what
/// they began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes kept of it, each way: bounds what is smaller anyway.
    pub buffer_bytes: usize,
    /// What is done because of overload is not done to it.
    pub ignores_overload: bool,
}

impl Allowance {
    /// What is read at once.
    pub fn read_bytes_max(&self) -> usize {
        self.buffer_bytes.max(limits::BUFFER_BYTES_MIN)
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            buffer_bytes: limits::CONNECTION_BUFFER_BYTES,
            ignores_overload: false,
        }
    }
}

/// Which connections a chain takes (`FilterChainMatch`); an empty list is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterChainMatch {
    /// Port of the address the client wanted.
    pub destination_port: Option<u16>,
    /// Ranges of that address.
    pub prefix_ranges: Vec<IpPrefix>,
    /// SNI, in lower case; `*.x` is any name below `x`.
    pub server_names: Vec<Box<str>>,
    /// `tls` or `raw_buffer`; empty is no condition.
    pub transport_protocol: Box<str>,
    /// ALPN, or what the HTTP inspector found.
    pub application_protocols: Vec<Box<str>>,
    /// Ranges of the socket's other end.
    pub direct_source_prefix_ranges: Vec<IpPrefix>,
    /// From where.
    pub source_type: SourceType,
    /// Ranges of the client's address.
    pub source_prefix_ranges: Vec<IpPrefix>,
    /// Ports of the client's address.
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// From anywhere.
    #[default]
    Any,
    /// From this machine.
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// What stands between the socket and the filter of a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TransportSocket {
    /// Nothing: plain bytes.
    #[default]
    Raw,
    /// TLS.
    Tls(Arc<DownstreamTls>),
}

/// The network filters there are.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// HTTP.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// Any stream.
    TcpProxy(Arc<TcpProxy>),
}
