//! How often each identity is given a certificate. Pure: time comes in as an argument.
//!
//! An honest proxy asks twice in the life of a certificate, and once after each start. What is
//! bounded here is one that starts again and again, and one in the wrong hands.

use std::collections::BTreeMap;

use super::identity::SpiffeId;
use crate::limits::SIGNED_BURST_MAX;
use crate::limits::SIGNED_KNOWN_MAX;
use crate::limits::SIGNED_PER_SECOND;

/// Who was given how many lately.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<SpiffeId, Spent>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    count: u64,
    /// When `count` was right, seconds.
    at: u64,
}

impl Spent {
    /// What is left of it.
    fn now(self, now: u64) -> Self {
        // A clock that was set back forgives nothing.
        let seconds = now.saturating_sub(self.at);
        let forgiven = seconds.saturating_mul(SIGNED_PER_SECOND);
        Self {
            count: self.count.saturating_sub(forgiven),
            at: now,
        }
    }
}

impl Rates {
    /// Takes one; says after how many seconds there is one again if there is none.
    pub(super) fn take(&mut self, identity: &SpiffeId, now: u64) -> Result<(), u64> {
        let known = self.0.get(identity).copied();
        let mut spent = known.unwrap_or(Spent { count: 0, at: now }).now(now);
        if spent.count >= SIGNED_BURST_MAX {
            return Err(1);
        }
        if known.is_none() && self.0.len() >= SIGNED_KNOWN_MAX {
            self.0.retain(|_, spent| spent.now(now).count > 0);
            if self.0.len() >= SIGNED_KNOWN_MAX {
                return Err(1);
            }
        }
        spent.count += 1;
        self.0.insert(identity.clone(), spent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_some_each_second() {
        let mut rates = Rates::default();
        let one: SpiffeId = "spiffe://mesh.example/a".parse().unwrap();
        let other: SpiffeId = "spiffe://mesh.example/b".parse().unwrap();
        for _ in 0..SIGNED_BURST_MAX {
            rates.take(&one, 1_000).unwrap();
        }
        assert_eq!(rates.take(&one, 1_000), Err(1));
        rates.take(&other, 1_000).unwrap();
        for _ in 0..SIGNED_PER_SECOND {
            rates.take(&one, 1_001).unwrap();
        }
        assert_eq!(rates.take(&one, 1_001), Err(1));
        assert!(rates.take(&one, 0).is_err(), "a clock that was set back");
        for _ in 0..SIGNED_BURST_MAX {
            rates.take(&one, 1_000_000).unwrap();
        }
        rates.take(&one, 1_000_000).unwrap_err();
    }
}
