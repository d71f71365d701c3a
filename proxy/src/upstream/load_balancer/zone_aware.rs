//! Zone-aware routing, as Envoy computes it: requests stay in the zone of the proxy as far as its
//! members' part of all members reaches for the proxies that are there; the rest goes to zones whose
//! members have something left.
//!
//! Only the first priority knows zones. A zone that is chosen though nobody can take the request there
//! leaves it to the whole priority; with Envoy it fails.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Group;
use super::draws::Draws;
use crate::config::endpoint::Locality;
use crate::config::zone::ZoneAware;
use crate::telemetry::stats::BalancerStats;
use crate::telemetry::stats::Counter;
use crate::telemetry::stats::ZoneStats;
use crate::upstream::zone::Peers;

/// Shares are parts of so many, rounded down, as in Envoy.
const PARTS: u64 = 10_000;

/// Where requests go, for one balancer.
#[derive(Debug)]
pub struct ZoneRouting {
    config: ZoneAware,
    panic_percent: u32,
    fails_in_panic: bool,
    /// The proxy's own first, if it has members.
    zones: Box<[Upstream]>,
    has_own: bool,
    home: Option<Locality>,
    way: ArcSwap<Way>,
    /// None of a policy that looks on.
    stats: Option<Arc<BalancerStats>>,
}

/// The members of one locality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) locality: Locality,
    /// Those that are healthy.
    pub(super) healthy: u64,
    /// The weight of these.
    pub(super) weight: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Whatever the zone.
    Everywhere,
    /// The same, or nowhere, as too few of the proxies are fit.
    Unfit { fails: bool },
    /// All in the own zone, which is the first.
    Own,
    /// So many parts in the own zone; the rest to others.
    Spread {
        own: u64,
        /// What each zone has left, with what those before it have.
        left: Box<[u64]>,
    },
}

impl ZoneRouting {
    /// For members that stand in these zones, while nothing is known of the proxies.
    pub(super) fn new(
        config: ZoneAware,
        (panic_percent, fails_in_panic): (u32, bool),
        zones: Box<[Upstream]>,
        home: Option<Locality>,
    ) -> Self {
        let own = zones.first().map(|zone| &zone.locality);
        Self {
            config,
            panic_percent,
            fails_in_panic,
            has_own: own.is_some() && own == home.as_ref(),
            zones,
            home,
            way: ArcSwap::from_pointee(Way::Everywhere),
            stats: None,
        }
    }

    /// The same, with what is counted.
    pub(super) fn counting(self, stats: Option<&Arc<BalancerStats>>) -> Self {
        Self {
            stats: stats.map(Arc::clone),
            ..self
        }
    }

    /// Whether there is more than one zone.
    pub(super) fn has_zones(&self) -> bool {
        self.zones.len() > 1
    }

    /// The proxies are spread so.
    pub(in crate::upstream) fn follow(&self, peers: &Peers) {
        self.count_computed(peers);
        self.way.store(Arc::new(self.way(peers)));
    }

    fn way(&self, peers: &Peers) -> Way {
        if self.idle(peers).is_some() {
            return Way::Everywhere;
        }
        if peers.are_panicking(self.panic_percent) {
            let fails = self.fails_in_panic;
            return Way::Unfit { fails };
        }
        let shares = self.shares(peers);
        let own = shares.first().copied().filter(|_| self.has_own);
        if let Some(own) = own {
            let is_forced = |from: u32| {
                let healthy = self.zones.first().map_or(0, |zone| zone.healthy);
                healthy >= u64::from(from)
            };
            let is_enough = own.members > 0 && own.members >= own.proxies;
            if is_enough || self.config.forced_from.is_some_and(is_forced) {
                return Way::Own;
            }
        }
        let part = own.filter(|own| own.proxies > 0);
        let mut left = 0;
        let lefts = shares.iter().enumerate().map(|(place, share)| {
            if place > 0 || !self.has_own {
                left += share.members.saturating_sub(share.proxies);
            }
            left
        });
        Way::Spread {
            left: lefts.collect(),
            own: part.map_or(0, |own| own.members * PARTS / own.proxies),
        }
    }

