//! New members take less at first (`slow_start_config`).
//!
//! Envoy weighs them less in its queue. Here a pick that fell on a new member counts only with the
//! probability of its factor, and is made again otherwise: the shares are the same, and nothing has
//! to be computed anew while time passes.

use tokio::time::Instant;

use super::draws::Draws;
use crate::config::load_balancing::SlowStart as Config;

/// Picks made again at most; with Envoy's least factor of a tenth, one of a thousand needs more.
const TRIES_MAX: usize = 64;

/// Who is new, among some members.
#[derive(Debug)]
pub(super) struct SlowStart {
    config: Config,
    /// When each began, if it was ever healthy.
    began: Box<[Option<Instant>]>,
    /// When the first began; `None` if there are any that never did.
    first: Option<Instant>,
    /// When the last is new no more.
    end: Option<Instant>,
}

impl SlowStart {
    /// Members began at these times.
    pub(super) fn new(config: Config, began: Box<[Option<Instant>]>) -> Self {
        let last = began.iter().flatten().max();
        Self {
            end: last.map(|last| *last + config.window),
            first: began.iter().copied().min().flatten(),
            config,
            began,
        }
    }

    /// A place by `pick`, which is given fresh random numbers.
    pub(super) fn pick(
        &self,
        now: Instant,
        random: u64,
        mut pick: impl FnMut(u64) -> usize,
    ) -> usize {
        if self.end.is_none_or(|end| end <= now) {
            return pick(random);
        }
        let largest = self
            .first
            .map_or(1.0, |first| self.config.factor(now - first));
        let mut draws = Draws::new(random);
        let mut place = 0;
        for _ in 0..TRIES_MAX {
            place = pick(draws.any());
            let began = self.began.get(place).copied().flatten();
            let factor = began.map_or(1.0, |began| self.config.factor(now - began));
            if draws.share() * largest < factor {
                break;
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CONFIG: Config = Config {
        window: Duration::from_secs(100),
        aggression: 1.0,
        weight_min: 0.1,
    };

    /// The share of the first of two members who began so many seconds ago.
    fn share(config: Config, ages: [Option<u64>; 2]) -> f64 {
        let now = Instant::now() + Duration::from_secs(1000);
        let began = ages.map(|age| age.map(|age| now - Duration::from_secs(age)));
        let slow = SlowStart::new(config, began.into());
        let mut chance = Draws::new(1);
        let pick = |random| Draws::new(random).below(2);
        let firsts = (0..100_000).filter(|_| slow.pick(now, chance.any(), pick) == 0);
        firsts.count() as f64 / 100_000.0
    }

    #[test]
    fn a_new_member_takes_as_much_as_its_age_says() {
        let aggressive = Config {
            aggression: 2.0,
            ..CONFIG
        };
        for (config, ages, expected) in [
            (CONFIG, [Some(50), Some(500)], 0.5 / 1.5),
            (CONFIG, [Some(1), Some(500)], 0.1 / 1.1),
            (CONFIG, [Some(50), None], 0.5 / 1.5),
            (CONFIG, [Some(20), Some(80)], 0.2),
            (CONFIG, [Some(7), Some(7)], 0.5),
            (CONFIG, [Some(100), Some(500)], 0.5),
            (aggressive, [Some(25), Some(500)], 0.5 / 1.5),
        ] {
            let found = share(config, ages);
            assert!(
                (found - expected).abs() < 0.01,
                "{ages:?}: {found}, {expected}"
            );
        }
    }
}
