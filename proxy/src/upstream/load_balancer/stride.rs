//! Weighted round robin by strides: in pass `k` over the members a place is served if its weight,
//! summed `k` times, crosses a multiple of the largest weight. The only state is the caller's
//! cursor, so workers share nothing; with equal weights it is plain round robin. (The idea is the
//! static stride scheduler of gRFC A58.)

/// Weights are scaled so that the largest is this; the smallest share that is still exact is one in
/// 65,535.
const WEIGHT_MAX: u64 = u16::MAX as u64;

/// The order of picks.
#[derive(Debug)]
pub(super) enum Stride {
    /// So many, all alike.
    Equal(u64),
    /// Scaled weights, 1 to `WEIGHT_MAX`; the largest is there.
    Weighted(Box<[u16]>),
}

impl Stride {
    /// Prepares picks over members with these weights.
    pub(super) fn new(weights: &[u32]) -> Self {
        let largest = weights.iter().copied().max().unwrap_or(0);
        if weights.iter().all(|weight| *weight == largest) {
            return Self::Equal(weights.len() as u64);
        }
        let scale = |weight: &u32| {
            let scaled =
                (u64::from(*weight) * WEIGHT_MAX + u64::from(largest) / 2) / u64::from(largest);
            u16::try_from(scaled.max(1)).unwrap_or(u16::MAX)
        };
        Self::Weighted(weights.iter().map(scale).collect())
    }

    /// The next place. At most one pass is stepped over, since the heaviest is served in each; on
    /// average it is the largest weight over the mean weight.
    pub(super) fn pick(&self, cursor: &mut u64) -> usize {
        match self {
            Self::Equal(len) => {
                *cursor = cursor.wrapping_add(1);
                place(*cursor % (*len).max(1))
            }
            Self::Weighted(weights) => pick_weighted(weights, cursor),
        }
    }
}

fn pick_weighted(weights: &[u16], cursor: &mut u64) -> usize {
    let len = weights.len() as u64;
    for _ in 0..=len {
        *cursor = cursor.wrapping_add(1);
        let (pass, index) = (*cursor / len, place(*cursor % len));
        let weight = weights.get(index).copied().map_or(0, u64::from);
        // Places are shifted against each other, or all light ones would be served in one pass.
        let offset = WEIGHT_MAX / 2 * (index as u64 & 1);
        let modulus = (weight * pass + offset) % WEIGHT_MAX;
        if modulus >= WEIGHT_MAX - weight {
            return index;
        }
    }
    0
}

fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(weights: &[u32], picks: u32, start: u64) -> Vec<u32> {
        let (stride, mut cursor) = (Stride::new(weights), start);
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[stride.pick(&mut cursor)] += 1;
        }
        counts
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(counts(&[7, 7, 7], 300, 5), [100, 100, 100]);
    }

    #[test]
    fn a_light_member_is_not_served_in_bursts() {
        let (stride, mut cursor) = (Stride::new(&[3, 1]), 0);
        let picks: Vec<usize> = (0..12).map(|_| stride.pick(&mut cursor)).collect();
        assert!(picks.windows(2).all(|pair| pair != [1, 1]), "{picks:?}");
    }

    proptest! {
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(1_u32..1000, 1..20), start: u32) {
            let total: u32 = weights.iter().sum();
            let picks = 20_000;
            for (weight, count) in weights.iter().zip(counts(&weights, picks, u64::from(start))) {
                let expected = f64::from(picks) * f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(count) - expected).abs() <= expected * 0.02 + 3.0,
                    "weight {weight} of {total}: {count}, expected {expected}");
            }
        }
    }
}
