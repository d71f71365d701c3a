//! What the rooms of `xds` hand each other: resource types, decoded resources, refusals.
//!
//! It knows nothing of prost; `decode` implements [`Decoder`].

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Cluster;
use crate::config::Endpoints;
use crate::config::Listener;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::Secrets;
use crate::config::cluster::Dns;
use crate::config::secret::Secret;

/// The resource types this proxy subscribes to.
///
/// The order is make-before-break order: what others name comes first (C-77).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    RouteConfig,
}

impl ResourceType {
    /// All of them, in make-before-break order.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::RouteConfig,
    ];

    /// The `type_url` on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfig => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of this URL, if it is one of ours.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.type_url() == url)
    }

    /// A SotW response of this type holds the whole subscribed set, so that what it lacks is
    /// deleted (S-27).
    pub fn is_complete_set(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Secret => "SDS",
            Self::Listener => "LDS",
            Self::RouteConfig => "RDS",
        })
    }
}

/// A decoded, validated resource.
#[derive(Clone, Debug)]
pub enum Resource {
    /// CDS.
    Cluster(Arc<Cluster>),
    /// EDS.
    Endpoints(Arc<Endpoints>),
    /// LDS.
    Listener(Arc<Listener>),
    /// RDS.
    RouteConfig(Arc<RouteConfig>),
    /// SDS.
    Secret(Arc<ReadSecret>),
}

/// A secret, and where the files are that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadSecret {
    /// The secret.
    pub secret: Secret,
    /// A change in one of them may be one of its files.
    pub directories: BTreeSet<PathBuf>,
}

/// Names of one cluster to be resolved again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery {
    /// For which cluster.
    pub cluster: Name,
    /// What is to be resolved; it tells the answers for two versions of a cluster apart.
    pub dns: Dns,
}

/// What the resolver found.
#[derive(Clone, Debug)]
pub struct DnsAnswer {
    /// The question.
    pub query: DnsQuery,
    /// All members now; none if resolution failed, which leaves the last good ones.
    pub endpoints: Option<Endpoints>,
}

/// A cluster whose members are to be checked before anybody uses it.
#[derive(Clone, Debug)]
pub struct CheckQuery {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its members now.
    pub endpoints: Arc<Endpoints>,
    /// All secrets there are.
    pub secrets: Arc<Secrets>,
}

/// Every member of a cluster was checked once.
#[derive(Clone, Debug)]
pub struct CheckAnswer {
    /// The cluster, as it was in the question.
    pub cluster: Arc<Cluster>,
}

/// Why one resource was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The resource's name; empty if it could not be read.
    pub name: Name,
    /// The reason, with field paths.
    pub detail: String,
}

/// A [`Resource`] with its name and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The resource's own name.
    pub name: Name,
    /// Its value.
    pub resource: Resource,
    /// Fields that are set and not supported, with their paths.
    pub warnings: Vec<String>,
}

/// Turns the bytes of one resource into its value.
///
/// `xds::decode` is the real one; the rooms here take it as an argument so that they know nothing
/// of prost.
pub trait Decoder: Send + Sync {
    /// Decodes and validates one resource.
    ///
    /// # Errors
    ///
    /// Every reason against it, in one [`Refusal`].
    fn decode(&self, resource_type: ResourceType, body: &[u8]) -> Result<Decoded, Refusal>;
}
