//! Weights that change while members stay: the picker of policies with feedback.
//!
//! Two selectors over the same weights: the best of a few that are drawn by weight (`choice`), and weighted round
//! robin (`stride`). A small part of all picks goes to any host alike, so that one with a low weight is seen to
//! recover.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use super::choice::Choice;
use super::draws::Draws;
use super::stride::Stride;
use crate::config::latency::Selector;
use crate::upstream::in_flight::InFlight;
use crate::upstream::load_report::Told;

/// Of so many picks that would explore a host that has something to answer, one does. It is being explored
/// already: one that takes seconds would only make more requests wait. Not none, because a request
/// that never ends must not hide its host.
const BUSY: usize = 8;

/// The heaviest host's weight in the tables.
pub(super) const SCALE: f64 = 1e6;

/// What feedback makes of the weights of all members of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Factors {
    /// By which the weight of each is multiplied, in the order of the members.
    pub of_members: Vec<f64>,
    /// Part of all picks that goes to any of them.
    pub exploration: f64,
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
    /// Part of picks that goes to anybody, of 2^32.
    exploration: AtomicU64,
    order: Order,
}

/// A selector with its members.
#[derive(Debug)]
enum Order {
    Choice(Choice),
    Smooth(Box<[Arc<InFlight>]>, ArcSwap<Stride>),
}

impl Order {
    fn host(&self, place: usize) -> Option<&InFlight> {
        match self {
            Self::Choice(choice) => choice.host(place),
            Self::Smooth(hosts, _) => hosts.get(place).map(|host| &**host),
        }
    }
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

/// A share as the number of 32 bits that a draw is below as often.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn of_whole(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 2_f64.powi(32)).ceil() as u64
}

impl Weighted {
    /// Prepares picks over hosts with these numbers in flight and configured weights.
    pub(super) fn new(selector: Selector, hosts: Box<[Arc<InFlight>]>, configured: &[u32]) -> Self {
        let weights: Vec<f64> = configured.iter().copied().map(f64::from).collect();
        let scaled = scaled(&weights);
        Self {
            configured: configured.into(),
            exploration: AtomicU64::new(0),
            order: match selector {
                Selector::Smooth => {
                    Order::Smooth(hosts, ArcSwap::from_pointee(Stride::new(&scaled)))
                }
                Selector::WeightedChoice => Order::Choice(Choice::new(&hosts, &scaled)),
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
        let (exploration, partial) = (factors.exploration, factors.partial);
        let given = given.map(|factor| if is_usable(&factor) { factor } else { 1.0 });
        let factors: Vec<f64> = given.take(self.configured.len()).collect();
        if factors.len() < self.configured.len() {
            return;
        }
        let weight = |(configured, factor): (&u32, &f64)| f64::from(*configured) * factor;
        let weights: Vec<f64> = self.configured.iter().zip(&factors).map(weight).collect();
        let scaled = scaled(&weights);
        match &self.order {
            Order::Choice(choice) => choice.set(&scaled, (&weights, &factors), partial),
            Order::Smooth(_, order) => order.store(Arc::new(Stride::new(&scaled))),
        }
        let exploration = of_whole(exploration);
        self.exploration.store(exploration, Ordering::Relaxed);
    }

    /// A place.
    pub(super) fn pick(&self, cursor: &mut u64, draws: &mut Draws) -> usize {
        let exploration = self.exploration.load(Ordering::Relaxed);
        if exploration > 0 && draws.any() >> 32 < exploration {
            let place = draws.below(self.configured.len());
            let is_idle = (self.order.host(place)).is_some_and(|host| host.value() == 0);
            if is_idle || draws.below(BUSY) == 0 {
                return place;
            }
        }
        match &self.order {
            Order::Choice(choice) => choice.pick(draws),
            Order::Smooth(_, order) => order.load().pick(cursor),
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
        Weighted::new(selector, hosts(busy), &vec![1; busy.len()])
    }

    fn set(weighted: &Weighted, factors: &[f64], exploration: f64) {
        let members: Vec<usize> = (0..weighted.configured.len()).collect();
        let factors = Factors {
            of_members: factors.to_vec(),
            exploration,
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
        set(&weighted, &[1.0, 3.0, 6.0], 0.0);
        for (found, expected) in shares(&weighted).iter().zip([0.1, 0.3, 0.6]) {
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
    }

    #[test]
    fn a_busy_or_light_host_is_hardly_chosen_but_explored() {
        let weighted = weighted(Selector::WeightedChoice, &[0, 0, 0, 40]);
        set(&weighted, &[20.0, 20.0, 1.0, 20.0], 0.02);
        let shares = shares(&weighted);
        // A quarter of the explored picks, and when its only rivals are draws of the busy one.
        assert!((0.004..0.009).contains(&shares[2]), "{shares:?}");
        // An eighth of that: somebody else is drawn always.
        assert!((0.0003..0.001).contains(&shares[3]), "{shares:?}");
        assert!((shares[0] - shares[1]).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn what_hosts_say_counts_more_than_what_is_known_here() {
        let hosts = hosts(&[0, 0, 0, 1]);
        let told: Vec<Told> = hosts.iter().map(Told::new).collect();
        let weighted = Weighted::new(Selector::WeightedChoice, hosts, &[1; 4]);
        let weighted = weighted.with_reports(told.iter());
        let members = [0, 1, 2, 3];
        let factors = |of_members: &[f64], partial| Factors {
            of_members: of_members.to_vec(),
            exploration: 0.0,
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
        set(&weighted, &[f64::NAN, f64::INFINITY], 0.0);
        assert_eq!(shares(&weighted), [0.5, 0.5]);
        set(&weighted, &[1.0], 0.0); // not one for each
        assert_eq!(shares(&weighted), [0.5, 0.5]);
    }

    proptest! {
        #[test]
        fn picks_are_in_range(
            factors in prop::collection::vec(prop::num::f64::ANY, 1..40), random: u64, start: u32, smooth: bool,
        ) {
            let selector = if smooth { Selector::Smooth } else { Selector::WeightedChoice };
            let weighted = weighted(selector, &vec![0; factors.len()]);
            set(&weighted, &factors, 0.1);
            let mut cursor = u64::from(start);
            prop_assert!(weighted.pick(&mut cursor, &mut Draws::new(random)) < factors.len());
        }
    }
}
