//! New members take less at first (`slow_start_config`).
//!
//! Envoy weighs them less in its queue. Here a pick that fell on a new member counts only with the
//! probability of its factor, and is made again otherwise: the shares are the same. The factors are
//! powers of ages, which change slowly: they are computed anew a few hundred times in a window.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::draws::Draws;
use crate::config::load_balancing::SlowStart as Config;

/// Picks made again at most; with Envoy's least factor of a tenth, one of a thousand needs more.
const TRIES_MAX: usize = 64;

/// Steps of a window: in one of them a factor grows by less than half a percent.
const STEPS: u32 = 256;

/// However short the window is, a thousand powers a hundred times a second are nothing.
const STEP_MIN: Duration = Duration::from_millis(10);

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
    /// Of each the probability that a pick that fell on it counts, of 2^32, as it was in the step `known`.
    chances: Box<[AtomicU32]>,
    known: AtomicU64,
    /// Nanoseconds of a step.
    step: u64,
}

impl SlowStart {
    /// Members began at these times.
    pub(super) fn new(config: Config, began: Box<[Option<Instant>]>) -> Self {
        let last = began.iter().flatten().max();
        Self {
            end: last.map(|last| *last + config.window),
            first: began.iter().copied().min().flatten(),
            chances: began.iter().map(|_| AtomicU32::new(u32::MAX)).collect(),
            known: AtomicU64::new(u64::MAX),
            step: nanos((config.window / STEPS).max(STEP_MIN)),
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
        let Some(left) = self.end.map(|end| end.saturating_duration_since(now)) else {
            return pick(random);
        };
        if left.is_zero() {
            return pick(random);
        }
        self.learn(now, left);
        let mut draws = Draws::new(random);
        let mut place = 0;
        for _ in 0..TRIES_MAX {
            place = pick(draws.any());
            let chance = self.chances.get(place);
            let chance = chance.map_or(u32::MAX, |chance| chance.load(Ordering::Relaxed));
            if draws.any() >> 32 <= chance.into() {
                break;
            }
        }
        place
    }

    /// Computes the probabilities of the step that is so long before the end, if they are not known. Workers
    /// that do it at once come to the same.
    fn learn(&self, now: Instant, left: Duration) {
        let step = nanos(left) / self.step;
        if self.known.load(Ordering::Relaxed) == step {
            return;
        }
        let factor = |began: Instant| self.config.factor(now.saturating_duration_since(began));
        let largest = self.first.map_or(1.0, factor);
        for (began, chance) in self.began.iter().zip(&self.chances) {
            let own = began.map_or(1.0, factor);
            chance.store(of_whole(own / largest), Ordering::Relaxed);
        }
        self.known.store(step, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A probability of 2^32.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn of_whole(chance: f64) -> u32 {
    (chance * f64::from(u32::MAX)).clamp(0.0, f64::from(u32::MAX)) as u32
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
