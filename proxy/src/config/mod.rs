//! The model: what the configuration says, as plain validated immutable values.
//!
//! It does no I/O, holds no lock and knows neither prost nor tokio; `xds::decode` makes these values
//! from the wire and `apply` turns them into live state. Names are `Arc<str>` so that a snapshot of
//! many resources shares them.
//!
//! | file | holds |
//! |---|---|
//! | `listener` | address, listener filters, the HTTP connection manager |
//! | `circuit_breakers` | how much may be on its way to a cluster |
//! | `client_certificate` | what upstreams are told of it |
//! | `listener_filter` | what is found out of a connection first |
//! | `chain_selector` | which filter chain takes a connection |
//! | `filter_chain` | what is done with a connection |
//! | `socket` | options of listening sockets |
//! | `tcp_proxy` | where a stream goes |
//! | `prefix_map` | address ranges |
//! | `route` | route tables as written |
//! | `retry` | when and how a request is sent again |
//! | `upgrade` | as which protocols requests may go on |
//! | `cluster` | where and how to send |
//! | `endpoint` | members of a cluster |
//! | `health` | how unfit members are found |
//! | `outcome_breaker` | when too many requests were slow or failed |
//! | `load_balancing` | which member takes a request |
//! | `latency` | weights that follow latency |
//! | `load_report` | what servers say of their load, and weights that follow it |
//! | `grpc` | how a gRPC service is asked |
//! | `identity` | a certificate of our own |
//! | `hash_policy` | what of a request is hashed |
//! | `matcher` | string and header predicates |
//! | `overload` | what is watched, and what is done about it |
//! | `regex_rewrite` | texts changed by regular expressions |
//! | `secret` | secrets that come by a name, and TLS contexts with them |
//! | `tls` | certificates, trust and parameters of TLS, both sides |
//! | `tls_fact` | what logs and header edits may say of TLS |
//! | `access_log` | where and in what form exchanges are logged |
//! | `limits` | every bound of the data plane, each with its reason |

pub mod access_log;
pub mod added_tlv;
pub mod chain_selector;
pub mod circuit_breakers;
pub mod client_certificate;
pub mod cluster;
pub mod connection_limits;
pub mod endpoint;
pub mod filter_chain;
pub mod filter_state;
pub mod grpc;
pub mod hash_policy;
pub mod health;
pub mod identity;
pub mod latency;
pub mod limits;
pub mod listener;
pub mod listener_filter;
pub mod load_balancing;
pub mod load_report;
pub mod matcher;
pub mod outcome_breaker;
pub mod overload;
pub mod prefix_map;
pub mod regex_rewrite;
pub mod retry;
pub mod route;
pub mod secret;
pub mod session;
pub mod socket;
pub mod subset;
pub mod tcp_proxy;
pub mod tls;
pub mod tls_fact;
pub mod upgrade;
pub mod zone;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use circuit_breakers::CircuitBreakers;
pub use cluster::Cluster;
pub use connection_limits::ConnectionLimits;
pub use endpoint::Endpoints;
pub use listener::Listener;
pub use outcome_breaker::OutcomeBreaker;
pub use route::RouteConfig;
pub use secret::Secrets;

/// A resource or cluster name.
pub type Name = Arc<str>;

/// One consistent set of configuration: what is live after one swap.
///
/// Invariants, kept by `xds::stage`: every cluster in `clusters` has an entry in `endpoints`; every
/// RDS name a listener uses is in `routes`. A cluster named by a route is in `clusters`, unless
/// waiting for it timed out.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Listeners by name.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// Route tables that come by RDS, by route configuration name.
    pub routes: BTreeMap<Name, Arc<RouteConfig>>,
    /// Clusters by name.
    pub clusters: BTreeMap<Name, Arc<Cluster>>,
    /// Members by *cluster* name, whatever their source (static, DNS, EDS).
    pub endpoints: BTreeMap<Name, Arc<Endpoints>>,
    /// Secrets that listeners and clusters name, those that are there. One that is not lets nobody
    /// in and nothing out where it is named.
    pub secrets: Arc<Secrets>,
}

/// What a configuration source hands to `apply`.
#[derive(Clone, Debug)]
pub enum Change {
    /// Only the members of one live cluster changed.
    Endpoints {
        /// The cluster's name.
        cluster: Name,
        /// All its members now.
        endpoints: Arc<Endpoints>,
    },
    /// Only secrets changed: all of them now.
    Secrets(Arc<Secrets>),
    /// Anything else: the whole new state.
    Snapshot(Arc<Snapshot>),
}
