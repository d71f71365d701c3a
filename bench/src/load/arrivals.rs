//! When the requests of an open loop are due.

use std::time::Duration;

/// Times since the start at which requests are due: a Poisson process.
#[derive(Debug)]
pub struct Arrivals {
    random: fastrand::Rng,
    mean_gap_seconds: f64,
    due_seconds: f64,
}

impl Arrivals {
    /// Arrivals at `rate` per second on average. The same seed gives the same times.
    #[must_use]
    pub fn new(rate: f64, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            mean_gap_seconds: 1.0 / rate,
            due_seconds: 0.0,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // `f64` is below 1, so the logarithm is finite.
        self.due_seconds -= (1.0 - self.random.f64()).ln() * self.mean_gap_seconds;
        Duration::try_from_secs_f64(self.due_seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Arrivals;

    const COUNT: usize = 200_000;

    #[test]
    fn gaps_are_exponential_with_the_mean_asked_for() {
        let times: Vec<f64> = Arrivals::new(1_000.0, 7)
            .take(COUNT)
            .map(|due| due.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 0.001 - 1.0).abs() < 0.02, "mean {mean}");
        // An exponential distribution's deviation equals its mean; a constant pace would have none.
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "deviation {}",
            variance.sqrt()
        );
    }

    #[test]
    fn a_seed_repeats_its_times() {
        let times = |seed| Arrivals::new(50.0, seed).take(100).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
