//! Consistent hashing with bounded loads (`hash_balance_factor`): a member that has more requests in flight
//! than its share of the cluster's allows is passed over for another one. Which one is decided by the hash,
//! so that like requests still meet.
//!
//! The bound is Envoy's. The order in which others are asked is not: Envoy's comes out of a Mersenne twister
//! whose seed alone takes longer than ten picks, and which of them has room differs from proxy to proxy anyhow.
//! Here it is a walk in equal steps around a circle, which remembers nothing. When members come or go others
//! are asked, as in Envoy.

use std::sync::Arc;

use super::draws::Draws;
use super::draws::split;
use crate::upstream::in_flight::InFlight;
use crate::upstream::in_flight::Total;

/// What is known of the load.
#[derive(Debug)]
pub(super) struct BoundedLoad {
    /// Percent.
    factor: u32,
    cluster: Total,
    hosts: Box<[Load]>,
    /// Places on the circle, a prime number: steps of any length come to all of them.
    circle: usize,
}

/// Equal steps around the circle.
#[derive(Debug)]
struct Walk {
    next: usize,
    step: usize,
    circle: usize,
}

/// Members that are looked at without a decision between them, which would be as good as a guess.
const AT_ONCE: usize = 2;

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
        let hosts: Box<[Load]> = hosts
            .map(|(in_flight, share)| Load { in_flight, share })
            .collect();
        Self {
            factor,
            cluster,
            circle: prime_from(hosts.len()),
            hosts,
        }
    }

    /// `first` if it has room, else the first in the order of `hash` that has, else the least loaded.
    pub(super) fn pick(&self, first: usize, hash: u64) -> usize {
        let slots = self.slots();
        let has_room = |place: usize| {
            let host = self.hosts.get(place);
            host.is_none_or(|host| host.has_room(slots))
        };
        if has_room(first) {
            return first;
        }
        let mut walk = self.walk(first, hash);
        for _ in 0..self.circle.div_ceil(AT_ONCE) {
            let places: [usize; AT_ONCE] = std::array::from_fn(|_| walk.next());
            let have_room = places.map(|place| self.is_other(place, first) & has_room(place));
            let all = have_room.into_iter().rev();
            let bits = all.fold(0_u32, |bits, has_room| bits << 1 | u32::from(has_room));
            if let Some(place) = places.get(bits.trailing_zeros() as usize) {
                return *place;
            }
        }
        self.least_loaded(first, hash, slots)
    }

    const fn is_other(&self, place: usize, first: usize) -> bool {
        place < self.hosts.len() && place != first
    }

    /// Around the circle, begun at any member but `first` alike.
    fn walk(&self, first: usize, hash: u64) -> Walk {
        let any = Draws::new(hash).any();
        let (next, rest) = split(any, self.hosts.len().saturating_sub(1));
        Walk {
            next: next + usize::from(next >= first),
            step: 1 + split(rest, self.circle - 1).0,
            circle: self.circle,
        }
    }

    /// The places of all but `first`, each once, in the order of the walk.
    fn others(&self, first: usize, hash: u64) -> impl Iterator<Item = usize> {
        let mut walk = self.walk(first, hash);
        let around = (0..self.circle).map(move |_| walk.next());
        around.filter(move |place| self.is_other(*place, first))
    }

    /// Of equals the one that comes first.
    fn least_loaded(&self, first: usize, hash: u64, slots: f64) -> usize {
        let load = |place: usize| self.hosts.get(place).map_or(0.0, |host| host.load(slots));
        let others = self.others(first, hash);
        let least = others.fold((first, load(first)), |least, place| {
            let load = load(place);
            if load < least.1 { (place, load) } else { least }
        });
        least.0
    }

    /// What the cluster may have in flight if it grows by one request, bound included.
    #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
    fn slots(&self) -> f64 {
        let wanted = (self.cluster.value() + 1).saturating_mul(u64::from(self.factor));
        wanted.div_ceil(100) as f64
    }
}

impl Walk {
    /// The next place, which may be one that nobody is at.
    fn next(&mut self) -> usize {
        let place = self.next;
        let next = place + self.step;
        self.next = next.checked_sub(self.circle).unwrap_or(next);
        place
    }
}

impl Load {
    /// Whether it has no more than its bound, which is rounded up and at least 1. Without rounding and
    /// division: a whole number is not above what another is rounded up to if one less is below that.
    fn has_room(&self, slots: f64) -> bool {
        let bound = (slots * self.share).max(f64::MIN_POSITIVE); // so that one is never too many
        self.in_flight.amount() - 1.0 < bound
    }

    /// In parts of the bound.
    fn load(&self, slots: f64) -> f64 {
        self.in_flight.amount() / (slots * self.share).ceil().max(1.0)
    }
}

