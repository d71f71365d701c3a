//! How much load each priority takes, as Envoy computes it: a priority is as healthy as its share of
//! healthy members times the overprovisioning factor; what it cannot take spills to the next. When
//! too few are healthy everywhere, a priority takes all its members (panic).

use crate::config::endpoint::HealthStatus;
use crate::upstream::host::Member;

/// Below this percentage of healthy members all members of a priority are used, when the healthy
/// ones of all priorities together cannot take the load (Envoy's default `healthy_panic_threshold`).
const PANIC_PERCENT: u64 = 50;

/// The load of one priority and who takes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Percent of all requests, at least 1.
    pub(super) load: u32,
    /// Places in the member list.
    pub(super) members: Vec<usize>,
}

#[derive(Debug, Default)]
struct Tally {
    all: Vec<usize>,
    healthy: Vec<usize>,
    degraded: Vec<usize>,
}

/// Splits the load over priorities; empty if there is no member.
pub(super) fn split(members: &[Member], overprovisioning_factor: u32) -> Vec<Share> {
    let mut tallies = std::collections::BTreeMap::<u32, Tally>::new();
    for (index, member) in members.iter().enumerate() {
        let tally = tallies.entry(member.priority).or_default();
        tally.all.push(index);
        match member.health {
            HealthStatus::Healthy | HealthStatus::Unknown => tally.healthy.push(index),
            HealthStatus::Degraded => tally.degraded.push(index),
            HealthStatus::Draining | HealthStatus::Timeout | HealthStatus::Unhealthy => {}
        }
    }
    let factor = u64::from(if overprovisioning_factor == 0 {
        140
    } else {
        overprovisioning_factor
    });
    let capacity = |some: usize, all: usize| (some as u64 * factor / (all as u64).max(1)).min(100);
    let healthy_total: u64 = tallies
        .values()
        .map(|t| capacity(t.healthy.len(), t.all.len()))
        .sum();
    if healthy_total == 0 {
        return all_or_degraded(tallies.into_values());
    }
    let enough = healthy_total >= 100;
    let mut left = 100_u64;
    let mut shares = Vec::new();
    for tally in tallies.into_values() {
        let mut load = capacity(tally.healthy.len(), tally.all.len());
        if !enough {
            load = load * 100 / healthy_total;
        }
        let load = load.min(left);
        left -= load;
        if load > 0 {
            let panics = !enough
                && (tally.healthy.len() * 100) as u64 / (tally.all.len() as u64) < PANIC_PERCENT;
            let members = if panics { tally.all } else { tally.healthy };
            shares.push(Share {
                load: u32::try_from(load).unwrap_or(100),
                members,
            });
        }
    }
    if let Some(first) = shares.first_mut() {
        first.load += u32::try_from(left).unwrap_or(0); // what rounding left over
    }
    shares
}

/// Nobody is healthy: degraded members serve; without any, everybody of the first priority does.
fn all_or_degraded(tallies: impl Iterator<Item = Tally>) -> Vec<Share> {
    let mut fallback = None;
    for tally in tallies {
        if !tally.degraded.is_empty() {
            return vec![Share {
                load: 100,
                members: tally.degraded,
            }];
        }
        fallback.get_or_insert(tally.all);
    }
    fallback
        .map(|members| Share { load: 100, members })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoints;
    use crate::config::cluster::LbPolicy;
    use crate::config::endpoint::Address;
    use crate::config::endpoint::Endpoint;
    use crate::config::endpoint::LocalityEndpoints;
    use crate::upstream::HostSet;
    use crate::upstream::transport::Transports;

    /// Members as (priority, healthy, unhealthy).
    fn loads(levels: &[(u32, u16, u16)]) -> Vec<(u32, usize)> {
        let locality = |(priority, healthy, unhealthy): &(u32, u16, u16)| LocalityEndpoints {
            priority: *priority,
            endpoints: (0..healthy + unhealthy)
                .map(|index| Endpoint {
                    address: Address::Socket(
                        (
                            [127, 0, 0, 1],
                            1000 * u16::try_from(*priority).unwrap() + index + 1,
                        )
                            .into(),
                    ),
                    hostname: "".into(),
                    weight: 1,
                    health: if index < *healthy {
                        HealthStatus::Healthy
                    } else {
                        HealthStatus::Unhealthy
                    },
                    labels: None,
                })
                .collect(),
            ..Default::default()
        };
        let endpoints = Endpoints {
            localities: levels.iter().map(locality).collect(),
            overprovisioning_factor: 140,
        };
        let set = HostSet::new(
            &LbPolicy::RoundRobin,
            &endpoints,
            &Transports::default(),
            None,
        );
        split(set.members(), 140)
            .iter()
            .map(|share| (share.load, share.members.len()))
            .collect()
    }

    #[test]
    fn spills_what_the_first_priority_cannot_take() {
        assert_eq!(loads(&[(0, 10, 0), (1, 10, 0)]), [(100, 10)]);
        assert_eq!(loads(&[(0, 5, 5), (1, 10, 0)]), [(70, 5), (30, 10)]);
        assert_eq!(loads(&[(0, 0, 10), (1, 10, 0)]), [(100, 10)]);
    }

    #[test]
    fn too_few_healthy_members_make_it_use_all() {
        assert_eq!(loads(&[(0, 1, 9)]), [(100, 10)]);
        assert_eq!(loads(&[(0, 6, 4)]), [(100, 6)]);
        assert_eq!(loads(&[(0, 0, 3)]), [(100, 3)]);
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(loads(&[]), []);
    }
}
