//! Bytes of any length that both ends can check without sharing them.
//!
//! Byte `i` is a fixed function of `i` whose period (65,521, a prime) divides no buffer size in use,
//! so a lost, doubled or moved block changes the checksum.

use bytes::Bytes;
use xxhash_rust::xxh64::Xxh64;

/// A prime just below 64 KiB; see the module text.
const PERIOD: usize = 65_521;

/// The pattern as a source of chunks.
#[derive(Clone, Debug)]
pub struct Pattern {
    period: Bytes,
    offset: u64,
    left: u64,
}

impl Pattern {
    /// A source of the first `bytes` bytes of the pattern.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self {
            period: period(),
            offset: 0,
            left: bytes,
        }
    }

    /// Bytes not yet handed out.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Iterator for Pattern {
    type Item = Bytes;

    /// The next chunk, without copying; at most one period long.
    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let start = usize::try_from(self.offset % PERIOD as u64).ok()?;
        let length = usize::try_from(self.left)
            .map_or(PERIOD, |left| left.min(PERIOD))
            .min(PERIOD - start);
        self.offset += length as u64;
        self.left -= length as u64;
        Some(self.period.slice(start..start + length))
    }
}

/// A running checksum over received bytes.
#[derive(Clone)]
pub struct Checksum {
    state: Xxh64,
    bytes: u64,
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Checksum")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Checksum {
    /// The checksum of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Xxh64::new(0),
            bytes: 0,
        }
    }

    /// Adds `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.state.update(data);
        self.bytes += data.len() as u64;
    }

    /// Bytes seen.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The value so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.state.digest()
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of the first `bytes` bytes of the pattern.
#[must_use]
pub fn checksum(bytes: u64) -> u64 {
    let mut sum = Checksum::new();
    for chunk in Pattern::new(bytes) {
        sum.update(&chunk);
    }
    sum.value()
}

fn period() -> Bytes {
    // Knuth's multiplicative hash; the top byte is the well-mixed one.
    (0..PERIOD)
        .map(|at| ((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Checksum, Pattern, checksum};

    #[test]
    fn the_pattern_has_the_length_asked_for() {
        for bytes in [0, 1, 65_520, 65_521, 65_522, 1_000_000] {
            let total: usize = Pattern::new(bytes).map(|chunk| chunk.len()).sum();
            assert_eq!(total as u64, bytes);
        }
    }

    #[test]
    fn the_checksum_sees_cuts_but_not_chunk_borders() {
        let whole: Vec<u8> = Pattern::new(200_000).flatten().collect();
        let mut pieces = Checksum::new();
        for piece in whole.chunks(777) {
            pieces.update(piece);
        }
        assert_eq!(
            (pieces.value(), pieces.bytes()),
            (checksum(200_000), 200_000)
        );
        let mut moved = Checksum::new();
        let (front, back) = whole.split_at(16_384);
        moved.update(back);
        moved.update(front);
        assert_ne!(moved.value(), checksum(200_000));
    }
}
