//! XXH64 of texts as they are written, without writing them anywhere.

use std::fmt;
use std::fmt::Display;
use std::fmt::Write as _;

use xxhash_rust::xxh64::Xxh64;

/// The hash of texts one after another.
#[expect(
    missing_debug_implementations,
    reason = "the state of a hash says nothing"
)]
pub struct TextHash(Xxh64);

impl Default for TextHash {
    fn default() -> Self {
        Self(Xxh64::new(0))
    }
}

impl TextHash {
    /// The hash of one text.
    pub fn of(text: &dyn Display) -> u64 {
        let mut hash = Self::default();
        hash.add(text);
        hash.value()
    }

    /// Goes on with this text.
    pub fn add(&mut self, text: &dyn Display) {
        let _ = write!(self, "{text}"); // it cannot fail
    }

    /// Of all so far.
    pub fn value(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Write for TextHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
