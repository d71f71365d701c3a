//! Weights that change while members stay: the picker of policies with feedback.
//!
//! Two selectors over the same weights: the best of a few that are drawn by weight (`choice`), and weighted round
//! robin (`stride`). Now and then a pick goes to a host that got none for a while, whatever its weight, so that it is
//! seen to recover.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use super::choice::Choice;
use super::draws::Draws;
use super::stride::Stride;
use crate::config::latency::Selector;
use crate::upstream::in_flight::InFlight;
use crate::upstream::load_report::Told;

/// The heaviest host's weight in the tables.
pub(super) const SCALE: f64 = 1e6;

/// What feedback makes of the weights of all members of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Factors {
    /// By which the weight of each is multiplied, in the order of the members.
    pub of_members: Vec<f64>,
    /// Who gets one of the next picks each: places of members, in ascending order.
    pub explored: Vec<usize>,
    /// There, if what hosts say they have in flight counts.
    pub partial: Option<Partial>,
}

/// What is known where a proxy makes only a small part of what hosts have to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Partial {
    /// So many proxies like this one would make all of it.
    pub proxies: f64,
    /// Requests in flight of a host that does not say how many it has.
    pub usual: f64,
}

/// What a pick reads.
#[derive(Debug)]
pub(super) struct Weighted {
    configured: Box<[u32]>,
    explored: Explored,
    order: Order,
}

/// A selector with its members.
#[derive(Debug)]
enum Order {
    Choice(Choice),
    Smooth(ArcSwap<Stride>),
}

/// Weights as parts of the largest.
fn scaled(weights: &[f64]) -> Vec<u32> {
    let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    weights
        .iter()
        .map(|weight| of_scale(weight / largest))
        .collect()
}

/// Never zero: whoever is a member can be picked.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn of_scale(share: f64) -> u32 {
    (share * SCALE).clamp(1.0, SCALE) as u32
}

/// Places that get a pick each, whoever comes next.
#[derive(Debug)]
struct Explored {
    places: Box<[AtomicUsize]>,
    left: AtomicUsize,
}

impl Explored {
    fn new(len: usize) -> Self {
        Self {
            places: (0..len).map(|_| AtomicUsize::new(0)).collect(),
            left: AtomicUsize::new(0),
        }
    }

    /// Others from now on. A pick meanwhile may still get one of those before.
    fn set(&self, places: impl Iterator<Item = usize>) {
        self.left.store(0, Ordering::Relaxed);
        let mut count = 0;
        for (cell, place) in self.places.iter().zip(places) {
            cell.store(place, Ordering::Relaxed);
            count += 1;
        }
        self.left.store(count, Ordering::Release);
    }

    /// The next one; none for a worker that meets another one here, which is no loss.
    fn take(&self) -> Option<usize> {
        let left = self.left.load(Ordering::Acquire);
        let next = left.checked_sub(1)?;
        let taken = (self.left).compare_exchange(left, next, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok()?;
        Some(self.places.get(next)?.load(Ordering::Relaxed))
    }
}

impl Weighted {
    /// Prepares picks over hosts with these numbers in flight and configured weights.
    pub(super) fn new(selector: Selector, hosts: &[Arc<InFlight>], configured: &[u32]) -> Self {
        let weights: Vec<f64> = configured.iter().copied().map(f64::from).collect();
        let scaled = scaled(&weights);
        Self {
            configured: configured.into(),
            explored: Explored::new(configured.len()),
            order: match selector {
                Selector::Smooth => Order::Smooth(ArcSwap::from_pointee(Stride::new(&scaled))),
                Selector::WeightedChoice => Order::Choice(Choice::new(hosts, &scaled)),
            },
        }
    }

    /// The same over hosts that say what they have in flight, in their order, if that makes a difference.
    pub(super) fn with_reports<'h>(mut self, told: impl Iterator<Item = &'h Told>) -> Self {
        if let Order::Choice(choice) = &mut self.order {
            choice.listen(told);
        }
        self
    }

    /// Multiplies each configured weight by the factor of its member, whose place is in `members`; one
    /// that is no positive number counts as 1.
    pub(super) fn set_factors(&self, members: &[usize], factors: &Factors) {
        let is_usable = |factor: &f64| factor.is_finite() && *factor > 0.0;
        let of_members = members.iter();
        let given = of_members.filter_map(|place| factors.of_members.get(*place).copied());
        let given = given.map(|factor| if is_usable(&factor) { factor } else { 1.0 });
        let of_own: Vec<f64> = given.take(self.configured.len()).collect();
        if of_own.len() < self.configured.len() {
            return;
        }
        let weight = |(configured, factor): (&u32, &f64)| f64::from(*configured) * factor;
        let weights: Vec<f64> = self.configured.iter().zip(&of_own).map(weight).collect();
        let scaled = scaled(&weights);
        match &self.order {
            Order::Choice(choice) => choice.set(&scaled, (&weights, &of_own), factors.partial),
            Order::Smooth(order) => order.store(Arc::new(Stride::new(&scaled))),
        }
        let explored = (members.iter().enumerate())
            .filter(|(_, member)| factors.explored.binary_search(member).is_ok())
            .map(|(place, _)| place);
        self.explored.set(explored);
    }

