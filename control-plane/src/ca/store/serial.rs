//! Serial numbers: a counter that never goes back, and randomness after it.
//!
//! The counter makes them unique over crashes, because whole blocks of it are reserved on disk
//! first. The random half makes them unguessable, and unique even if somebody restores an old
//! backup.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use super::state::hex;
use super::state::unhex;

/// The serial number of a certificate: 16 bytes, positive, without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

/// Not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no serial number of this authority; those have 32 hexadecimal digits and begin with 01"
)]
pub struct SerialError(String);

impl Serial {
    pub(crate) fn new(counter: u64, random: [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        let (front, back) = bytes.split_at_mut(8);
        front.copy_from_slice(&(counter | MARK).to_be_bytes());
        back.copy_from_slice(&random);
        Self(bytes)
    }

    /// As in the certificate.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn counter(self) -> u64 {
        let front = self.0.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(front) & COUNTER_MAX
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Takes the colons openssl prints, too.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        let bytes: Option<[u8; 16]> = unhex(&digits).and_then(|bytes| bytes.try_into().ok());
        match bytes {
            Some(bytes @ [1, ..]) => Ok(Self(bytes)),
            _ => Err(SerialError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// Numbers reserved on disk and not yet given away.
#[derive(Debug, Default)]
pub(super) struct Block(Range<u64>);

impl Block {
    pub(super) fn new(numbers: Range<u64>) -> Self {
        Self(numbers)
    }

    pub(super) fn take(&mut self) -> Option<u64> {
        self.0.next()
    }

    pub(super) fn left(&self) -> u64 {
        self.0.end.saturating_sub(self.0.start)
    }
}

/// The first byte, so that the number is positive and always equally long.
const MARK: u64 = 1 << 56;

/// More than any authority issues in its life.
pub(super) const COUNTER_MAX: u64 = MARK - 1;
