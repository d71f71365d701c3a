//! Draws a place with a probability that follows its weight, in constant time: Walker's alias
//! method, prepared by Vose's algorithm with whole numbers.

use super::draws::Draws;
use super::draws::split;

/// One column: its own place below the threshold, the other's above.
#[derive(Debug)]
struct Column {
    threshold: u64,
    other: usize,
}

/// The prepared table.
#[derive(Debug)]
pub(super) struct Alias(Box<[Column]>);

impl Alias {
    /// Prepares draws over these weights; at least one must not be zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u128 = weights.iter().copied().map(u128::from).sum();
        let mut columns: Box<[Column]> = (0..weights.len())
            .map(|place| Column {
                threshold: u64::MAX,
                other: place,
            })
            .collect();
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
            columns[receiver] = Column {
                threshold: u64::try_from(threshold).unwrap_or(u64::MAX),
                other: giver,
            };
            left[giver] -= total - left[receiver];
            if left[giver] < total {
                rich.pop();
                poor.push(giver);
            }
        }
        Self(columns)
    }

    /// A place.
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        self.at(draws.any())
    }

    /// The place that any number stands for.
    pub(super) fn at(&self, any: u64) -> usize {
        let (place, part) = split(any, self.0.len());
        match self.0.get(place) {
            Some(column) if part >= column.threshold => column.other,
            _ => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn columns_add_up_to_the_weights(weights in prop::collection::vec(1_u32.., 1..50)) {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let Alias(columns) = Alias::new(&weights);
            let mut shares = vec![0.0; weights.len()];
            for (place, column) in columns.iter().enumerate() {
                let own = if column.other == place {
                    1.0
                } else {
                    column.threshold as f64 / 2_f64.powi(64)
                };
                shares[place] += own;
                shares[column.other] += 1.0 - own;
            }
            for (weight, share) in weights.iter().zip(shares) {
                let expected = f64::from(*weight) / total;
                prop_assert!((share / weights.len() as f64 - expected).abs() < 1e-9);
            }
        }
    }
}
