//! Weights that change while members stay: the picker of policies with feedback.
//!
//! Two selectors over the same weights. `WeightedChoice` draws seven hosts by weight, if it can all different ones, and takes the one
//! with the least `(in flight + 1) / weight`; `Smooth` is weighted round robin. In flight is what has no
//! first byte yet: a stream that goes on for long is no work that waits. A small part of all
//! picks goes to any host alike, so that one with a low weight is seen to recover.
//!
//! Where a proxy makes only a small part of what hosts have to do, `WeightedChoice` counts what they say they
//! have in flight, and prefers those that said it last: a queue is gone when its latency is known.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::alias::Alias;
use super::draws::Draws;
use super::stride::Stride;
use crate::config::latency::Selector;
use crate::upstream::in_flight::InFlight;
use crate::upstream::load_report::RECENT;
use crate::upstream::load_report::Recent;
use crate::upstream::load_report::Told;

/// Drawn for one choice, apart from each other. In the simulator that leaves a p99.9 of 76.1 ms among ten equal
/// hosts at load 0.95, where nobody can come below 73.7; six that may be the same leave 77.1, eight of those
/// 76.0. Each costs some nanoseconds.
const CHOICES: u64 = 7;

/// Drawn beside those that answered last. In the simulator's S8 two are as good as six.
const CHOICES_BESIDE: usize = 3;

/// How far what a host said is believed, those drawn, who spoke some time before, and then from the latest that
/// spoke to the one six before: the rest is what hosts say usually, as a queue is soon another. In the simulator
/// that takes 0.1 % off the p99 and p99.9 of S8.
const TRUST: [f64; CHOICES_BESIDE + RECENT] = [0.3, 0.3, 0.3, 1.0, 0.8, 0.64, 0.51, 0.41, 0.33];

/// Of so many picks that would explore a host that has something to answer, one does. It is being explored
/// already: one that takes seconds would only make more requests wait. Not none, because a request
/// that never ends must not hide its host.
const BUSY: usize = 8;

/// The heaviest host's weight in the tables.
const SCALE: f64 = 1e6;

/// What an idle host of the greatest weight costs: nobody costs less.
const COST_MIN: f64 = 1.0 / SCALE;

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
    hosts: Box<[Arc<InFlight>]>,
    configured: Box<[u32]>,
    selector: Selector,
    tables: ArcSwap<Tables>,
    /// Hosts say what they have in flight, and the policy asks.
    has_reports: bool,
    recent: Arc<Recent>,
}

/// Made anew for each change of weights.
#[derive(Debug)]
struct Tables {
    /// Part of picks that goes to anybody, of 2^32.
    exploration: u64,
    partial: Option<Partial>,
    draws: Alias,
    order: Stride,
    candidates: Box<[Candidate]>,
}

/// What is compared of a host.
#[derive(Debug)]
struct Candidate {
    host: Arc<InFlight>,
    /// 1 over the weight. Where what hosts say counts, with its factor squared: a host that is slow has few
    /// requests in flight because it gets few, which must not make it look better.
    cost: f64,
}

impl Tables {
    fn new(weights: &[f64], hosts: &[Arc<InFlight>], exploration: f64) -> Self {
        let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let scaled: Vec<u32> = weights
            .iter()
            .map(|weight| scaled(weight / largest))
            .collect();
        let candidate = |(host, weight): (&Arc<InFlight>, &u32)| Candidate {
            host: Arc::clone(host),
            cost: f64::from(*weight).recip(),
        };
        Self {
            exploration: of_whole(exploration),
            partial: None,
            draws: Alias::new(&scaled),
            order: Stride::new(&scaled),
            candidates: hosts.iter().zip(&scaled).map(candidate).collect(),
        }
    }
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

/// Never zero: whoever is a member can be picked.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn scaled(share: f64) -> u32 {
    (share * SCALE).clamp(1.0, SCALE) as u32
}

impl Weighted {
    /// Prepares picks over hosts with these numbers in flight and configured weights.
    pub(super) fn new(selector: Selector, hosts: Box<[Arc<InFlight>]>, configured: &[u32]) -> Self {
        let weights: Vec<f64> = configured.iter().copied().map(f64::from).collect();
        Self {
            tables: ArcSwap::from_pointee(Tables::new(&weights, &hosts, 0.0)),
            hosts,
            configured: configured.into(),
            selector,
            has_reports: false,
            recent: Arc::default(),
        }
    }

