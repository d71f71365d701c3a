//! Peak EWMA, as in Envoy's contrib extensions: of two hosts the one with the least latency times requests,
//! itself included.
//!
//! A host that never answered counts a default while it is idle, and a penalty while it has requests: one
//! that fails without an answer must not look fast.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::draws::Draws;
use super::weighted::Factors;
use crate::config::latency::PeakEwma as Config;
use crate::upstream::in_flight::InFlight;

/// What a pick reads.
#[derive(Debug)]
pub(super) struct PeakEwma {
    hosts: Box<[Host]>,
    /// Milliseconds.
    default: f64,
    penalty: f64,
}

#[derive(Debug)]
struct Host {
    in_flight: Arc<InFlight>,
    /// Milliseconds, as the bits of a floating-point number; 0 is not known.
    latency: AtomicU64,
}

impl PeakEwma {
    /// Prepares picks over hosts with these numbers in flight.
    pub(super) fn new(config: &Config, hosts: impl Iterator<Item = Arc<InFlight>>) -> Self {
        let host = |in_flight| Host {
            in_flight,
            latency: AtomicU64::new(0),
        };
        Self {
            hosts: hosts.map(host).collect(),
            default: config.default.as_secs_f64() * 1e3,
            penalty: config.penalty,
        }
    }

    /// The factor of a member is its latency, in milliseconds; one that is no positive number is none.
    pub(super) fn set_factors(&self, members: &[usize], factors: &Factors) {
        for (host, place) in self.hosts.iter().zip(members) {
            let latency = factors.of_members.get(*place).copied();
            let latency = latency.filter(|latency| latency.is_finite() && *latency > 0.0);
            let bits = latency.unwrap_or(0.0).to_bits();
            host.latency.store(bits, Ordering::Relaxed);
        }
    }

    /// A place.
    pub(super) fn pick(&self, draws: &mut Draws) -> usize {
        let first = draws.below(self.hosts.len());
        let others = self.hosts.len().saturating_sub(1);
        if others == 0 {
            return first;
        }
        let mut second = draws.below(others);
        second += usize::from(second >= first);
        match self.cost(first).total_cmp(&self.cost(second)) {
            std::cmp::Ordering::Less => first,
            std::cmp::Ordering::Greater => second,
            std::cmp::Ordering::Equal if draws.below(2) == 0 => first,
            std::cmp::Ordering::Equal => second,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rough number is enough")]
    fn cost(&self, place: usize) -> f64 {
        let Some(host) = self.hosts.get(place) else {
            return f64::MAX;
        };
        let in_flight = host.in_flight.value() as f64;
        let latency = f64::from_bits(host.latency.load(Ordering::Relaxed));
        if latency > 0.0 {
            latency * (in_flight + 1.0)
        } else if in_flight > 0.0 {
            self.penalty + in_flight
        } else {
            self.default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICKS: u32 = 20_000;

    fn balancer(busy: &[u32]) -> PeakEwma {
        let in_flight = |busy: &u32| {
            let value = Arc::new(InFlight::default());
            (0..*busy).for_each(|_| value.inc());
            value
        };
        PeakEwma::new(&Config::default(), busy.iter().map(in_flight))
    }

    fn set(balancer: &PeakEwma, latencies: &[f64]) {
        let members: Vec<usize> = (0..latencies.len()).collect();
        let factors = Factors {
            of_members: latencies.to_vec(),
            ..Factors::default()
        };
        balancer.set_factors(&members, &factors);
    }

    fn shares(balancer: &PeakEwma) -> Vec<f64> {
        let mut counts = vec![0_u32; balancer.hosts.len()];
        let mut draws = Draws::new(5);
        (0..PICKS).for_each(|_| counts[balancer.pick(&mut draws)] += 1);
        let share = |count| f64::from(count) / f64::from(PICKS);
        counts.into_iter().map(share).collect()
    }

    fn check(found: &[f64], expected: &[f64]) {
        let far = found
            .iter()
            .zip(expected)
            .map(|(found, expected)| (found - expected).abs());
        assert!(
            far.fold(0.0, f64::max) < 0.015,
            "{found:?}, expected {expected:?}"
        );
    }

    #[test]
    fn of_two_the_one_with_less_time_to_come() {
        let equal = balancer(&[0; 4]);
        check(&shares(&equal), &[0.25; 4]);
        // 10 * 3, 20 * 2, 50 and the default: by rank 1/2, 1/3, 1/6 of pairs with a worse one, the idle unknown best.
        let busy = balancer(&[2, 1, 0, 0]);
        set(&busy, &[10.0, 20.0, 50.0, 0.0]);
        check(&shares(&busy), &[1.0 / 3.0, 1.0 / 6.0, 0.0, 0.5]);
    }

    #[test]
    fn who_has_requests_and_never_answered_is_avoided() {
        let silent = balancer(&[1, 0, 0]);
        set(&silent, &[f64::NAN, 500.0, 500.0]);
        check(&shares(&silent), &[0.0, 0.5, 0.5]);
    }

    #[test]
    fn one_and_none_are_no_trouble() {
        assert_eq!(balancer(&[7]).pick(&mut Draws::new(1)), 0);
        assert_eq!(balancer(&[]).pick(&mut Draws::new(1)), 0);
    }
}
