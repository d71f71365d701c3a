//! Least request: who has the fewest requests in flight, of all workers together.
//!
//! With equal weights: a few are drawn (`N_CHOICES`) or all are looked at (`FULL_SCAN`), and one with
//! the fewest takes the request. With unequal weights, shares follow
//! `weight / (in flight + 1) ^ active_request_bias` as in Envoy, which keeps a queue under a lock for
//! it; here candidates are drawn by weight, and one of them by the other factor.

use std::sync::Arc;

use super::alias::Alias;
use super::draws::Draws;
use super::fewest::Fewest;
use crate::config::load_balancing::LeastRequest as Config;
use crate::config::load_balancing::Selection;
use crate::upstream::in_flight::InFlight;

/// With fewer candidates, a host that is far busier than all others would be taken too often: it is
/// alone among two of ten once in a hundred picks.
const WEIGHTED_DRAWS_MIN: u32 = 4;

/// What a pick reads.
#[derive(Debug)]
pub(super) struct LeastRequest {
    hosts: Box<[Arc<InFlight>]>,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Choices(u32),
    FullScan(Fewest),
    Weighted { table: Alias, draws: u32, bias: f64 },
}

impl LeastRequest {
    /// Prepares picks over hosts with these numbers in flight and weights.
    pub(super) fn new(config: Config, hosts: Box<[Arc<InFlight>]>, weights: &[u32]) -> Self {
        let is_equal = weights.iter().all(|weight| Some(weight) == weights.first());
        let method = match config.selection {
            Selection::Choices(count) if is_equal => Method::Choices(count),
            Selection::FullScan if is_equal => Method::FullScan(Fewest::new(hosts.len())),
            Selection::Choices(_) | Selection::FullScan => Method::Weighted {
                table: Alias::new(weights),
                draws: match config.selection {
                    Selection::Choices(count) => count.max(WEIGHTED_DRAWS_MIN),
                    Selection::FullScan => WEIGHTED_DRAWS_MIN,
                },
                bias: config.bias,
            },
        };
        Self { hosts, method }
    }

    /// A place.
    pub(super) fn pick(&self, draws: &mut Draws) -> usize {
        match &self.method {
            Method::Choices(count) => self.of_few(*count, draws),
            Method::FullScan(fewest) => fewest.pick(&self.hosts, draws),
            Method::Weighted {
                table,
                draws: count,
                bias,
            } => self.by_weight(table, (*count, *bias), draws),
        }
    }

    fn of_few(&self, count: u32, draws: &mut Draws) -> usize {
        let mut best = draws.below(self.hosts.len());
        let mut least = self.in_flight(best);
        for _ in 1..count {
            let place = draws.below(self.hosts.len());
            let value = self.in_flight(place);
            if value < least {
                (best, least) = (place, value);
            }
        }
        best
    }

    fn by_weight(&self, table: &Alias, (count, bias): (u32, f64), draws: &mut Draws) -> usize {
        let (mut best, mut sum) = (0, 0.0);
        for _ in 0..count {
            let place = table.draw(draws);
            let chance = factor(self.in_flight(place), bias);
            sum += chance;
            if draws.share() * sum < chance {
                best = place;
            }
        }
        best
    }

    fn in_flight(&self, place: usize) -> u64 {
        self.hosts.get(place).map_or(0, |host| host.value())
    }
}

/// `1 / (in_flight + 1) ^ bias`, never zero.
#[expect(clippy::cast_precision_loss, reason = "a rough number is enough")]
fn factor(in_flight: u64, bias: f64) -> f64 {
    let busy = (in_flight as f64 + 1.0).max(1.0);
    let factor = if (bias - 1.0).abs() < f64::EPSILON {
        busy.recip()
    } else {
        busy.powf(-bias)
    };
    factor.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PICKS: u32 = 100_000;

    fn balancer(selection: Selection, bias: f64, hosts: &[(u32, u32)]) -> LeastRequest {
        let in_flight = |(_, busy): &(u32, u32)| {
            let value = Arc::new(InFlight::default());
            (0..*busy).for_each(|_| value.inc());
            value
        };
        let weights: Vec<u32> = hosts.iter().map(|(weight, _)| *weight).collect();
        let config = Config { selection, bias };
        LeastRequest::new(config, hosts.iter().map(in_flight).collect(), &weights)
    }

    fn shares(balancer: &LeastRequest) -> Vec<f64> {
        let mut counts = vec![0_u32; balancer.hosts.len()];
        let mut draws = Draws::new(7);
        (0..PICKS).for_each(|_| counts[balancer.pick(&mut draws)] += 1);
        let share = |count| f64::from(count) / f64::from(PICKS);
        counts.into_iter().map(share).collect()
    }

    fn check(balancer: &LeastRequest, expected: &[f64]) {
        let found = shares(balancer);
        for (found_one, expected_one) in found.iter().zip(expected) {
            assert!(
                (found_one - expected_one).abs() < 0.01,
                "{found:?}, expected {expected:?}"
            );
        }
    }

    #[test]
    fn idle_hosts_share_alike_and_the_busy_one_is_left_alone() {
        let choices = Selection::Choices(2);
        check(&balancer(choices, 1.0, &[(1, 0); 4]), &[0.25; 4]);
        check(
            &balancer(Selection::FullScan, 1.0, &[(1, 3); 4]),
            &[0.25; 4],
        );
        // Both draws must fall on the busy one.
        let busy = balancer(choices, 1.0, &[(1, 5), (1, 0)]);
        check(&busy, &[0.25, 0.75]);
        let scanned = balancer(Selection::FullScan, 1.0, &[(1, 5), (1, 0), (1, 0)]);
        assert!(shares(&scanned)[0] == 0.0);
    }

    #[test]
    fn unequal_weights_are_shares_of_the_idle() {
        let weights = [(1, 0), (3, 0), (6, 0)];
        for selection in [Selection::Choices(2), Selection::FullScan] {
            check(&balancer(selection, 1.0, &weights), &[0.1, 0.3, 0.6]);
        }
    }

    #[test]
    fn the_bias_says_how_much_requests_in_flight_count() {
        let hosts = [(2, 9), (1, 0)];
        let at = |bias| shares(&balancer(Selection::Choices(64), bias, &hosts))[0];
        // weight / (in flight + 1) ^ bias: 2 against 1, 0.2 against 1, 0.02 against 1.
        for (bias, expected) in [(0.0, 2.0 / 3.0), (1.0, 0.2 / 1.2), (2.0, 0.02 / 1.02)] {
            let found = at(bias);
            assert!(
                (found - expected).abs() < 0.02,
                "{bias}: {found}, {expected}"
            );
        }
    }

    proptest! {
        #[test]
        fn picks_are_in_range(
            hosts in prop::collection::vec((1_u32.., 0_u32..50), 1..30),
            choices in 2_u32..64, full_scan: bool, bias in 0.0..1e9, random: u64,
        ) {
            let selection = if full_scan { Selection::FullScan } else { Selection::Choices(choices) };
            let balancer = balancer(selection, bias, &hosts);
            prop_assert!(balancer.pick(&mut Draws::new(random)) < hosts.len());
        }
    }
}
