//! Distributions of durations: decimal log-linear buckets, so that the bounds which Envoy's Prometheus
//! output uses (0.5, 1, 5, 10, 25 ... milliseconds) are bucket edges and its `le` counts are exact.
//!
//! Invariant: memory is bounded (1.7 KB per worker and histogram) and only taken when the first value
//! comes, because most histograms of most clusters never see one.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::telemetry::stats::cell::add;

/// Lower edges inside one decade, in tenths: no bucket is wider than a sixth of its value.
const STEPS: [u8; 24] = [
    10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 25, 28, 30, 33, 36, 40, 45, 50, 55, 60, 65, 70, 80, 90,
];

/// First decade, as a power of ten of microseconds: below 10 µs nothing of a proxy is measured.
const FIRST_DECADE: u32 = 1;

/// Decades 10 µs .. 10^10 µs (2.8 hours): Envoy's last bound, an hour, is inside.
const DECADES: usize = 9;

/// The buckets, one before the first decade included.
const BUCKETS: usize = 1 + DECADES * STEPS.len();

/// Which step a two-digit mantissa belongs to: `STEP_OF[m - 10]`.
const STEP_OF: [u8; 90] = step_of();

/// Envoy's default bounds, in microseconds.
const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

const fn step_of() -> [u8; 90] {
    let mut table = [0; 90];
    let mut mantissa = 0;
    let mut step = 0_u8;
    while mantissa < 90 {
        let next = step as usize + 1;
        if next < STEPS.len() && STEPS[next] as usize == mantissa + 10 {
            step += 1;
        }
        table[mantissa] = step;
        mantissa += 1;
    }
    table
}

/// Bucket `(lower, upper]` of a number of microseconds; the last bucket takes what is beyond.
fn bucket(micros: u64) -> usize {
    // `le` bounds are inclusive: a value on an edge belongs below it.
    let below = micros.saturating_sub(1);
    let decade = below.checked_ilog10().unwrap_or(0);
    if decade < FIRST_DECADE {
        return 0;
    }
    let mantissa = usize::try_from(below / 10_u64.pow(decade - 1) - 10).unwrap_or(0);
    let step = STEP_OF.get(mantissa).copied().unwrap_or(0);
    let first = (decade - FIRST_DECADE) as usize * STEPS.len();
    (1 + first + usize::from(step)).min(BUCKETS - 1)
}

/// The inclusive upper bound of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    // The upper edge of a bucket is the lower edge of the next one, which has this one's number
    // when counting from the first decade.
    let step = STEPS.get(bucket % STEPS.len()).copied().unwrap_or(10);
    let decade = u32::try_from(bucket / STEPS.len()).unwrap_or(0) + FIRST_DECADE;
    u64::from(step) * 10_u64.pow(decade - 1)
}

/// One worker's part of a histogram.
#[derive(Default)]
pub(super) struct HistogramCells(OnceLock<Box<Cells>>);

struct Cells {
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl HistogramCells {
    fn cells(&self) -> &Cells {
        self.0.get_or_init(|| {
            Box::new(Cells {
                counts: [const { AtomicU64::new(0) }; BUCKETS],
                sum_micros: AtomicU64::new(0),
            })
        })
    }
}

impl fmt::Debug for HistogramCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HistogramCells")
    }
}

/// Records durations.
#[derive(Debug)]
#[must_use]
pub struct Histogram<'a> {
    cells: &'a HistogramCells,
    exclusive: bool,
}

impl<'a> Histogram<'a> {
    pub(super) const fn new(cells: &'a HistogramCells, exclusive: bool) -> Self {
        Self { cells, exclusive }
    }

    /// Records one duration, to the microsecond.
    pub fn record(self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let cells = self.cells.cells();
        if let Some(count) = cells.counts.get(bucket(micros)) {
            add(count, 1, self.exclusive);
            add(&cells.sum_micros, micros, self.exclusive);
        }
    }
}

/// What a histogram held at one moment, all workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
    /// Sum of all values in microseconds.
    pub sum_micros: u64,
}

impl HistogramSnapshot {
    pub(super) fn new<'a>(workers: impl Iterator<Item = &'a HistogramCells>) -> Self {
        let mut snapshot = Self {
            counts: Vec::new(),
            sum_micros: 0,
        };
        for cells in workers.filter_map(|cells| cells.0.get()) {
            snapshot.counts.resize(BUCKETS, 0);
            for (sum, count) in snapshot.counts.iter_mut().zip(&cells.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            let sum = cells.sum_micros.load(Ordering::Relaxed);
            snapshot.sum_micros = snapshot.sum_micros.wrapping_add(sum);
        }
        snapshot
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many values are at most each of [`Self::bounds`].
    #[must_use]
    pub fn cumulative(&self) -> [u64; BOUNDS.len()] {
        BOUNDS.map(|bound| {
            let upto = self.counts.iter().take(bucket(bound) + 1);
            upto.sum()
        })
    }

    /// Envoy's default bounds, in microseconds.
    #[must_use]
    pub const fn bounds() -> [u64; BOUNDS.len()] {
        BOUNDS
    }

    /// The duration that a share `0..=1` of the values does not exceed, by bucket bound; none if
    /// there is no value.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let mut seen = 0;
        for (at, here) in self.counts.iter().enumerate() {
            seen += here;
            // Counts beyond 2^52 would round; they would also take centuries.
            let enough = seen as f64 >= share * count as f64;
            if seen > 0 && enough {
                return Some(Duration::from_micros(upper(at)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BOUNDS;
    use super::BUCKETS;
    use super::Histogram;
    use super::HistogramCells;
    use super::HistogramSnapshot;
    use super::bucket;
    use super::upper;

    #[test]
    fn a_bucket_ends_at_its_upper_bound() {
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(at)), at, "at {}", upper(at));
            assert_eq!(bucket(upper(at) + 1), at + 1, "after {}", upper(at));
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn every_bound_is_an_edge() {
        for bound in BOUNDS {
            assert_eq!(upper(bucket(bound)), bound);
        }
    }

    #[test]
    fn buckets_are_narrow() {
        for at in 1..BUCKETS {
            let (low, high) = (upper(at - 1), upper(at));
            assert!((high - low) * 6 <= high, "{low}..{high}");
        }
    }

    #[test]
    fn counts_sums_and_ranks() {
        let cells = HistogramCells::default();
        for millis in [1, 2, 3, 100, 101] {
            Histogram::new(&cells, true).record(Duration::from_millis(millis));
        }
        let snapshot = HistogramSnapshot::new([&cells, &HistogramCells::default()].into_iter());
        assert_eq!(snapshot.count(), 5);
        assert_eq!(snapshot.sum_micros, 207_000);
        // 0.5, 1, 5, 10, 25, 50, 100, 250 ms
        assert_eq!(snapshot.cumulative()[..8], [0, 1, 3, 3, 3, 3, 4, 5]);
        assert_eq!(snapshot.quantile(0.5), Some(Duration::from_millis(3)));
        assert_eq!(snapshot.quantile(1.0), Some(Duration::from_millis(110)));
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        let snapshot = HistogramSnapshot::new([&HistogramCells::default()].into_iter());
        assert_eq!(snapshot.quantile(0.5), None);
        assert_eq!(snapshot.count(), 0);
    }
}
