//! From runs to claims: paired log-ratios and a bootstrap interval for their mean.
//!
//! Noise on a shared machine drifts, and it multiplies. So every block measures all proxies close
//! together in the order A B B A, each block gives one logarithm of a ratio, and the interval is
//! drawn from the blocks by resampling. A claim holds only if its interval excludes 1.

/// Resamples of an interval; more would move the third digit of its ends.
pub const RESAMPLES: usize = 10_000;

/// A ratio with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    /// Geometric mean of the paired ratios.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Blocks it rests on. Below six the interval is a hint.
    pub blocks: usize,
}

/// The ratio of `ours` to `theirs`, paired by block.
///
/// `None` when no block has two positive values, or when the lengths differ.
#[must_use]
pub fn ratio_interval(ours: &[f64], theirs: &[f64], seed: u64) -> Option<RatioInterval> {
    if ours.len() != theirs.len() {
        return None;
    }
    let logs: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .filter(|(our, their)| **our > 0.0 && **their > 0.0)
        .map(|(our, their)| (our / their).ln())
        .filter(|log| log.is_finite())
        .collect();
    let (low, high) = bootstrap_mean(&logs, seed)?;
    Some(RatioInterval {
        ratio: mean(&logs)?.exp(),
        low: low.exp(),
        high: high.exp(),
        blocks: logs.len(),
    })
}

/// The 2.5 % and 97.5 % quantiles of the mean under resampling with replacement.
#[must_use]
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut means = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn = (0..values.len()).filter_map(|_| random.choice(values));
        means.push(drawn.sum::<f64>() / values.len() as f64);
    }
    if values.is_empty() {
        return None;
    }
    means.sort_by(f64::total_cmp);
    Some((
        *means.get(RESAMPLES / 40)?,
        *means.get(RESAMPLES - 1 - RESAMPLES / 40)?,
    ))
}

/// The 2.5 % and 97.5 % quantiles of the median under resampling with replacement.
#[must_use]
pub fn bootstrap_median(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    resampled(values.len(), seed, |drawn| {
        let values = drawn.iter().filter_map(|place| values.get(*place).copied());
        median(&values.collect::<Vec<f64>>())
    })
}

/// The sum of `ours` over the sum of `theirs`, paired by block: for differences that may be zero or
/// less, of which there is no logarithm.
///
/// `None` when the lengths differ or the sum of `theirs` is not positive.
#[must_use]
pub fn ratio_of_sums(ours: &[f64], theirs: &[f64], seed: u64) -> Option<RatioInterval> {
    let ratio = |ours: f64, theirs: f64| Some(ours / theirs).filter(|_| theirs > 0.0);
    if ours.len() != theirs.len() {
        return None;
    }
    let (low, high) = resampled(ours.len(), seed, |drawn| {
        let sum = |values: &[f64]| -> f64 { drawn.iter().filter_map(|at| values.get(*at)).sum() };
        ratio(sum(ours), sum(theirs))
    })?;
    Some(RatioInterval {
        ratio: ratio(ours.iter().sum(), theirs.iter().sum())?,
        low,
        high,
        blocks: ours.len(),
    })
}

/// The 2.5 % and 97.5 % quantiles of what `of` makes of blocks drawn with replacement.
fn resampled(blocks: usize, seed: u64, of: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
    if blocks == 0 {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = vec![0; blocks];
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| random.usize(..blocks));
        found.extend(of(&drawn));
    }
    found.sort_by(f64::total_cmp);
    let low = *found.get(found.len() / 40)?;
    Some((low, *found.get(found.len() - 1 - found.len() / 40)?))
}

/// The arithmetic mean.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle value, or the mean of the two middle ones.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::{bootstrap_mean, bootstrap_median, mean, median, ratio_interval, ratio_of_sums};

    fn close(left: f64, right: f64, tolerance: f64) -> bool {
        (left - right).abs() <= tolerance
    }

    #[test]
    fn a_constant_ratio_has_no_width() {
        let theirs = [10.0, 20.0, 15.0, 12.0, 18.0, 11.0];
        let ours: Vec<f64> = theirs.iter().map(|value| value * 0.8).collect();
        let interval = ratio_interval(&ours, &theirs, 1).expect("six blocks");
        for value in [interval.ratio, interval.low, interval.high] {
            assert!(close(value, 0.8, 1e-12), "{interval:?}");
        }
        assert_eq!(interval.blocks, 6);
    }

    /// The standard error of a mean of n normal values is sigma / sqrt(n), so the interval must be
    /// close to the mean plus and minus 1.96 of these.
    #[test]
    fn the_interval_agrees_with_the_normal_formula() {
        let mut random = fastrand::Rng::with_seed(5);
        let values: Vec<f64> = (0..400)
            .map(|_| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0)
            .collect();
        let average = mean(&values).expect("values");
        let variance = values
            .iter()
            .map(|value| (value - average).powi(2))
            .sum::<f64>()
            / 400.0;
        let half_width = 1.96 * (variance / 400.0).sqrt();
        let (low, high) = bootstrap_mean(&values, 9).expect("values");
        assert!(
            close(low, average - half_width, 0.008),
            "{low} {average} {half_width}"
        );
        assert!(
            close(high, average + half_width, 0.008),
            "{high} {average} {half_width}"
        );
    }

    /// Two values a and b: the mean of a resample is a, the middle or b with chances 1/4, 1/2, 1/4,
    /// so both 2.5 % quantiles are the ends.
    #[test]
    fn two_blocks_give_their_own_ends() {
        assert_eq!(bootstrap_mean(&[1.0, 3.0], 2), Some((1.0, 3.0)));
        let interval = ratio_interval(&[1.0, 4.0], &[1.0, 1.0], 2).expect("two blocks");
        assert!(close(interval.ratio, 2.0, 1e-12) && close(interval.high, 4.0, 1e-12));
    }

    /// Of three values the median of a resample is the least with chance 7/27, more than 2.5 %.
    #[test]
    fn the_median_of_three_lies_between_its_ends() {
        assert_eq!(bootstrap_median(&[5.0, 1.0, 3.0], 2), Some((1.0, 5.0)));
        assert_eq!(bootstrap_median(&[2.0; 5], 2), Some((2.0, 2.0)));
    }

    #[test]
    fn sums_may_hold_what_is_not_positive() {
        let interval = ratio_of_sums(&[1.0, -0.5, 1.0], &[2.0, -1.0, 2.0], 3);
        let interval = interval.expect("three blocks");
        assert!(close(interval.ratio, 0.5, 1e-12), "{interval:?}");
        assert!(close(interval.low, 0.5, 1e-12), "{interval:?}");
        assert_eq!(ratio_of_sums(&[1.0], &[0.0], 3), None);
        assert_eq!(ratio_of_sums(&[1.0], &[1.0, 2.0], 3), None);
    }

    #[test]
    fn nothing_comes_from_nothing() {
        assert_eq!(bootstrap_median(&[], 1), None);
        assert_eq!(ratio_of_sums(&[], &[], 1), None);
        assert_eq!(bootstrap_mean(&[], 1), None);
        assert_eq!(ratio_interval(&[], &[], 1), None);
        assert_eq!(ratio_interval(&[1.0], &[1.0, 2.0], 1), None);
        assert_eq!(ratio_interval(&[0.0], &[1.0], 1), None);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
