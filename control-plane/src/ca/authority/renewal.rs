//! When to replace a certificate.

use std::time::Duration;

use crate::ca::certificate::Validity;

/// Half its life after `from`, give or take a tenth of its life, so that those who began together
/// do not come back together. `random` decides where in that span.
#[must_use]
pub fn renewal_at(validity: Validity, random: u32) -> Duration {
    let life = validity.until.saturating_sub(validity.from);
    let share = f64::from(random) / f64::from(u32::MAX);
    let after = Duration::from_secs(life).mul_f64(0.2f64.mul_add(share, 0.4));
    Duration::from_secs(validity.from) + after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_life_with_jitter() {
        let validity = Validity {
            from: 1_000,
            until: 2_000,
        };
        let at = |random| renewal_at(validity, random).as_secs();
        assert_eq!((at(0), at(u32::MAX)), (1_400, 1_600));
        assert!((1_499..=1_500).contains(&at(u32::MAX / 2)));
    }
}
