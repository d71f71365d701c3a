//! Weights that change while members stay: the picker of policies with feedback.
//!
//! Two selectors over the same weights. `WeightedChoice` draws six hosts by weight and takes the one
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
use crate::upstream::load_report::Recent;
use crate::upstream::load_report::Told;

/// Drawn for one choice. In the simulator five leave a p99 of 53.7 ms among equal hosts at load 0.95,
/// six 53.2 and eight 53.0, where nobody can come below 50.2; each costs some nanoseconds.
const CHOICES: usize = 6;

/// Drawn beside those that answered last. In the simulator's S8 two are as good as six.
const CHOICES_BESIDE: usize = 3;

/// Of so many picks that would explore a host that has something to answer, one does. It is being explored
/// already: one that takes seconds would only make more requests wait. Not none, because a request
/// that never ends must not hide its host.
const BUSY: usize = 8;

/// The heaviest host's weight in the tables.
const SCALE: f64 = 1e6;

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
    /// What hosts say; empty if the policy does not ask.
    told: Box<[Arc<Told>]>,
    recent: Arc<Recent>,
}

/// Made anew for each change of weights.
#[derive(Debug)]
struct Tables {
    /// Part of picks that goes to anybody.
    exploration: f64,
    partial: Option<Partial>,
    draws: Alias,
    order: Stride,
    /// 1 over the weight.
    costs: Box<[f64]>,
    /// The same with factors squared: a host that is slow has few requests in flight because it gets few,
    /// which must not make it look better. Empty unless what hosts say counts.
    told_costs: Box<[f64]>,
}

impl Tables {
    fn new(weights: &[f64], exploration: f64, partial: Option<Partial>) -> Self {
        let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let scaled: Vec<u32> = weights
            .iter()
            .map(|weight| scaled(weight / largest))
            .collect();
        let cost = |weight: &u32| f64::from(*weight).recip();
        Self {
            exploration,
            partial,
            draws: Alias::new(&scaled),
            order: Stride::new(&scaled),
            costs: scaled.iter().map(cost).collect(),
            told_costs: Box::default(),
        }
    }
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
            hosts,
            configured: configured.into(),
            selector,
            tables: ArcSwap::from_pointee(Tables::new(&weights, 0.0, None)),
            told: Box::default(),
            recent: Arc::default(),
        }
    }

    /// The same over hosts that say what they have in flight.
    pub(super) fn with_reports(self, told: Box<[Arc<Told>]>) -> Self {
        for (place, told) in told.iter().enumerate() {
            told.join(&self.recent, place);
        }
        Self { told, ..self }
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
            let partial = partial.filter(|_| self.told.len() == self.hosts.len());
            self.recent.set_wanted(partial.is_some());
            let mut tables = Tables::new(&weights, exploration, partial);
            if partial.is_some() {
                let both = weights.iter().zip(&factors);
                tables.told_costs = both.map(|(weight, factor)| 1.0 / weight / factor).collect();
            }
            self.tables.store(Arc::new(tables));
        }
    }

    /// A place.
    pub(super) fn pick(&self, cursor: &mut u64, draws: &mut Draws) -> usize {
        let tables = self.tables.load();
        if tables.exploration > 0.0 && draws.share() < tables.exploration {
            let place = draws.below(self.hosts.len());
            let is_idle = self.hosts.get(place).is_some_and(|host| host.value() == 0);
            if is_idle || draws.below(BUSY) == 0 {
                return place;
            }
        }
        match self.selector {
            Selector::Smooth => tables.order.pick(cursor),
            Selector::WeightedChoice => match &tables.partial {
                None => self.choose(&tables, draws),
                Some(partial) => self.choose_told(&tables, partial, draws),
            },
        }
    }

    fn choose(&self, tables: &Tables, draws: &mut Draws) -> usize {
        let mut best = tables.draws.draw(draws);
        let mut least = self.cost(tables, best);
        for _ in 1..CHOICES {
            let place = tables.draws.draw(draws);
            let cost = self.cost(tables, place);
            if cost < least {
                (best, least) = (place, cost);
            }
        }
        best
    }

    fn choose_told(&self, tables: &Tables, partial: &Partial, draws: &mut Draws) -> usize {
        let mut best = tables.draws.draw(draws);
        let mut least = self.cost_told(tables, partial, best);
        let mut compare = |place| {
            let cost = self.cost_told(tables, partial, place);
            if cost < least {
                (best, least) = (place, cost);
            }
        };
        self.recent.places().for_each(&mut compare);
        (1..CHOICES_BESIDE).for_each(|_| compare(tables.draws.draw(draws)));
        best
    }

    /// What the host said, and what it has from here since; whoever is like this proxy chooses alike.
    #[expect(clippy::cast_precision_loss, reason = "a rough number is enough")]
    fn cost_told(&self, tables: &Tables, partial: &Partial, place: usize) -> f64 {
        let (Some(host), Some(told)) = (self.hosts.get(place), self.told.get(place)) else {
            return f64::MAX;
        };
        let told = told.in_flight().unwrap_or(partial.usual);
        let cost = tables.told_costs.get(place).copied().unwrap_or(f64::MAX);
        (told + host.value() as f64 * partial.proxies + 1.0) * cost
    }

    #[expect(clippy::cast_precision_loss, reason = "a rough number is enough")]
    fn cost(&self, tables: &Tables, place: usize) -> f64 {
        let in_flight = self.hosts.get(place).map_or(0, |host| host.value());
        let cost = tables.costs.get(place).copied().unwrap_or(f64::MAX);
        (in_flight as f64 + 1.0) * cost
    }
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
        // An eighth of that, and when nobody else is drawn.
        assert!((0.001..0.003).contains(&shares[3]), "{shares:?}");
        assert!((shares[0] - shares[1]).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn what_hosts_say_counts_more_than_what_is_known_here() {
        let weighted = weighted(Selector::WeightedChoice, &[0, 0, 0, 1]);
        let told: Box<[Arc<Told>]> = (0..4).map(|_| Arc::default()).collect();
        let weighted = weighted.with_reports(told.clone());
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
