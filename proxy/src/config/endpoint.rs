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
    /// Requests that are not even tried, category after category.
    pub drops: Vec<Drop>,
    /// A priority is as healthy as its healthy members' part of the weight, not of the number.
    pub weighted_priority_health: bool,
}

/// A part of the requests that the control plane wants dropped (`DropOverload`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// What it is dropped for.
    pub category: Name,
    /// So many of a million; above zero.
    pub per_million: u32,
}

/// All of them, where parts of a million are counted.
const MILLION: u32 = 1_000_000;

impl Endpoints {
    /// What the next request is dropped for; `draw` gives numbers below a million. Each category takes
    /// its part of what those before it left.
    pub fn drop_for(&self, mut draw: impl FnMut() -> u32) -> Option<&Drop> {
        let mut drops = self.drops.iter();
        drops.find(|drop| drop.is_all() || draw() < drop.per_million)
    }
}

impl Drop {
    /// Whether no request is left.
    pub fn is_all(&self) -> bool {
        self.per_million >= MILLION
    }
}

/// What is said of all members together (`ClusterLoadAssignment.Policy`); see [`Endpoints`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// See there.
    pub overprovisioning_factor: u32,
    /// See there.
    pub drops: Vec<Drop>,
    /// See there.
    pub weighted_priority_health: bool,
}

/// Percent; Envoy's default.
const OVERPROVISIONING_FACTOR: u32 = 140;

impl Default for Policy {
    fn default() -> Self {
        Self {
            overprovisioning_factor: OVERPROVISIONING_FACTOR,
            drops: Vec::new(),
            weighted_priority_health: false,
        }
    }
}

impl Policy {
    /// With the members it is said of.
    pub fn with(self, localities: Vec<LocalityEndpoints>) -> Endpoints {
        let Self {
            overprovisioning_factor,
            drops,
            weighted_priority_health,
        } = self;
        Endpoints {
            localities,
            overprovisioning_factor,
            drops,
            weighted_priority_health,
        }
    }
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
    /// What retries may avoid it by, and subsets are made by.
    pub traits: Option<Arc<Traits>>,
    /// How it is checked, where that is not as with the others.
    pub check: Option<Arc<EndpointCheck>>,
}

/// Metadata `envoy.transport_socket_match`: values as JSON text, so that equal ones are equal.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// Metadata `envoy.lb`: values as JSON text, of a list each of them and the list.
pub type Traits = BTreeMap<Box<str>, Box<[Box<str>]>>;

/// Whether a member says that it is a canary.
pub fn is_canary(traits: Option<&Traits>) -> bool {
    let said = traits.and_then(|traits| traits.get("canary"));
    said.is_some_and(|said| matches!(&**said, [only] if &**only == "true"))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_take_their_parts_one_after_the_other() {
        let drop = |(category, per_million): (&str, u32)| Drop {
            category: category.into(),
            per_million,
        };
        let dropping = |parts: &[(&str, u32)]| Endpoints {
            drops: parts.iter().copied().map(drop).collect(),
            ..Endpoints::default()
        };
        let check = |parts: &[(&str, u32)], draws: &[u32], expected: Option<(&str, bool)>| {
            let mut draws = draws.iter().copied();
            let endpoints = dropping(parts);
            let found = endpoints.drop_for(|| draws.next().expect("a draw for each category"));
            let found = found.map(|drop| (&*drop.category, drop.is_all()));
            assert_eq!((found, draws.next()), (expected, None));
        };
        let two = [("a", 10), ("b", 500_000)];
        check(&two, &[9], Some(("a", false)));
        check(&two, &[10, 499_999], Some(("b", false)));
        check(&two, &[10, 500_000], None);
        check(&[("a", 10), ("b", MILLION)], &[10], Some(("b", true)));
        check(&[("a", MILLION), ("b", 10)], &[], Some(("a", true)));
        check(&[], &[], None);
    }
}
