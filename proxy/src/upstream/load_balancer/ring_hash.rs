//! A hash ring (ketama), the same as Envoy's: each member stands on it as often as its weight asks
//! for, at the hashes of its key with a number; a request goes to the first place at or after its
//! own hash.

use std::fmt::Write as _;

use xxhash_rust::xxh64::xxh64;

use super::consistent::Weighted;
use super::murmur;
use super::places::Places;
use crate::config::load_balancing::HashFunction;
use crate::config::load_balancing::RingHash as Config;

/// Hashes between two marks, as far as they are even.
const BETWEEN: usize = 4;

/// Hashes that are compared at once, whether or not they are before the next mark: a number of turns that
/// varies would cost more than those that are too many.
const WINDOW: usize = 8;

/// The ring.
#[derive(Debug)]
pub(super) struct RingHash {
    /// In order, and what makes the last window whole.
    hashes: Box<[u64]>,
    /// How many there are.
    count: usize,
    /// Where the hashes begin whose first bits are the place here.
    marks: Box<[u32]>,
    /// Bits of a hash that are not its first.
    shift: u32,
    members: Places,
}

impl RingHash {
    /// Places members on the ring.
    pub(super) fn new(config: &Config, members: &[Weighted<'_>]) -> Self {
        let mut ring = entries(config, members);
        ring.sort_unstable();
        let mut hashes: Vec<u64> = ring.iter().map(|(hash, _)| *hash).collect();
        let places: Vec<u32> = ring.into_iter().map(|(_, place)| place).collect();
        let count = hashes.len();
        let bits = (count / BETWEEN).max(2).ilog2();
        let marks = marks(&hashes, bits);
        hashes.resize(count + WINDOW, u64::MAX);
        Self {
            hashes: hashes.into(),
            count,
            marks,
            shift: u64::BITS - bits,
            members: Places::new(&places),
        }
    }

    /// Who is responsible for `hash`.
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let mark = usize::try_from(hash >> self.shift).unwrap_or(0);
        let mut at = *self.marks.get(mark)? as usize;
        // What comes after all windows is not before any hash.
        while let Some(window) = self.hashes.get(at..at + WINDOW) {
            let before = window.iter().filter(|place| **place < hash).count();
            at += before;
            if before < WINDOW {
                break;
            }
        }
        self.members.get(if at >= self.count { 0 } else { at })
    }
}

/// For each value of so many first bits where its hashes begin.
fn marks(hashes: &[u64], bits: u32) -> Box<[u32]> {
    let mut at = 0;
    let begin = |first: u64| {
        let is_before = |hash: &u64| (*hash >> (u64::BITS - bits)) < first;
        at += hashes
            .get(at..)
            .unwrap_or_default()
            .iter()
            .take_while(|hash| is_before(hash))
            .count();
        u32::try_from(at).unwrap_or(u32::MAX)
    };
    (0..1 << bits).map(begin).collect()
}

/// The least member gets a whole number of places, unless the ring would be too large; what the
/// others get is rounded against each other.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are far below 2^53, and rounding must be Envoy's"
)]
fn entries(config: &Config, members: &[Weighted<'_>]) -> Vec<(u64, u32)> {
    let least = members
        .iter()
        .map(|member| member.share)
        .fold(1.0, f64::min);
    let scale = (least * config.size_min as f64).ceil() / least;
    let scale = scale.min(config.size_max as f64);
    let mut ring = Vec::new();
    let (mut count, mut wanted) = (0.0, 0.0);
    let mut key = String::new();
    for (place, member) in (0..).zip(members) {
        wanted += scale * member.share;
        key.clear();
        key.push_str(member.key);
        key.push('_');
        let length = key.len();
        for number in 0_u64.. {
            if count >= wanted {
                break;
            }
            key.truncate(length);
            // Writing to a string cannot fail.
            let _ = write!(key, "{number}");
            ring.push((hash(config.function, key.as_bytes()), place));
            count += 1.0;
        }
    }
    ring
}

fn hash(function: HashFunction, key: &[u8]) -> u64 {
    match function {
        HashFunction::Murmur2 => murmur::hash(key),
        HashFunction::Xx => xxh64(key, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::load_balancing::Hashing;
    use crate::upstream::load_balancer::consistent::shares;

    fn ring(sizes: (u64, u64), weights: &[u32]) -> RingHash {
        let keys: Vec<String> = (1..=weights.len())
            .map(|i| format!("10.0.0.{i}:80"))
            .collect();
        let shares = shares(weights, 1.0);
        let members: Vec<Weighted<'_>> = keys
            .iter()
            .zip(shares)
            .map(|(key, share)| Weighted { key, share })
            .collect();
        let config = Config {
            function: HashFunction::Xx,
            size_min: sizes.0,
            size_max: sizes.1,
            hashing: Hashing::default(),
        };
        RingHash::new(&config, &members)
    }

    fn counts(ring: &RingHash, hosts: usize) -> Vec<usize> {
        let mut counts = vec![0; hosts];
        for index in 0..ring.members.len() {
            counts[ring.members.get(index).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn places_are_rounded_as_in_envoy() {
        assert_eq!(counts(&ring((1024, 1 << 23), &[1; 4]), 4), [256; 4]);
        // Six places for four members of equal weight: 1.5 each.
        assert_eq!(counts(&ring((6, 6), &[1; 4]), 4), [2, 1, 2, 1]);
        // The least of them gets a whole number, so the ring grows beyond its minimum.
        assert_eq!(counts(&ring((10, 1 << 23), &[1, 2, 9]), 3), [1, 2, 9]);
        assert_eq!(counts(&ring((1, 3), &[1; 4]), 4), [1, 1, 1, 0]);
    }

    #[test]
    fn the_first_place_at_or_after_the_hash_is_taken_and_the_end_is_the_beginning() {
        let ring = ring((8, 8), &[1; 4]);
        for (at, hash) in ring.hashes.iter().take(ring.count).enumerate() {
            assert_eq!(ring.pick(*hash), ring.members.get(at));
            assert_eq!(ring.pick(hash + 1), ring.members.get((at + 1) % 8));
        }
        assert_eq!(ring.pick(0), ring.members.get(0));
        assert_eq!(ring.pick(u64::MAX), ring.members.get(0));
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(ring((1024, 2048), &[]).pick(7), None);
    }

    #[test]
    fn weights_are_shares_of_the_ring() {
        let weights = [1, 2, 5];
        let ring = ring((100_000, 1 << 23), &weights);
        let mut counts = [0; 3];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..80_000 {
            counts[ring.pick(random.u64(..)).unwrap()] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = 10_000 * weight;
            assert!(expected.abs_diff(count) < expected / 20, "{counts:?}");
        }
    }

    #[test]
    fn one_who_goes_takes_nothing_else_along_if_the_others_keep_their_places() {
        let largest = 1 << 23;
        let before = ring((800 * 20, largest), &[1; 20]);
        let after = ring((800 * 19, largest), &[1; 19]);
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..10_000 {
            let hash = random.u64(..);
            let place = before.pick(hash);
            assert!(place == Some(19) || place == after.pick(hash));
        }
    }

    proptest! {
        #[test]
        fn a_ring_is_never_larger_than_it_may_be(
            size_min in 1_u64..2000, more in 0_u64..2000,
            weights in prop::collection::vec(1_u32..1_000_000, 1..20),
        ) {
            let size_max = size_min + more;
            let ring = ring((size_min, size_max), &weights);
            prop_assert!(ring.count as u64 <= size_max + 1, "{}", ring.count);
        }
    }
}
