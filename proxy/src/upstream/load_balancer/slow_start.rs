//! New members take less at first (`slow_start_config`).
//!
//! Envoy weighs them less in its queue. Here a pick that fell on a new member counts only with the
//! probability of its factor, and is made again otherwise: the shares are the same. The factors are
//! powers of ages, which change slowly: they are computed anew a few hundred times in a window, and few picks
//! ask for the time. Once nobody is new any more none does.

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

/// Of so many picks one asks for the time, which takes longer than all else of a pick.
const PICKS_TO_LOOK: u64 = 8;

/// The step of which nothing is known yet.
const UNKNOWN: u64 = u64::MAX;

/// The step in which nobody is new, and which is the last.
const OVER: u64 = 0;

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
    /// Of each the probability that a pick that fell on it counts, of 2^32, as it was in the step `known`:
    /// steps are counted down to [`OVER`].
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
            known: AtomicU64::new(if last.is_none() { OVER } else { UNKNOWN }),
            end: last.map(|last| *last + config.window),
            first: began.iter().copied().min().flatten(),
            chances: began.iter().map(|_| AtomicU32::new(u32::MAX)).collect(),
            step: nanos((config.window / STEPS).max(STEP_MIN)),
            config,
            began,
        }
    }

    /// A place by `pick`, which is given fresh random numbers. `now` is asked where it counts.
    pub(super) fn pick(
        &self,
        now: impl FnOnce() -> Instant,
        random: u64,
        mut pick: impl FnMut(u64) -> usize,
    ) -> usize {
        let mut step = self.known.load(Ordering::Relaxed);
        let looks = random < u64::MAX / PICKS_TO_LOOK;
        if step == UNKNOWN || (step != OVER && looks) {
            step = self.learn(now());
        }
        if step == OVER {
            return pick(random);
        }
        let mut draws = Draws::new(random);
        let mut place = 0;
        for _ in 0..TRIES_MAX {
            place = pick(draws.any());
            let chance = self.chances.get(place);
            let chance = chance.map_or(u32::MAX, |chance| chance.load(Ordering::Relaxed));
            if chance == u32::MAX || draws.any() >> 32 <= chance.into() {
                break;
            }
        }
        place
    }

    /// The step of now. Computes its probabilities, if they are not known; workers that do it at once come to
    /// the same.
    fn learn(&self, now: Instant) -> u64 {
        let left = self.end.map(|end| end.saturating_duration_since(now));
        let step = match left.map(nanos) {
            None | Some(0) => OVER,
            Some(left) => 1 + left / self.step,
        };
        if step == OVER || self.known.load(Ordering::Relaxed) == step {
            self.known.store(step, Ordering::Relaxed);
            return step;
        }
        let factor = |began: Instant| self.config.factor(now.saturating_duration_since(began));
        let largest = self.first.map_or(1.0, factor);
        for (began, chance) in self.began.iter().zip(&self.chances) {
            let own = began.map_or(1.0, factor);
            chance.store(of_whole(own / largest), Ordering::Relaxed);
        }
        self.known.store(step, Ordering::Relaxed);
        step
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
        let firsts = (0..100_000).filter(|_| slow.pick(|| now, chance.any(), pick) == 0);
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

    #[test]
    fn the_time_is_asked_for_by_few_and_by_nobody_once_all_are_old() {
        let began = Instant::now();
        let slow = SlowStart::new(CONFIG, [Some(began), None].into());
        let mut chance = Draws::new(1);
        let mut asked = 0;
        let mut picks = |now| {
            for _ in 0..1000 {
                let now = || {
                    asked += 1;
                    now
                };
                slow.pick(now, chance.any(), |random| Draws::new(random).below(2));
            }
            std::mem::take(&mut asked)
        };
        let while_new = picks(began + CONFIG.window / 2);
        assert!((75..175).contains(&while_new), "{while_new}");
        let once_old = picks(began + CONFIG.window);
        assert!((0..2).contains(&once_old), "{once_old}");
        assert_eq!(picks(began), 0, "it is over");
    }
}
