//! Filter chains (`envoy.config.listener.v3.FilterChain`): what is done with a connection.

use std::sync::Arc;

use crate::config::Name;
use crate::config::listener::HttpConnectionManager;

/// What is done with a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Name,
    /// What stands between the socket and the filter.
    pub transport_socket: TransportSocket,
    /// The one terminal filter.
    pub filter: NetworkFilter,
}

/// What stands between the socket and the filter of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TransportSocket {
    /// Nothing: plain bytes.
    #[default]
    Raw,
}

/// The network filters there are.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// HTTP.
    HttpConnectionManager(Arc<HttpConnectionManager>),
}