    /// Why there is nothing to decide, or not enough known.
    fn idle(&self, peers: &Peers) -> Option<Idle> {
        let home = self.home.as_ref();
        let is_known = home.is_some_and(|home| peers.zones.contains_key(home));
        let healthy: u64 = self.zones.iter().map(|zone| zone.healthy).sum();
        if !self.has_zones() || (peers.zones.len() < 2 && self.config.forced_from.is_none()) {
            Some(Idle::OneZone)
        } else if !is_known {
            Some(Idle::Unknown)
        } else {
            (healthy < self.config.cluster_size_min).then_some(Idle::Small)
        }
    }

    fn count_computed(&self, peers: &Peers) {
        let Some((stats, zones)) = self.stats() else {
            return;
        };
        let threads = stats.threads as u64;
        zones.lb_recalculate_zone_structures().add(threads);
        match self.idle(peers) {
            Some(Idle::Small) => zones.lb_zone_cluster_too_small().add(threads),
            Some(Idle::Unknown) => zones.lb_local_cluster_not_ok().add(threads),
            Some(Idle::OneZone) | None => {}
        }
    }

    fn stats(&self) -> Option<(&BalancerStats, &ZoneStats)> {
        let stats = self.stats.as_deref()?;
        Some((stats, stats.zones.as_deref()?))
    }

    fn shares(&self, peers: &Peers) -> Vec<Share> {
        let by_weight = self.config.by_weight;
        let count = |healthy, weight| if by_weight { weight } else { healthy };
        let zones = peers.zones.values();
        let proxies: u64 = zones.map(|zone| count(zone.healthy, zone.weight)).sum();
        let zones = self.zones.iter();
        let members: u64 = zones.map(|zone| count(zone.healthy, zone.weight)).sum();
        let part = |one: u64, all: u64| one.saturating_mul(PARTS).checked_div(all).unwrap_or(0);
        let share = |zone: &Upstream| {
            let own = count(zone.healthy, zone.weight);
            if own == 0 {
                return Share::default(); // it gets nothing, whoever is there
            }
            let there = peers.zones.get(&zone.locality);
            let there = there.map_or(0, |there| count(there.healthy, there.weight));
            Share {
                proxies: part(there, proxies),
                members: part(own, members),
            }
        };
        self.zones.iter().map(share).collect()
    }

    /// The zone for the next request.
    fn pick(&self, draws: &mut Draws) -> Chosen {
        let way = self.way.load();
        if **way == Way::Everywhere {
            return Chosen::Any;
        }
        let percent = self.config.enabled_percent;
        if percent < 100 && draws.below(100) >= percent as usize {
            return Chosen::Any;
        }
        match &**way {
            Way::Everywhere => Chosen::Any,
            Way::Unfit { fails } => {
                self.count(ZoneStats::lb_local_cluster_not_ok);
                match fails {
                    true => Chosen::Nobody,
                    false => Chosen::Any,
                }
            }
            Way::Own => {
                self.count(ZoneStats::lb_zone_routing_all_directly);
                Chosen::Zone(0)
            }
            Way::Spread { own, left } => self.spread(*own, left, draws),
        }
    }

    fn spread(&self, own: u64, left: &[u64], draws: &mut Draws) -> Chosen {
        let point = draws.below(usize::try_from(PARTS).unwrap_or(usize::MAX));
        if (point as u64) < own {
            self.count(ZoneStats::lb_zone_routing_sampled);
            return Chosen::Zone(0);
        }
        self.count(ZoneStats::lb_zone_routing_cross_zone);
        let all = left.last().copied().unwrap_or(0);
        if all == 0 {
            // Rounding left nothing.
            self.count(ZoneStats::lb_zone_no_capacity_left);
            return Chosen::Zone(draws.below(left.len()));
        }
        let point = draws.below(usize::try_from(all).unwrap_or(usize::MAX)) as u64;
        Chosen::Zone(left.partition_point(|left| *left <= point))
    }