    /// The same over hosts that say what they have in flight, in their order.
    pub(super) fn with_reports<'h>(self, told: impl Iterator<Item = &'h Told>) -> Self {
        for (place, told) in told.enumerate() {
            told.join(&self.recent, place);
        }
        Self {
            has_reports: true,
            ..self
        }
    }

    /// Multiplies each configured weight by the factor of its member, whose place is in `members`; one
    /// that is no positive number counts as 1.
    pub(super) fn set_factors(&self, members: &[usize], factors: &Factors) {
        let is_usable = |factor: &f64| factor.is_finite() && *factor > 0.0;
        let of_members = members.iter();
        let given = of_members.filter_map(|place| factors.of_members.get(*place).copied());
        let (exploration, partial) = (factors.exploration, factors.partial);
        let given = given.map(|factor| if is_usable(&factor) { factor } else { 1.0 });
        let factors: Vec<f64> = given.take(self.hosts.len()).collect();
        let weight = |(configured, factor): (&u32, &f64)| f64::from(*configured) * factor;
        let weights = self.configured.iter().zip(&factors).map(weight);
        let weights: Vec<f64> = weights.collect();
        if weights.len() == self.hosts.len() {
            let partial = partial.filter(|_| self.has_reports);
            self.recent.set_wanted(partial.is_some());
            let mut tables = Tables::new(&weights, &self.hosts, exploration);
            tables.partial = partial;
            if partial.is_some() {
                let both = weights.iter().zip(&factors);
                for (candidate, (weight, factor)) in tables.candidates.iter_mut().zip(both) {
                    candidate.cost = 1.0 / weight / factor;
                }
            }
            self.tables.store(Arc::new(tables));
        }
    }

    /// A place.
    pub(super) fn pick(&self, cursor: &mut u64, draws: &mut Draws) -> usize {
        let tables = self.tables.load();
        if tables.exploration > 0 && draws.any() >> 32 < tables.exploration {
            let place = draws.below(self.hosts.len());
            let is_idle = self.hosts.get(place).is_some_and(|host| host.value() == 0);
            if is_idle || draws.below(BUSY) == 0 {
                return place;
            }
        }
        match self.selector {
            Selector::Smooth => tables.order.pick(cursor),
            Selector::WeightedChoice => match &tables.partial {
                None => tables.choose(draws),
                Some(partial) => tables.choose_told(partial, &self.recent, draws),
            },
        }
    }
}

impl Tables {
    fn choose(&self, draws: &mut Draws) -> usize {
        let cost = |place: usize| {
            let candidate = self.candidates.get(place);
            candidate.map_or(f64::MAX, |one| (one.host.amount() + 1.0) * one.cost)
        };
        let mut spread = draws.spread::<CHOICES>();
        let mut best = self.draws.at(spread.next());
        let mut least = cost(best);
        for _ in 1..CHOICES {
            if least <= COST_MIN {
                break;
            }
            let place = self.draws.at(spread.next());
            let cost = cost(place);
            if cost < least {
                (best, least) = (place, cost);
            }
        }
        best
    }

    fn choose_told(&self, partial: &Partial, recent: &Recent, draws: &mut Draws) -> usize {
        // What the host said, and what it has from here since; whoever is like this proxy chooses alike.
        let cost = |place: usize, trust: f64| {
            let Some(one) = self.candidates.get(place) else {
                return f64::MAX;
            };
            let said = one.host.said().unwrap_or(partial.usual);
            let said = partial.usual + (said - partial.usual) * trust;
            (said + one.host.amount() * partial.proxies + 1.0) * one.cost
        };
        let mut spread = draws.spread::<{ CHOICES_BESIDE as u64 }>();
        let recent = recent.places();
        let places: [usize; TRUST.len()] = std::array::from_fn(|at| {
            let recent = at.checked_sub(CHOICES_BESIDE).and_then(|at| recent.get(at));
            recent.map_or_else(|| self.draws.at(spread.next()), |place| *place)
        });
        let costs: [f64; TRUST.len()] = std::array::from_fn(|at| cost(places[at], TRUST[at]));
        places[least(&costs) % TRUST.len()]
    }
}

/// Where the least cost is, the first of those that differ by a rounding. Found without a branch for each that is
/// less than those before, which nobody can foresee: numbers that are not negative compare like their bits, and the
/// last of them are its place.
fn least<const COUNT: usize>(costs: &[f64; COUNT]) -> usize {
    const { assert!(COUNT <= 16, "four bits") };
    let numbered = costs.iter().zip(0..);
    let least = numbered
        .map(|(cost, at)| (cost.to_bits() & !0xf) | at)
        .min();
    usize::try_from(least.unwrap_or(0) & 0xf).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PICKS: u32 = 50_000;

    fn weighted(selector: Selector, busy: &[u32]) -> Weighted {
        let in_flight = |busy: &u32| {
            let value = Arc::new(InFlight::default());
            (0..*busy).for_each(|_| value.inc());
            value
        };
        let hosts = busy.iter().map(in_flight).collect();
        Weighted::new(selector, hosts, &vec![1; busy.len()])
    }

    fn set(weighted: &Weighted, factors: &[f64], exploration: f64) {
        let members: Vec<usize> = (0..weighted.hosts.len()).collect();
        let factors = Factors {
            of_members: factors.to_vec(),
            exploration,
            partial: None,
        };
        weighted.set_factors(&members, &factors);
    }

    fn shares(weighted: &Weighted) -> Vec<f64> {
        let mut counts = vec![0_u32; weighted.hosts.len()];
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
        let weighted = weighted(Selector::WeightedChoice, &[0, 0, 0, 1]);
        let told: Vec<Told> = weighted.hosts.iter().map(Told::new).collect();
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
