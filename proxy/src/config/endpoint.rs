//! The members of a cluster (`envoy.config.endpoint.v3.ClusterLoadAssignment`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Name;
use crate::config::health::EndpointCheck;

/// All members of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// By locality, in the order of the assignment.
    pub localities: Vec<LocalityEndpoints>,
    /// Percent, Envoy's default 140.
    pub overprovisioning_factor: u32,
}

/// Members in one place (`LocalityLbEndpoints`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// Region, zone and sub-zone.
    pub locality: Locality,
    /// 0 is the highest; all members of 0 are preferred over those of 1.
    pub priority: u32,
    /// Relative share of the locality; none if it takes no part in locality weighting.
    pub weight: Option<u32>,
    /// Labels of all members that no label of their own overrides.
    pub labels: Option<Arc<Labels>>,
    /// The members.
    pub endpoints: Vec<Endpoint>,
}

/// A place (`core.v3.Locality`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// For example a cloud region.
    pub region: Name,
    /// For example an availability zone.
    pub zone: Name,
    /// For example a rack.
    pub sub_zone: Name,
}

/// One member (`LbEndpoint`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// The name used for `auto_host_rewrite` and logs; empty if none was given.
    pub hostname: Name,
    /// Relative share inside its locality, at least 1.
    pub weight: u32,
    /// What the control plane says of it.
    pub health: HealthStatus,
    /// What its transport is chosen by.
    pub labels: Option<Arc<Labels>>,
    /// What it is known by to policies that hash, instead of its address or name.
    pub hash_key: Option<Name>,
    /// How it is checked, where that is not as with the others.
    pub check: Option<Arc<EndpointCheck>>,
}

/// Metadata `envoy.transport_socket_match`: values as JSON text, so that equal ones are equal.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A path in the file system, or an abstract name if it starts with `@`.
    Pipe(PathBuf),
    /// TCP.
    Socket(SocketAddr),
}

/// Health as the control plane reports it (`core.v3.HealthStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// Usable, but only when too few are healthy.
    Degraded,
    /// Takes nothing new.
    Draining,
    /// Usable.
    Healthy,
    /// Not usable; the same as `Unhealthy` for a proxy.
    Timeout,
    /// Not usable.
    Unhealthy,
    /// Nobody said; taken as healthy.
    #[default]
    Unknown,
}
