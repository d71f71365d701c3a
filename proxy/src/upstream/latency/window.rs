//! A percentile over a sliding window, in a fixed number of logarithmic buckets.

use std::time::Duration;

/// Each bucket is a fifth wider than the one before: a percentile is exact to a tenth.
const GROWTH: f64 = 1.2;

/// The last one begins at 1.2^100 microseconds, 23 hours.
pub(in crate::upstream) const BUCKETS: usize = 100;

/// Slices of the window; the oldest leaves as a whole.
const SLICES: u32 = 20;

/// Samples of the last `window`, by length.
#[derive(Debug)]
pub(super) struct Window {
    slice: Duration,
    slices: Box<[[f64; BUCKETS]]>,
    /// Number of the slice that is being filled, since the beginning of time.
    current: u64,
}

impl Window {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            slice: (window / SLICES).max(Duration::from_millis(1)),
            slices: vec![[0.0; BUCKETS]; SLICES as usize].into(),
            current: 0,
        }
    }

    /// Forgets what is older than the window.
    pub(super) fn advance(&mut self, now: Duration) {
        let number = now.as_nanos() / self.slice.as_nanos().max(1);
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let passed = number.saturating_sub(self.current).min(u64::from(SLICES));
        for back in 0..passed {
            let place = Self::place(number - back);
            if let Some(slice) = self.slices.get_mut(place) {
                *slice = [0.0; BUCKETS];
            }
        }
        self.current = number;
    }

    /// So many samples of about this length.
    pub(super) fn add(&mut self, us: f64, count: f64) {
        let slice = self.slices.get_mut(Self::place(self.current));
        if let Some(bucket) = slice.and_then(|slice| slice.get_mut(bucket(us))) {
            *bucket += count;
        }
    }

    /// The length that this part of all samples do not exceed, in microseconds; `None` without samples.
    pub(super) fn percentile(&self, part: f64) -> Option<f64> {
        let sum_of =
            |at: usize| -> f64 { self.slices.iter().filter_map(|slice| slice.get(at)).sum() };
        let total: f64 = (0..BUCKETS).map(sum_of).sum();
        if total <= 0.0 {
            return None;
        }
        percentile(sum_of, total, part)
    }

    fn place(number: u64) -> usize {
        usize::try_from(number % u64::from(SLICES)).unwrap_or(0)
    }
}

/// The length, in microseconds, that this part of `total` samples do not exceed, of which each bucket has
/// so many.
pub(in crate::upstream) fn percentile(
    count: impl Fn(usize) -> f64,
    total: f64,
    part: f64,
) -> Option<f64> {
    let mut seen = 0.0;
    for at in 0..BUCKETS {
        let here = count(at);
        if here > 0.0 && seen + here >= total * part {
            let inside = ((total * part - seen) / here).clamp(0.0, 1.0);
            return Some(GROWTH.powf(exponent(at) + inside));
        }
        seen += here;
    }
    None
}

/// The middle of a bucket, in microseconds.
pub(in crate::upstream) fn middle(at: usize) -> f64 {
    GROWTH.powf(exponent(at) + 0.5)
}

fn exponent(at: usize) -> f64 {
    u32::try_from(at).map_or(0.0, f64::from)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the buckets there are"
)]
pub(in crate::upstream) fn bucket(us: f64) -> usize {
    let place = us.max(1.0).ln() / GROWTH.ln();
    place.clamp(0.0, (BUCKETS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_near_and_old_samples_leave() {
        let mut window = Window::new(Duration::from_secs(10));
        assert!(window.percentile(0.9).is_none());
        window.advance(Duration::from_secs(1));
        (1..=1000).for_each(|us| window.add(f64::from(us), 1.0));
        let found = window.percentile(0.9).expect("samples");
        assert!((800.0..1_000.0).contains(&found), "{found}");
        window.advance(Duration::from_secs(6));
        window.add(5_000.0, 1000.0);
        assert!(window.percentile(0.9).is_some_and(|us| us > 4_000.0));
        assert!(window.percentile(0.1).is_some_and(|us| us < 500.0));
        window.advance(Duration::from_secs(12));
        assert!(window.percentile(0.1).is_some_and(|us| us > 4_000.0));
        window.advance(Duration::from_secs(100));
        assert!(window.percentile(0.5).is_none());
    }

    #[test]
    fn nonsense_falls_into_a_bucket() {
        for us in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX] {
            assert!(bucket(us) < BUCKETS, "{us}");
        }
    }
}
