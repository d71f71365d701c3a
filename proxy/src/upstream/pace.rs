//! How long attempts take at a cluster, and how many more may be made because one takes longer than
//! most (`weir.route.v1.HedgeAfterLatency`).
//!
//! Times are counted in buckets a quarter of an octave wide, so that a quantile is at most a quarter
//! too long. When there are enough of them all counts are halved, so that the past fades. Counts of
//! several workers may be lost in that moment; nothing depends on one.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Four to the octave, from 1 µs to 67 s; what is longer is in the last.
const BUCKETS: usize = 4 * 26;

/// Samples after which the past counts half: at a thousand requests per second four seconds.
const SAMPLES_MAX: u32 = 4096;

/// Hedges saved up while nothing is slow; a burst of slow requests gets no more at once.
const SAVED_MAX: i64 = 16;

/// A hedge, in the parts a request adds to the share.
const WHOLE: i64 = 1000;

/// What is known of one cluster.
#[derive(Debug)]
pub struct Pace {
    buckets: [AtomicU32; BUCKETS],
    samples: AtomicU32,
    /// Thousandths of hedges that may be made.
    share: AtomicI64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            samples: AtomicU32::new(0),
            share: AtomicI64::new(0),
        }
    }
}

impl Pace {
    /// An attempt took so long, or longer.
    pub fn note(&self, took: Duration) {
        if let Some(bucket) = self.buckets.get(bucket_of(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let samples = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        if samples == SAMPLES_MAX {
            let mut left = 0;
            for bucket in &self.buckets {
                let half = bucket.load(Ordering::Relaxed) / 2;
                bucket.store(half, Ordering::Relaxed);
                left += half;
            }
            self.samples.store(left, Ordering::Relaxed);
        }
    }

    /// What so many of a thousand attempts were faster than; none if less than `samples_min` are known.
    pub fn quantile(&self, per_mille: u32, samples_min: u32) -> Option<Duration> {
        if self.samples.load(Ordering::Relaxed) < samples_min {
            return None;
        }
        let counts = || {
            let buckets = self.buckets.iter();
            buckets.map(|bucket| u64::from(bucket.load(Ordering::Relaxed)))
        };
        let wanted = (counts().sum::<u64>() * u64::from(per_mille)).div_ceil(1000);
        let mut seen = 0;
        let place = counts().position(|count| {
            seen += count;
            seen >= wanted
        });
        place.map(end_of)
    }

    /// A request adds this much to what hedges may take.
    pub fn note_request(&self, per_mille: u32) {
        let most = SAVED_MAX * WHOLE;
        let before = self
            .share
            .fetch_add(i64::from(per_mille), Ordering::Relaxed);
        if before >= most {
            self.share
                .fetch_sub(i64::from(per_mille), Ordering::Relaxed);
        }
    }

    /// Takes what a hedge costs, if it is there.
    pub fn take_share(&self) -> bool {
        let take = |share: i64| (share >= WHOLE).then_some(share - WHOLE);
        self.share
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// The hedge was not made.
    pub fn give_back_share(&self) {
        self.share.fetch_add(WHOLE, Ordering::Relaxed);
    }
}

/// The two bits after the highest one tell the quarter of its octave.
fn bucket_of(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    let quarter = (u128::from(micros) << 2 >> octave) & 3;
    let place = octave as usize * 4 + usize::try_from(quarter).unwrap_or(0);
    place.min(BUCKETS - 1)
}

/// The end of a bucket.
fn end_of(place: usize) -> Duration {
    let (octave, quarter) = (place / 4, place % 4);
    let quarters = u64::try_from(quarter + 5).unwrap_or(5);
    Duration::from_micros((quarters << octave).div_ceil(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_long() {
        let pace = Pace::default();
        for micros in 1..=1000_u64 {
            pace.note(Duration::from_micros(micros * 100));
        }
        for (per_mille, exact) in [(500, 50_000.0), (950, 95_000.0), (999, 99_900.0)] {
            let found = pace.quantile(per_mille, 1000).expect("enough samples");
            let ratio = found.as_secs_f64() * 1e6 / exact;
            assert!((1.0..=1.26).contains(&ratio), "{per_mille}: {found:?}");
        }
        assert_eq!(pace.quantile(950, 1001), None);
    }

    #[test]
    fn buckets_follow_each_other() {
        let mut last = 0;
        for micros in [1, 2, 3, 4, 5, 6, 7, 8, 10, 1000, 1_000_000, 60_000_000] {
            let took = Duration::from_micros(micros);
            let place = bucket_of(took);
            assert!(place >= last && end_of(place) >= took, "{micros}");
            last = place;
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(Duration::ZERO), 0);
    }

    #[test]
    fn the_past_fades() {
        let pace = Pace::default();
        for _ in 0..4000 {
            pace.note(Duration::from_millis(1));
        }
        for _ in 0..12_000 {
            pace.note(Duration::from_millis(100));
        }
        let found = pace.quantile(500, 100).expect("enough samples");
        assert!(found > Duration::from_millis(90), "{found:?}");
    }

    #[test]
    fn hedges_are_a_share_of_requests() {
        let pace = Pace::default();
        assert!(!pace.take_share());
        let mut made = 0;
        for _ in 0..1000 {
            pace.note_request(50);
            made += u32::from(pace.take_share());
        }
        assert_eq!(made, 50);
        for _ in 0..100_000 {
            pace.note_request(50);
        }
        let saved = (0..1000).filter(|_| pace.take_share()).count();
        assert_eq!(saved, 16);
    }
}
