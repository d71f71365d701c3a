//! Draws a place with a probability that follows its weight, in constant time: Walker's alias
//! method, prepared by Vose's algorithm with whole numbers.

use std::hint::select_unpredictable;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::draws::Draws;
use super::draws::split;

/// One column: its own place below the threshold, the other's above.
#[derive(Debug)]
struct Column {
    threshold: AtomicU64,
    other: AtomicUsize,
}

/// The prepared table. Weights may change while others draw: a draw that meets some of the columns before and some
/// after the change is by weights between both.
#[derive(Debug)]
pub(super) struct Alias(Box<[Column]>);

impl Alias {
    /// Prepares draws over these weights; at least one must not be zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let column = |place| Column {
            threshold: AtomicU64::new(u64::MAX),
            other: AtomicUsize::new(place),
        };
        let table = Self((0..weights.len()).map(column).collect());
        table.set(weights);
        table
    }

    /// Other weights, of as many places as before.
    pub(super) fn set(&self, weights: &[u32]) {
        for (column, (threshold, other)) in self.0.iter().zip(columns(weights)) {
            column.threshold.store(threshold, Ordering::Relaxed);
            column.other.store(other, Ordering::Relaxed);
        }
    }

    /// A place.
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        self.at(draws.any())
    }

    /// The place that any number stands for.
    pub(super) fn at(&self, any: u64) -> usize {
        let (place, part) = split(any, self.0.len());
        let Some(column) = self.0.get(place) else {
            return place; // there is none
        };
        let is_other = part >= column.threshold.load(Ordering::Relaxed);
        select_unpredictable(is_other, column.other.load(Ordering::Relaxed), place)
    }
}

/// Threshold and other place of each column.
fn columns(weights: &[u32]) -> Vec<(u64, usize)> {
    let total: u128 = weights.iter().copied().map(u128::from).sum();
    let mut columns: Vec<(u64, usize)> =
        (0..weights.len()).map(|place| (u64::MAX, place)).collect();
    // Weights times their number: what fills a column exactly is the total.
    let mut left: Vec<u128> = weights
        .iter()
        .map(|weight| u128::from(*weight) * weights.len() as u128)
        .collect();
    let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|place| left[*place] < total);
    // Each turn fills one column for good.
    while let (Some(&receiver), Some(&giver)) = (poor.last(), rich.last()) {
        poor.pop();
        let threshold = (left[receiver] << 64) / total.max(1);
        columns[receiver] = (u64::try_from(threshold).unwrap_or(u64::MAX), giver);
        left[giver] -= total - left[receiver];
        if left[giver] < total {
            rich.pop();
            poor.push(giver);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn columns_add_up_to_the_weights_the_first_and_any_later(
            both in prop::collection::vec((1_u32.., 1_u32..), 1..50),
        ) {
            let (before, weights): (Vec<u32>, Vec<u32>) = both.into_iter().unzip();
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let later = Alias::new(&before);
            later.set(&weights);
            for Alias(columns) in [Alias::new(&weights), later] {
                let mut shares = vec![0.0; weights.len()];
                for (place, column) in columns.iter().enumerate() {
                    let other = column.other.load(Ordering::Relaxed);
                    let threshold = column.threshold.load(Ordering::Relaxed);
                    let own = threshold as f64 / 2_f64.powi(64);
                    shares[place] += own;
                    shares[other] += 1.0 - own;
                }
                for (weight, share) in weights.iter().zip(shares) {
                    let expected = f64::from(*weight) / total;
                    prop_assert!((share / weights.len() as f64 - expected).abs() < 1e-9);
                }
            }
        }
    }
}
