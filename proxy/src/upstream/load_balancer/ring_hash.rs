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
const BETWEEN: usize = 6;

/// Hashes in a line of the cache. Between a tenth of the marks or fewer there are more.
const IN_LINE: usize = 16;

/// A ring with more hashes than that has no lines: they would not stay in the cache.
const LINED_MAX: usize = 1 << 18;

/// The ring.
#[derive(Debug)]
pub(super) struct RingHash {
    /// In order.
    hashes: Box<[u64]>,
    /// Where the hashes begin whose first bits are the place here, and their end.
    marks: Box<[u32]>,
    /// Bits of a hash that are not its first.
    shift: u32,
    members: Places,
    /// The same as far as it fits, so that mostly one line of the cache is read; none of a ring that is large.
    lines: Box<[Line]>,
}

/// The first hashes between two marks: of each the next half of a word, and who stands there. Where there are
/// fewer it goes on with who comes after the next mark.
#[derive(Debug)]
#[repr(align(64))]
struct Line([u32; IN_LINE]);

impl RingHash {
    /// Places members on the ring.
    pub(super) fn new(config: &Config, members: &[Weighted<'_>]) -> Self {
        let mut ring = entries(config, members);
        ring.sort_unstable();
        let hashes: Box<[u64]> = ring.iter().map(|(hash, _)| *hash).collect();
        let bits = (hashes.len() / BETWEEN).max(2).ilog2();
        let marks = marks(&hashes, bits);
        let is_lined = ring.len() <= LINED_MAX && members.len() <= usize::from(u16::MAX);
        let lines = is_lined.then(|| lines(&ring, &marks, bits));
        let places: Vec<u32> = ring.into_iter().map(|(_, place)| place).collect();
        Self {
            lines: lines.unwrap_or_default(),
            marks,
            shift: u64::BITS - bits,
            hashes,
            members: Places::new(&places),
        }
    }

    /// Who is responsible for `hash`.
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let mark = usize::try_from(hash >> self.shift).unwrap_or(0);
        let Some(Line(line)) = self.lines.get(mark) else {
            return self.search(mark, hash);
        };
        let half = half(hash, u64::BITS - self.shift);
        let before = line.iter().filter(|entry| **entry < half << 16).count();
        match line.get(before) {
            Some(entry) if entry >> 16 != half => Some((entry & 0xffff) as usize),
            // Too many, or two that differ in the rest.
            _ => self.search(mark, hash),
        }
    }

    fn search(&self, mark: usize, hash: u64) -> Option<usize> {
        let &[start, end] = self.marks.get(mark..mark + 2)? else {
            return None;
        };
        let among = self.hashes.get(start as usize..end as usize)?;
        let at = start as usize + among.partition_point(|place| *place < hash);
        self.members
            .get(if at == self.hashes.len() { 0 } else { at })
    }
}

/// Of a hash what comes after so many first bits.
fn half(hash: u64, bits: u32) -> u32 {
    u32::try_from((hash << bits) >> 48).unwrap_or(0)
}

/// What is between two marks each.
fn lines(ring: &[(u64, u32)], marks: &[u32], bits: u32) -> Box<[Line]> {
    let Some((_, first)) = ring.first() else {
        return Box::default();
    };
    let line = |begin: &u32, end: &u32| {
        let own = ring.get(*begin as usize..*end as usize).unwrap_or_default();
        let after = ring.get(*end as usize).map_or(*first, |(_, place)| *place);
        let mut line = [0xffff_0000 | after; IN_LINE];
        for (entry, (hash, place)) in line.iter_mut().zip(own) {
            *entry = half(*hash, bits) << 16 | place;
        }
        Line(line)
    };
    let ends = marks.iter().skip(1);
    marks
        .iter()
        .zip(ends)
        .map(|(begin, end)| line(begin, end))
        .collect()
}

/// For each value of so many first bits where its hashes begin, and the end.
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
    (0..=1 << bits).map(begin).collect()
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
        for (at, hash) in ring.hashes.iter().enumerate() {
            assert_eq!(ring.pick(*hash), ring.members.get(at));
            assert_eq!(ring.pick(hash + 1), ring.members.get((at + 1) % 8));
        }
        assert_eq!(ring.pick(0), ring.members.get(0));
        assert_eq!(ring.pick(u64::MAX), ring.members.get(0));
    }

    #[test]
    fn lines_say_what_a_search_finds() {
        for size in [1, 7, 300, 5000] {
            let ring = ring((size, size), &[1; 9]);
            let mut random = fastrand::Rng::with_seed(size);
            let near = |hash: u64| [hash.wrapping_sub(1), hash, hash.wrapping_add(1)];
            let any = (0..2000).map(|_| random.u64(..));
            for hash in ring.hashes.iter().copied().chain(any).flat_map(near) {
                let mark = usize::try_from(hash >> ring.shift).expect("a place");
                assert_eq!(ring.pick(hash), ring.search(mark, hash), "{hash:x}");
            }
        }
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
            prop_assert!(ring.hashes.len() as u64 <= size_max + 1, "{}", ring.hashes.len());
        }
    }
}
