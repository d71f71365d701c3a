//! Several random numbers out of one (SplitMix64), so that a pick asks its caller only once.

/// A sequence; the same start gives the same numbers.
#[derive(Debug)]
pub(super) struct Draws(u64);

impl Draws {
    /// A sequence from `random`.
    pub(super) fn new(random: u64) -> Self {
        Self(random)
    }

    /// Any number.
    pub(super) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A place below `len`; 0 if there is none.
    pub(super) fn below(&mut self, len: usize) -> usize {
        self.split(len).0
    }

    /// A place below `len`, and where in it, of 2^64: what is left of the number says as much again.
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    pub(super) fn split(&mut self, len: usize) -> (usize, u64) {
        let scaled = u128::from(self.any()) * len as u128;
        ((scaled >> 64) as usize, scaled as u64)
    }

    /// From 0 to 1, without 1.
    pub(super) fn share(&mut self) -> f64 {
        let high = u32::try_from(self.any() >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}
