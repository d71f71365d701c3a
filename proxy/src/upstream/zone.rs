//! The zone the proxy is in, and how those like it are spread over zones: the members of one cluster,
//! which the bootstrap names.
//!
//! When these change, every balancer that routes by zones computes its ways anew: one swap each. The
//! lock is the control side's and the health checks'; picks never take it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use crate::config::Endpoints;
use crate::config::endpoint::Locality;
use crate::config::zone::Home;
use crate::upstream::host::Fitness;
use crate::upstream::host::Member;
use crate::upstream::load_balancer::ZoneRouting;

/// Balancers that went are forgotten when so many were added.
const FORGET_AFTER: usize = 64;

/// The proxy's own zone, with what is known of its like.
#[derive(Debug)]
pub struct Zone {
    home: Home,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: Arc<Peers>,
    followers: Vec<Weak<ZoneRouting>>,
    /// With more followers, those that went are forgotten.
    forget_at: usize,
}

/// The members of the local cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// By locality.
    pub zones: BTreeMap<Locality, PeerZone>,
    /// Those that are healthy.
    pub healthy: usize,
    /// Those that are degraded.
    pub degraded: usize,
    /// Those that count when it is asked whether too few are fit.
    pub counted: usize,
}

/// Those in one locality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerZone {
    /// Those that are healthy.
    pub healthy: u64,
    /// The weight of these.
    pub weight: u64,
}

impl Peers {
    fn new(members: &[Member], endpoints: &Endpoints) -> Self {
        let mut peers = Self::default();
        // There are no other priorities in a local cluster.
        for member in members.iter().filter(|member| member.priority == 0) {
            let Some(place) = endpoints.localities.get(member.locality) else {
                continue;
            };
            let zone = peers.zones.entry(place.locality.clone()).or_default();
            match member.fitness() {
                Fitness::Fit => {
                    peers.healthy += 1;
                    zone.healthy += 1;
                    zone.weight += u64::from(member.weight);
                }
                Fitness::Degraded => peers.degraded += 1,
                Fitness::Unfit => {}
            }
            peers.counted += usize::from(!member.flags.is_excluded());
        }
        peers
    }

    /// Whether too few of them are fit.
    pub fn are_panicking(&self, panic_percent: u32) -> bool {
        let fit = self.healthy + self.degraded;
        fit * 100 < self.counted.max(1) * panic_percent as usize
    }
}

impl Zone {
    /// Nothing is known of others yet.
    pub fn new(home: Home) -> Self {
        Self {
            home,
            state: Mutex::default(),
        }
    }

    /// Where the proxy is, if that was said.
    pub fn locality(&self) -> Option<&Locality> {
        self.home.locality.as_ref()
    }

    /// Whether this is the cluster of the proxy's like.
    pub fn is_of(&self, cluster: &str) -> bool {
        *self.home.cluster == *cluster
    }

    /// The local cluster has these members now.
    pub fn update(&self, members: &[Member], endpoints: &Endpoints) {
        let peers = Peers::new(members, endpoints);
        let mut state = self.state();
        if *state.peers == peers {
            return;
        }
        state.peers = Arc::new(peers);
        let peers = Arc::clone(&state.peers);
        state.followers.retain(|follower| {
            let follower = follower.upgrade();
            follower.is_some_and(|routing| {
                routing.follow(&peers);
                true
            })
        });
    }

    /// Computes the ways of a balancer, now and whenever the local cluster changes.
    pub fn tell(&self, routing: &Arc<ZoneRouting>) {
        let mut state = self.state();
        routing.follow(&state.peers);
        if state.followers.len() >= state.forget_at {
            state
                .followers
                .retain(|follower| follower.strong_count() > 0);
            state.forget_at = state.followers.len() * 2 + FORGET_AFTER;
        }
        state.followers.push(Arc::downgrade(routing));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::Address;
    use crate::config::endpoint::Endpoint;
    use crate::config::endpoint::HealthStatus;
    use crate::config::endpoint::LocalityEndpoints;
    use crate::config::load_balancing::LoadBalancing;
    use crate::upstream::HostSet;
    use crate::upstream::host::Beside;
    use crate::upstream::transport::Transports;

    fn place(zone: &str) -> Locality {
        Locality {
            zone: zone.into(),
            ..Locality::default()
        }
    }

    /// Zones with so many members.
    fn endpoints(zones: &[(&str, u16)]) -> Endpoints {
        let locality = |(number, (zone, count)): (u8, &(&str, u16))| {
            let endpoint = |port| Endpoint {
                address: Address::Socket(([127, 0, 0, number], port).into()),
                hostname: "".into(),
                weight: 1,
                health: HealthStatus::Healthy,
                labels: None,
                hash_key: None,
                traits: None,
                check: None,
            };
            LocalityEndpoints {
                locality: place(zone),
                endpoints: (1..=*count).map(endpoint).collect(),
                ..LocalityEndpoints::default()
            }
        };
        Endpoints {
            localities: (1..).zip(zones).map(locality).collect(),
            ..Endpoints::default()
        }
    }

    fn set(zone: &Arc<Zone>, endpoints: &Endpoints) -> HostSet {
        let beside = Beside {
            zone: Some(zone),
            ..Beside::default()
        };
        HostSet::with_care(
            &LoadBalancing::default(),
            endpoints,
            &Transports::default(),
            beside,
        )
    }

    /// The share of zone a.
    fn share(set: &HostSet) -> f64 {
        let mut random = fastrand::Rng::with_seed(3);
        let mut cursor = 0;
        let mut own = 0;
        for _ in 0..20_000 {
            let host = set.pick(&mut cursor, random.u64(..), None);
            let place = set
                .members()
                .iter()
                .find(|one| Some(one.host.id) == host.map(|host| host.id));
            own += u32::from(place.expect("there are members").locality == 0);
        }
        f64::from(own) / 20_000.0
    }

    #[test]
    fn balancers_follow_the_proxies_and_go_with_their_clusters() {
        let home = Home {
            locality: Some(place("a")),
            cluster: "local".into(),
        };
        let zone = Arc::new(Zone::new(home));
        assert!(zone.is_of("local") && !zone.is_of("other"));
        let upstream = set(&zone, &endpoints(&[("a", 2), ("b", 6)]));
        assert!(
            (share(&upstream) - 0.25).abs() < 0.02,
            "nobody knows the proxies"
        );
        let update = |zones: &[(&str, u16)]| {
            let endpoints = endpoints(zones);
            zone.update(set(&zone, &endpoints).members(), &endpoints);
        };
        update(&[("a", 2), ("b", 2)]);
        assert!((share(&upstream) - 0.5).abs() < 0.02);
        update(&[("a", 1), ("b", 3)]);
        assert!(share(&upstream) > 0.999);
        let later = set(&zone, &endpoints(&[("a", 2), ("b", 6)]));
        assert!(share(&later) > 0.999);
        update(&[("a", 4)]);
        assert!((share(&later) - 0.25).abs() < 0.02, "one zone only");
        drop((upstream, later));
        for _ in 0..1000 {
            set(&zone, &endpoints(&[("a", 1), ("b", 1)]));
        }
        let kept = zone.state().followers.len();
        assert!(kept <= 2 * FORGET_AFTER, "{kept}");
    }
}
