//! Consistent hashing with bounded loads (`hash_balance_factor`), as Envoy does it: a member that has
//! more requests in flight than its share of the cluster's allows is passed over for another one.
//! Which one is decided by the hash, so that like requests still meet.

use std::cell::RefCell;
use std::sync::Arc;

use super::twister::Twister;
use crate::upstream::in_flight::InFlight;
use crate::upstream::in_flight::Total;

/// What is known of the load.
#[derive(Debug)]
pub(super) struct BoundedLoad {
    /// Percent.
    factor: u32,
    cluster: Total,
    hosts: Box<[Load]>,
}

/// One member.
#[derive(Debug)]
struct Load {
    in_flight: Arc<InFlight>,
    /// Of 1.
    share: f64,
}

impl BoundedLoad {
    /// Bounds the load of `hosts`, each with its share of 1, to `factor` percent of that share of what
    /// the cluster has in flight.
    pub(super) fn new(
        factor: u32,
        cluster: Total,
        hosts: impl Iterator<Item = (Arc<InFlight>, f64)>,
    ) -> Self {
        Self {
            factor,
            cluster,
            hosts: hosts
                .map(|(in_flight, share)| Load { in_flight, share })
                .collect(),
        }
    }

    /// `first` if it has room, else the first in the order of `hash` that has, else the least loaded.
    pub(super) fn pick(&self, first: usize, hash: u64) -> usize {
        let slots = self.slots();
        let load = self.hosts.get(first).map_or(0.0, |host| host.load(slots));
        if load <= 1.0 {
            return first;
        }
        thread_local! {
            // A worker allocates it once.
            static ORDER: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        }
        ORDER.with_borrow_mut(|order| self.other(order, (first, load), (hash, slots)))
    }

    fn other(
        &self,
        order: &mut Vec<usize>,
        (first, load): (usize, f64),
        (hash, slots): (u64, f64),
    ) -> usize {
        order.clear();
        order.extend(0..self.hosts.len());
        let mut random = Twister::new(hash);
        let (mut least, mut least_load) = (first, load);
        for turn in 0..order.len() {
            let other = turn + random.below(order.len() - turn);
            order.swap(turn, other);
            let Some((place, host)) = order
                .get(turn)
                .and_then(|p| Some((*p, self.hosts.get(*p)?)))
            else {
                break;
            };
            let load = host.load(slots);
            if place != first && load <= 1.0 {
                return place;
            }
            if place != first && load < least_load {
                (least, least_load) = (place, load);
            }
        }
        least
    }

    /// What the cluster may have in flight if it grows by one request, bound included.
    #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
    fn slots(&self) -> f64 {
        let wanted = (self.cluster.value() + 1).saturating_mul(u64::from(self.factor));
        wanted.div_ceil(100) as f64
    }
}

impl Load {
    /// Above 1 it is too much.
    #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
    fn load(&self, slots: f64) -> f64 {
        self.in_flight.value() as f64 / (slots * self.share).ceil().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(factor: u32, hosts: &[(u64, f64)]) -> BoundedLoad {
        let busy = |count| {
            let value = Arc::new(InFlight::default());
            (0..count).for_each(|_| value.inc());
            value
        };
        let loads: Vec<_> = hosts
            .iter()
            .map(|(count, share)| (busy(*count), *share))
            .collect();
        let all = loads.iter().map(|(load, _)| Arc::clone(load));
        BoundedLoad::new(factor, Total::new(all.collect()), loads.into_iter())
    }

    #[test]
    fn who_has_room_keeps_its_requests() {
        // (4 + 1) * 1.5 / 4 is 2 each.
        let even = bounded(150, &[(2, 0.25), (1, 0.25), (1, 0.25), (0, 0.25)]);
        assert_eq!(even.pick(0, 7), 0);
        let heavy = bounded(100, &[(9, 0.9), (1, 0.1)]);
        assert_eq!(heavy.pick(0, 7), 0);
    }

    #[test]
    fn who_has_none_sends_them_where_the_hash_says() {
        let hosts = [(30, 0.25), (0, 0.25), (0, 0.25), (0, 0.25)];
        let bounded = bounded(120, &hosts);
        let mut seen = [0; 4];
        for hash in 0..1000 {
            let place = bounded.pick(0, hash);
            assert_eq!(bounded.pick(0, hash), place);
            seen[place] += 1;
        }
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|count| *count > 250), "{seen:?}");
    }

    #[test]
    fn if_nobody_has_room_the_least_loaded_takes_it() {
        let mut full = bounded(100, &[(4, 0.5), (3, 0.5)]);
        full.cluster = Total::new(Box::default()); // so that each may have one
        assert_eq!(full.pick(0, 1), 1);
        assert_eq!(full.pick(1, 1), 1);
    }
}
