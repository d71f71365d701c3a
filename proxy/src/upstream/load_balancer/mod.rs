//! Which member takes the next request: priorities first, then a policy inside the priority.
//!
//! Everything is computed when members change; a pick reads, and takes no lock.
//!
//! | file | holds |
//! |---|---|
//! | `alias` | draws by weight |
//! | `draws` | random numbers |
//! | `least_request` | who has the fewest requests in flight |
//! | `priority` | how much load each priority takes |
//! | `stride` | weighted round robin |
//!
//! `RANDOM` needs no file: each host has the same chance, whatever its weight, as in Envoy.

mod alias;
mod draws;
mod least_request;
mod priority;
mod stride;

use std::sync::Arc;

use crate::config::cluster::LbPolicy;
use crate::upstream::host::Member;
use draws::Draws;
use least_request::LeastRequest;
use stride::Stride;

/// The balancer over one set of members.
#[derive(Debug)]
pub struct LoadBalancer {
    levels: Vec<Level>,
}

/// One priority that takes load.
#[derive(Debug)]
struct Level {
    /// Percent of all load taken by this and the levels before.
    load_up_to: u32,
    /// Places in the member list.
    members: Vec<usize>,
    picker: Picker,
}

/// A policy over the members of one priority.
#[derive(Debug)]
enum Picker {
    LeastRequest(LeastRequest),
    /// Among so many.
    Random(usize),
    RoundRobin(Stride),
}

impl Picker {
    fn new(policy: &LbPolicy, members: &[&Member]) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        match policy {
            LbPolicy::LeastRequest(config) => {
                let hosts = members.iter().map(|member| member.host.in_flight());
                let hosts = hosts.map(Arc::clone).collect();
                Self::LeastRequest(LeastRequest::new(*config, hosts, &weights))
            }
            LbPolicy::Random => Self::Random(members.len()),
            LbPolicy::RoundRobin => Self::RoundRobin(Stride::new(&weights)),
        }
    }

    fn pick(&self, cursor: &mut u64, random: u64) -> usize {
        match self {
            Self::LeastRequest(picker) => picker.pick(&mut Draws::new(random)),
            Self::Random(len) => Draws::new(random).below(*len),
            Self::RoundRobin(order) => order.pick(cursor),
        }
    }
}

impl LoadBalancer {
    /// Prepares picks over `members`.
    pub fn new(policy: &LbPolicy, members: &[Member], overprovisioning_factor: u32) -> Self {
        let mut load_up_to = 0;
        let levels = priority::split(members, overprovisioning_factor)
            .into_iter()
            .map(|share| {
                load_up_to += share.load;
                let places = share.members.iter();
                let chosen: Vec<&Member> = places.filter_map(|index| members.get(*index)).collect();
                let picker = Picker::new(policy, &chosen);
                Level {
                    load_up_to,
                    members: share.members,
                    picker,
                }
            })
            .collect();
        Self { levels }
    }

    /// The place of the chosen member. `cursor` belongs to the calling worker; `random` chooses the
    /// priority when several take load, and what a policy leaves to chance.
    pub fn pick(&self, cursor: &mut u64, random: u64) -> Option<usize> {
        let level = match self.levels.as_slice() {
            [] => return None,
            [only] => only,
            several => {
                let point = u32::try_from(random % 100).unwrap_or(0);
                several
                    .iter()
                    .find(|level| point < level.load_up_to)
                    .or_else(|| several.last())?
            }
        };
        level
            .members
            .get(level.picker.pick(cursor, random))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoints;
    use crate::config::cluster::LeastRequest as Config;
    use crate::config::cluster::Selection;
    use crate::config::endpoint::Address;
    use crate::config::endpoint::Endpoint;
    use crate::config::endpoint::HealthStatus;
    use crate::config::endpoint::LocalityEndpoints;
    use crate::upstream::HostSet;
    use crate::upstream::transport::Transports;

    const HOSTS: u16 = 20;
    const PICKS: u32 = 40_000;
    /// 99.9 % of chi-square with 19 degrees of freedom.
    const CHI_SQUARE_MAX: f64 = 43.82;

    fn set(policy: LbPolicy, hosts: u16) -> HostSet {
        let endpoint = |port| Endpoint {
            address: Address::Socket(([127, 0, 0, 1], port).into()),
            hostname: "".into(),
            weight: 1,
            health: HealthStatus::Healthy,
            labels: None,
        };
        let locality = LocalityEndpoints {
            endpoints: (1..=hosts).map(endpoint).collect(),
            ..LocalityEndpoints::default()
        };
        let endpoints = Endpoints {
            localities: vec![locality],
            overprovisioning_factor: 140,
        };
        HostSet::new(&policy, &endpoints, &Transports::default(), None)
    }

    fn policies() -> [LbPolicy; 4] {
        let least = |selection| {
            LbPolicy::LeastRequest(Config {
                selection,
                bias: 1.0,
            })
        };
        [
            LbPolicy::RoundRobin,
            LbPolicy::Random,
            least(Selection::Choices(2)),
            least(Selection::FullScan),
        ]
    }

    #[test]
    fn idle_hosts_of_equal_weight_are_picked_alike() {
        for policy in policies() {
            let set = set(policy, HOSTS);
            let mut counts = std::collections::BTreeMap::<u64, u32>::new();
            let mut random = fastrand::Rng::with_seed(1);
            let mut cursor = 0;
            for _ in 0..PICKS {
                let host = set.pick(&mut cursor, random.u64(..)).expect("a host");
                *counts.entry(host.id).or_default() += 1;
            }
            let expected = f64::from(PICKS) / f64::from(HOSTS);
            assert_eq!(counts.len(), usize::from(HOSTS), "{policy:?}");
            let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
            let sum: f64 = counts.values().map(square).sum();
            assert!(sum < CHI_SQUARE_MAX, "{policy:?}: {sum}");
        }
    }

    #[test]
    fn nobody_is_picked_of_nobody() {
        for policy in policies() {
            assert!(set(policy, 0).pick(&mut 0, 1).is_none());
        }
    }
}