    fn count(&self, counter: impl FnOnce(&ZoneStats) -> Counter<'_>) {
        if let Some((_, zones)) = self.stats() {
            counter(zones).inc();
        }
    }
}

/// Why zones make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    /// On either side.
    OneZone,
    /// Too few members.
    Small,
    /// No proxy is where this one is.
    Unknown,
}

/// Parts of [`PARTS`].
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    proxies: u64,
    members: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Any,
    Nobody,
    Zone(usize),
}

/// What a pick reads.
#[derive(Debug)]
pub(super) struct Zones {
    pub(super) routing: Arc<ZoneRouting>,
    /// Those of each zone.
    pub(super) groups: Box<[Group]>,
    /// Those of all zones.
    pub(super) all: Group,
}

impl Zones {
    /// A place in the member list.
    pub(super) fn pick(&self, cursor: &mut u64, random: u64) -> Option<usize> {
        let mut draws = Draws::new(random);
        let zone = match self.routing.pick(&mut draws) {
            Chosen::Nobody => return None,
            Chosen::Any => None,
            Chosen::Zone(place) => self.groups.get(place),
        };
        let random = draws.any();
        zone.and_then(|zone| zone.pick(cursor, random))
            .or_else(|| self.all.pick(cursor, random))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::upstream::zone::PeerZone;

    fn zone(name: &str) -> Locality {
        Locality {
            zone: name.into(),
            ..Locality::default()
        }
    }

    /// Zones with healthy members, of weight 1 each.
    fn routing(config: ZoneAware, home: &str, zones: &[(&str, u64)]) -> ZoneRouting {
        let upstream = |(name, healthy): &(&str, u64)| Upstream {
            locality: zone(name),
            healthy: *healthy,
            weight: *healthy,
        };
        let zones = zones.iter().map(upstream).collect();
        ZoneRouting::new(config, (50, false), zones, Some(zone(home)))
    }

    fn peers(zones: &[(&str, u64)]) -> Peers {
        let peer = |(name, healthy): &(&str, u64)| {
            let of_zone = PeerZone {
                healthy: *healthy,
                weight: *healthy,
            };
            (zone(name), of_zone)
        };
        let zones: BTreeMap<_, _> = zones.iter().map(peer).collect();
        let healthy: u64 = zones.values().map(|zone| zone.healthy).sum();
        let healthy = usize::try_from(healthy).expect("there are few");
        Peers {
            zones,
            healthy,
            degraded: 0,
            counted: healthy,
        }
    }

    fn spread(own: u64, left: &[u64]) -> Way {
        Way::Spread {
            own,
            left: left.into(),
        }
    }

    #[test]
    fn the_own_zone_takes_what_is_fair_and_the_rest_goes_where_something_is_left() {
        let usual = ZoneAware::default();
        let check = |zones: &[(&str, u64)], proxies: &[(&str, u64)], expected: Way| {
            let way = routing(usual, "a", zones).way(&peers(proxies));
            assert_eq!(way, expected, "{zones:?} {proxies:?}");
        };
        // As many members as proxies.
        check(&[("a", 3), ("b", 3)], &[("a", 1), ("b", 1)], Way::Own);
        check(&[("a", 4), ("b", 2)], &[("a", 1), ("b", 1)], Way::Own);
        // Half as many.
        check(
            &[("a", 2), ("b", 6)],
            &[("a", 1), ("b", 1)],
            spread(5_000, &[0, 2_500]),
        );
        // Envoy's own example.
        check(
            &[("a", 5), ("b", 10), ("c", 5)],
            &[("a", 4), ("b", 4), ("c", 2)],
            spread(6_250, &[0, 1_000, 1_500]),
        );
        // Nobody in the own zone.
        check(
            &[("b", 6), ("c", 2)],
            &[("a", 2), ("b", 2)],
            spread(0, &[2_500, 5_000]),
        );
        check(
            &[("a", 0), ("b", 6)],
            &[("a", 1), ("b", 1)],
            spread(0, &[0, 5_000]),
        );
    }

    #[test]
    fn without_enough_zones_members_or_knowledge_zones_make_no_difference() {
        let usual = ZoneAware::default();
        let both = [("a", 3), ("b", 3)];
        let everywhere = |config, home, zones: &[(&str, u64)], proxies: &[(&str, u64)]| {
            routing(config, home, zones).way(&peers(proxies)) == Way::Everywhere
        };
        assert!(everywhere(usual, "a", &[("a", 6)], &both), "one zone");
        assert!(
            everywhere(usual, "a", &both, &[("a", 2)]),
            "one zone of proxies"
        );
        assert!(everywhere(usual, "z", &both, &both), "a zone nobody knows");
        assert!(
            everywhere(usual, "a", &[("a", 2), ("b", 3)], &both),
            "too few"
        );
        let small = ZoneAware {
            cluster_size_min: 5,
            ..usual
        };
        assert!(!everywhere(small, "a", &[("a", 2), ("b", 3)], &both));
        assert!(everywhere(usual, "a", &both, &[]));
    }

    #[test]
    fn the_own_zone_can_be_forced() {
        let forced = |from| ZoneAware {
            forced_from: Some(from),
            ..ZoneAware::default()
        };
        let zones = [("a", 2), ("b", 6)];
        let way =
            |from, proxies: &[(&str, u64)]| routing(forced(from), "a", &zones).way(&peers(proxies));
        assert_eq!(way(2, &[("a", 1), ("b", 1)]), Way::Own);
        assert_eq!(way(1, &[("a", 1)]), Way::Own);
        assert_eq!(way(3, &[("a", 1), ("b", 1)]), spread(5_000, &[0, 2_500]));
    }

    #[test]
    fn weights_can_count_instead_of_numbers() {
        let config = ZoneAware {
            by_weight: true,
            ..ZoneAware::default()
        };
        let mut routing = routing(config, "a", &[("a", 3), ("b", 3)]);
        routing.zones[1].weight = 9;
        let proxies = peers(&[("a", 1), ("b", 1)]);
        assert_eq!(routing.way(&proxies), spread(5_000, &[0, 2_500]));
        routing.zones[0].weight = u64::MAX / 2;
        routing.way(&proxies); // a sum that is too large for the parts
    }

    #[test]
    fn when_too_few_proxies_are_fit_zones_make_no_difference_or_it_fails() {
        let mut proxies = peers(&[("a", 1), ("b", 1)]);
        proxies.counted = 5;
        let mut routing = routing(ZoneAware::default(), "a", &[("a", 3), ("b", 3)]);
        assert_eq!(routing.way(&proxies), Way::Unfit { fails: false });
        routing.follow(&proxies);
        assert_eq!(routing.pick(&mut Draws::new(1)), Chosen::Any);
        routing.fails_in_panic = true;
        assert_eq!(routing.way(&proxies), Way::Unfit { fails: true });
        routing.follow(&proxies);
        assert_eq!(routing.pick(&mut Draws::new(1)), Chosen::Nobody);
    }

    #[test]
    fn picks_have_the_shares() {
        let config = ZoneAware {
            enabled_percent: 80,
            ..ZoneAware::default()
        };
        let zones = [("a", 5), ("b", 10), ("c", 5)];
        let routing = routing(config, "a", &zones);
        routing.follow(&peers(&[("a", 4), ("b", 4), ("c", 2)]));
        let mut draws = Draws::new(5);
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            match routing.pick(&mut draws) {
                Chosen::Zone(place) => counts[place] += 1,
                Chosen::Any | Chosen::Nobody => counts[3] += 1,
            }
        }
        let expected = [0.8 * 0.625, 0.8 * 0.25, 0.8 * 0.125, 0.2];
        for (count, share) in counts.iter().zip(expected) {
            let found = f64::from(*count) / 100_000.0;
            assert!((found - share).abs() < 0.01, "{counts:?}");
        }
    }
}
