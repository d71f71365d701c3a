//! When to try again: exponential with full jitter (C-8), reset by success (C-9).

use std::time::Duration;

/// First upper bound of the wait: Envoy's default.
pub const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// Last upper bound of the wait: Envoy's default.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// Waits of at most `base`, doubling up to `max`.
    pub fn new(base: Duration, max: Duration, rng: fastrand::Rng) -> Self {
        Self {
            base,
            max,
            failures: 0,
            rng,
        }
    }

    /// How long to wait now; the longer the more often it failed.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=nanos))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.base.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BACKOFF_BASE;
    use super::BACKOFF_MAX;
    use super::Backoff;

    #[test]
    fn c8_waits_double_up_to_the_cap_with_full_jitter() {
        let mut longest = [Duration::ZERO; 9];
        let mut shortest = [Duration::MAX; 9];
        for seed in 0..300 {
            let rng = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX, rng);
            for i in 0..9 {
                let wait = backoff.next_wait();
                longest[i] = longest[i].max(wait);
                shortest[i] = shortest[i].min(wait);
            }
            backoff.reset();
            assert!(backoff.next_wait() <= BACKOFF_BASE);
        }
        for (i, bound_ms) in [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
            .iter()
            .enumerate()
        {
            let bound = Duration::from_millis(*bound_ms);
            assert!(
                longest[i] <= bound && longest[i] > bound / 2,
                "{i}: {longest:?}"
            );
            assert!(shortest[i] < bound / 4, "{i}: {shortest:?}");
        }
    }
}
