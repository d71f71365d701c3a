//! The best of a few hosts that are drawn by weight: the one with the least `(in flight + 1) / weight`. In flight is
//! what has no first byte yet: a stream that goes on for long is no work that waits.
//!
//! Where a proxy makes only a small part of what hosts have to do, what they say they have in flight counts, and
//! those that said it last are compared too: a queue is gone when its latency is known.
//!
//! Weights change in place, one number after the other, while others pick: a pick that meets some of before and
//! some of after the change compares what was right a moment ago. It would cost more to keep them apart.

use std::hint::select_unpredictable;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Partial;
use super::alias::Alias;
use super::draws::Draws;
use super::weighted::SCALE;
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

/// What an idle host of the greatest weight costs: nobody costs less.
const COST_MIN: f64 = 1.0 / SCALE;

/// Members to choose from.
#[derive(Debug)]
pub(super) struct Choice {
    candidates: Box<[Candidate]>,
    draws: Alias,
    /// [`Partial::proxies`]; 0 if what hosts say does not count.
    proxies: Number,
    /// [`Partial::usual`].
    usual: Number,
    /// Who spoke last, if the policy asks.
    recent: Option<Arc<Recent>>,
}

/// What is compared of a host.
#[derive(Debug)]
struct Candidate {
    host: Arc<InFlight>,
    /// 1 over the weight. Where what hosts say counts, with its factor squared: a host that is slow has few
    /// requests in flight because it gets few, which must not make it look better.
    cost: Number,
}

/// The bits of a floating-point number.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl Choice {
    /// Among hosts with these weights, of [`SCALE`].
    pub(super) fn new(hosts: &[Arc<InFlight>], weights: &[u32]) -> Self {
        let candidate = |(host, weight): (&Arc<InFlight>, &u32)| Candidate {
            host: Arc::clone(host),
            cost: Number::new(f64::from(*weight).recip()),
        };
        Self {
            candidates: hosts.iter().zip(weights).map(candidate).collect(),
            draws: Alias::new(weights),
            proxies: Number::default(),
            usual: Number::default(),
            recent: None,
        }
    }

    /// They say what they have in flight, in their order.
    pub(super) fn listen<'h>(&mut self, told: impl Iterator<Item = &'h Told>) {
        let recent = Arc::default();
        for (place, told) in told.enumerate() {
            told.join(&recent, place);
        }
        self.recent = Some(recent);
    }

    /// Other weights, of [`SCALE`] and as they are, and the factors in them.
    pub(super) fn set(
        &self,
        scaled: &[u32],
        (weights, factors): (&[f64], &[f64]),
        partial: Option<Partial>,
    ) {
        let partial = partial.filter(|_| self.recent.is_some());
        self.draws.set(scaled);
        let of_all = scaled.iter().zip(weights.iter().zip(factors));
        for (candidate, (scaled, (weight, factor))) in self.candidates.iter().zip(of_all) {
            candidate.cost.set(match partial {
                None => f64::from(*scaled).recip(),
                Some(_) => 1.0 / weight / factor,
            });
        }
        if let Some(recent) = &self.recent {
            recent.set_wanted(partial.is_some());
        }
        self.usual.set(partial.map_or(0.0, |partial| partial.usual));
        let proxies = partial.map_or(0.0, |partial| partial.proxies);
        self.proxies.set(proxies);
    }

    /// A place.
    pub(super) fn pick(&self, draws: &mut Draws) -> usize {
        let proxies = self.proxies.get();
        match &self.recent {
            Some(recent) if proxies > 0.0 => self.pick_told(proxies, recent, draws),
            _ => self.pick_known(draws),
        }
    }

    fn pick_known(&self, draws: &mut Draws) -> usize {
        let cost = |place: usize| {
            let candidate = self.candidates.get(place);
            candidate.map_or(f64::MAX, |one| (one.host.amount() + 1.0) * one.cost.get())
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
            best = select_unpredictable(cost < least, place, best);
            least = least.min(cost);
        }
        best
    }

    fn pick_told(&self, proxies: f64, recent: &Recent, draws: &mut Draws) -> usize {
        let usual = self.usual.get();
        // What the host said, and what it has from here since; whoever is like this proxy chooses alike.
        let cost = |place: usize, trust: f64| {
            let Some(one) = self.candidates.get(place) else {
                return f64::MAX;
            };
            let said = one.host.said().unwrap_or(usual);
            let said = usual + (said - usual) * trust;
            (said + one.host.amount() * proxies + 1.0) * one.cost.get()
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
    use super::*;

    #[test]
    fn the_least_cost_is_found_and_of_equals_the_first() {
        assert_eq!(least(&[3.0, 1.0, 2.0]), 1);
        assert_eq!(least(&[3_f64.next_up(), 3.0, 5.0]), 0);
        assert_eq!(least(&[f64::MAX, f64::NAN, f64::MAX]), 0);
        assert_eq!(least(&[0.1, 0.1, 0.0]), 2);
    }
}