    /// A place.
    pub(super) fn pick(&self, cursor: &mut u64, draws: &mut Draws) -> usize {
        if let Some(place) = self.explored.take() {
            return place;
        }
        match &self.order {
            Order::Choice(choice) => choice.pick(draws),
            Order::Smooth(order) => order.load().pick(cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PICKS: u32 = 50_000;

    fn hosts(busy: &[u32]) -> Box<[Arc<InFlight>]> {
        let in_flight = |busy: &u32| {
            let value = Arc::new(InFlight::default());
            (0..*busy).for_each(|_| value.inc());
            value
        };
        busy.iter().map(in_flight).collect()
    }

    fn weighted(selector: Selector, busy: &[u32]) -> Weighted {
        Weighted::new(selector, &hosts(busy), &vec![1; busy.len()])
    }

    fn set(weighted: &Weighted, factors: &[f64], explored: &[usize]) {
        let members: Vec<usize> = (0..weighted.configured.len()).collect();
        let factors = Factors {
            of_members: factors.to_vec(),
            explored: explored.to_vec(),
            partial: None,
        };
        weighted.set_factors(&members, &factors);
    }

    fn shares(weighted: &Weighted) -> Vec<f64> {
        let mut counts = vec![0_u32; weighted.configured.len()];
        let (mut draws, mut cursor) = (Draws::new(3), 0);
        (0..PICKS).for_each(|_| counts[weighted.pick(&mut cursor, &mut draws)] += 1);
        counts
            .into_iter()
            .map(|count| f64::from(count) / f64::from(PICKS))
            .collect()
    }

    #[test]
    fn in_turn_shares_follow_the_factors() {
        let weighted = weighted(Selector::Smooth, &[0, 0, 0]);
        set(&weighted, &[1.0, 3.0, 6.0], &[]);
        for (found, expected) in shares(&weighted).iter().zip([0.1, 0.3, 0.6]) {
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
    }

    #[test]
    fn a_busy_or_light_host_is_hardly_chosen() {
        let weighted = weighted(Selector::WeightedChoice, &[0, 0, 0, 40]);
        set(&weighted, &[20.0, 20.0, 1.0, 20.0], &[]);
        let shares = shares(&weighted);
        assert!(shares[2] < 0.001 && shares[3] < 0.001, "{shares:?}");
        assert!((shares[0] - shares[1]).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn who_is_explored_gets_a_pick_each_by_either_selector() {
        for selector in [Selector::WeightedChoice, Selector::Smooth] {
            let weighted = weighted(selector, &[0, 0, 40, 40]);
            set(&weighted, &[20.0, 20.0, 1.0, 1.0], &[2, 3]);
            let (mut draws, mut cursor) = (Draws::new(5), 0);
            let mut pick = || weighted.pick(&mut cursor, &mut draws);
            let mut first = [pick(), pick()];
            first.sort_unstable();
            assert_eq!(first, [2, 3]);
            let rest = [pick(), pick(), pick()];
            assert!(rest.iter().all(|place| *place < 2), "{rest:?}");
        }
    }

    #[test]
    fn what_hosts_say_counts_more_than_what_is_known_here() {
        let hosts = hosts(&[0, 0, 0, 1]);
        let told: Vec<Told> = hosts.iter().map(Told::new).collect();
        let weighted = Weighted::new(Selector::WeightedChoice, &hosts, &[1; 4]);
        let weighted = weighted.with_reports(told.iter());
        let members = [0, 1, 2, 3];
        let factors = |of_members: &[f64], partial| Factors {
            of_members: of_members.to_vec(),
            explored: Vec::new(),
            partial,
        };
        let partial = Some(Partial {
            proxies: 20.0,
            usual: 6.0,
        });
        weighted.set_factors(&members, &factors(&[1.0; 4], partial));
        for (told, in_flight) in told.iter().zip([7.0, 2.0, 5.0, 0.0]) {
            told.set(in_flight);
        }
        let found = shares(&weighted);
        assert!(
            found[1] > 0.999,
            "the last one has a request from here: {found:?}"
        );
        // 7 + 1, 2 + 1 for a host three times slower, 6 + 1 for one that is not heard any more.
        weighted.set_factors(&members, &factors(&[3.0, 1.0, 3.0, 3.0], partial));
        told[2].forget();
        let found = shares(&weighted);
        assert!(found[2] > 0.999, "{found:?}");
        weighted.set_factors(&members, &factors(&[1.0; 4], None));
        let found = shares(&weighted);
        assert!(found[..3].iter().all(|share| *share > 0.3), "{found:?}");
    }

    #[test]
    fn factors_that_are_no_numbers_change_nothing() {
        let weighted = weighted(Selector::Smooth, &[0, 0]);
        set(&weighted, &[f64::NAN, f64::INFINITY], &[]);
        assert_eq!(shares(&weighted), [0.5, 0.5]);
        set(&weighted, &[1.0], &[]); // not one for each
        assert_eq!(shares(&weighted), [0.5, 0.5]);
    }

    proptest! {
        #[test]
        fn picks_are_in_range(
            factors in prop::collection::vec(prop::num::f64::ANY, 1..40), random: u64, start: u32, smooth: bool,
        ) {
            let selector = if smooth { Selector::Smooth } else { Selector::WeightedChoice };
            let weighted = weighted(selector, &vec![0; factors.len()]);
            set(&weighted, &factors, &[0]);
            let mut cursor = u64::from(start);
            prop_assert!(weighted.pick(&mut cursor, &mut Draws::new(random)) < factors.len());
        }
    }
}
