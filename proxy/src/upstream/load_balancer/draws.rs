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
        split(self.any(), len).0
    }

    /// As many points, of which each is any number alike, and no two are close to each other.
    pub(super) fn spread<const COUNT: u64>(&mut self) -> Spread<COUNT> {
        const { assert!(COUNT > 2, "there must be an order") };
        let any = self.any();
        let most = u64::MAX / COUNT;
        Spread {
            start: self.any(),
            step: most - high(any, most / 2),
            place: high(any << 48, COUNT),
            stride: 1 + high(any << 32, COUNT - 1),
        }
    }

    /// From 0 to 1, without 1.
    pub(super) fn share(&mut self) -> f64 {
        let high = u32::try_from(self.any() >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

/// A place below `len`, and where in it, of 2^64: what is left of any number says as much again.
#[expect(clippy::cast_possible_truncation, reason = "its halves")]
pub(super) fn split(any: u64, len: usize) -> (usize, u64) {
    let scaled = u128::from(any) * len as u128;
    ((scaled >> 64) as usize, scaled as u64)
}

/// What any number makes of a range from 0 to less than `count`.
fn high(any: u64, count: u64) -> u64 {
    u64::try_from((u128::from(any) * u128::from(count)) >> 64).unwrap_or(0)
}

/// Points in equal steps around a circle, from any of it: half of a share each, or up to all of it.
///
/// Two random numbers do for the choice of several as well as one for each (Mitzenmacher, "Balanced allocations and
/// double hashing", SPAA 2014). As no step is short, few hosts are all different ones; as the step varies, each of
/// many is compared with any other some time. The first is any of the points and the second any of the rest, so that
/// neighbors of a busy host gain no more by it than others do; for that their number is a prime.
#[derive(Debug)]
pub(super) struct Spread<const COUNT: u64> {
    start: u64,
    step: u64,
    place: u64,
    stride: u64,
}

impl<const COUNT: u64> Spread<COUNT> {
    /// The next point.
    pub(super) fn next(&mut self) -> u64 {
        let point = self.start.wrapping_add(self.place * self.step);
        self.place += self.stride;
        self.place = self.place.checked_sub(COUNT).unwrap_or(self.place);
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_a_spread_are_apart_and_anywhere_and_in_any_order() {
        const COUNT: u64 = 7;
        let mut draws = Draws::new(1);
        let (mut quarters, mut seconds) = ([0_u32; 4], [0_u32; 6]);
        for _ in 0..10_000 {
            let mut spread = draws.spread::<COUNT>();
            let mut points: Vec<u64> = (0..COUNT).map(|_| spread.next()).collect();
            for point in &points {
                quarters[(point >> 62) as usize] += 1;
            }
            let from_first = |point: &u64| point.wrapping_sub(points[0]);
            let second = from_first(&points[1]);
            let before = points.iter().filter(|one| from_first(one) < second);
            seconds[before.count() - 1] += 1;
            points.sort_unstable();
            let least = u64::MAX / COUNT / 2;
            assert!(points.windows(2).all(|pair| pair[1] - pair[0] >= least));
            assert!(points[0].wrapping_sub(points[6]) >= least, "{points:?}");
        }
        let is_even = |count: &u32, mean: u32| count.abs_diff(mean) < mean / 12;
        assert!(
            quarters.iter().all(|count| is_even(count, 17_500)),
            "{quarters:?}"
        );
        assert!(
            seconds.iter().all(|count| is_even(count, 1_667)),
            "{seconds:?}"
        );
    }
}