/// The least prime number that is not below `count`.
fn prime_from(count: usize) -> usize {
    let divides = |divisor: &usize, number: usize| number.is_multiple_of(*divisor);
    let is_prime = |number: &usize| {
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= *number);
        !divisors.any(|divisor| divides(&divisor, *number))
    };
    (count.max(2)..).find(is_prime).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// Equal members with these requests in flight.
    fn equal(factor: u32, busy: &[u64]) -> BoundedLoad {
        let share = 1.0 / busy.len() as f64;
        let hosts: Vec<_> = busy.iter().map(|count| (*count, share)).collect();
        bounded(factor, &hosts)
    }

    #[test]
    fn who_has_room_keeps_its_requests() {
        // (4 + 1) * 1.5 / 4 is 2 each.
        let even = equal(150, &[2, 1, 1, 0]);
        assert_eq!(even.pick(0, 7), 0);
        let heavy = bounded(100, &[(9, 0.9), (1, 0.1)]);
        assert_eq!(heavy.pick(0, 7), 0);
    }

    /// Chi-square of what `keys` members got, over so many places.
    fn unevenness(counts: &[u32], keys: u32) -> f64 {
        let wanted = f64::from(keys) / counts.len() as f64;
        let part = |count: &u32| (f64::from(*count) - wanted).powi(2) / wanted;
        counts.iter().map(part).sum()
    }

    #[test]
    fn what_one_member_has_no_room_for_is_spread_evenly_over_the_others() {
        const KEYS: u32 = 20_000;
        for count in [4, 8, 9, 30, 101] {
            let mut busy = vec![0; count];
            let full = count / 3;
            busy[full] = 300;
            let one_is_full = equal(120, &busy);
            busy[0] = 300;
            let two_are_full = equal(120, &busy);
            for (bounded, others) in [(one_is_full, count - 1), (two_are_full, count - 2)] {
                let mut counts = vec![0; count];
                (0..KEYS).for_each(|hash| counts[bounded.pick(full, hash.into())] += 1);
                assert!(counts[full] == 0);
                counts.retain(|count| *count > 0);
                assert_eq!(counts.len(), others);
                // Of a chi-square distribution six standard deviations above the mean.
                let freedom = others as f64 - 1.0;
                let bound = freedom + 6.0 * (2.0 * freedom).sqrt();
                let found = unevenness(&counts, KEYS);
                let is_first_other = others == count - 1;
                assert!(
                    !is_first_other || found < bound,
                    "{count}: {found} {counts:?}"
                );
                // Whoever comes second is chosen by the step, which may lead to a place with nobody.
                let wanted = f64::from(KEYS) / others as f64;
                let is_near = |count: &u32| (f64::from(*count) / wanted - 1.0).abs() < 0.4;
                assert!(counts.iter().all(is_near), "{count}: {counts:?}");
            }
        }
    }

    #[test]
    fn if_nobody_has_room_the_least_loaded_takes_it() {
        let mut full = bounded(100, &[(4, 0.5), (3, 0.5)]);
        full.cluster = Total::new(Box::default()); // so that each may have one
        assert_eq!(full.pick(0, 1), 1);
        assert_eq!(full.pick(1, 1), 1);
    }

    proptest! {
        #[test]
        fn each_other_member_is_asked_once_and_in_the_same_order(
            count in 1_usize..300, first: prop::sample::Index, hash: u64,
        ) {
            let bounded = equal(100, &vec![0; count]);
            let first = first.index(count);
            let others: Vec<usize> = bounded.others(first, hash).collect();
            let again: Vec<usize> = bounded.others(first, hash).collect();
            prop_assert_eq!(&others, &again);
            let mut sorted = others;
            sorted.sort_unstable();
            let all: Vec<usize> = (0..count).filter(|place| *place != first).collect();
            prop_assert_eq!(sorted, all);
        }

        #[test]
        fn having_room_is_a_load_of_at_most_one(in_flight in 0_u64..50, slots in 0_u32..200, share in 0.0..1.0) {
            let bounded = bounded(100, &[(in_flight, share)]);
            let host = &bounded.hosts[0];
            let slots = f64::from(slots);
            prop_assert_eq!(host.has_room(slots), host.load(slots) <= 1.0);
        }

        #[test]
        fn the_bound_is_held_while_anybody_has_room(
            busy in prop::collection::vec(0_u64..12, 2..16), factor in 100_u32..300, hash: u64,
        ) {
            let bounded = equal(factor, &busy);
            let first = usize::try_from(hash % busy.len() as u64).expect("a place");
            let (chosen, slots) = (bounded.pick(first, hash), bounded.slots());
            // A bound of 100 percent and more leaves room to one at least.
            prop_assert!(bounded.hosts[chosen].has_room(slots));
            prop_assert_eq!(bounded.pick(first, hash), chosen);
        }
    }
}
