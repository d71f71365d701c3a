//! Why a host takes no load, or less, besides what the control plane says of it.

use std::fmt;
use std::ops::BitOr;

/// A set of reasons; empty is healthy.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthFlags(u8);

impl HealthFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Its checks fail, or it was not checked yet.
    pub const FAILED_CHECK: Self = Self(1);
    /// Outlier detection has ejected it.
    pub const EJECTED: Self = Self(2);
    /// It answers its checks, and says that it is degraded.
    pub const DEGRADED: Self = Self(4);
    /// It does not even count while it was not checked.
    pub const PENDING: Self = Self(8);
    /// It does not even count, because it said so when its checks began to fail.
    pub const EXCLUDED: Self = Self(16);
    /// Its last check was not answered in time.
    pub const TIMED_OUT: Self = Self(32);
    /// There was no answer to a check yet, nor a failure.
    pub const UNCHECKED: Self = Self(64);

    /// It said in an ordinary answer that it is degraded, not long ago.
    pub const ANSWERS_DEGRADED: Self = Self(128);

    /// One of `others` is among them.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// With `others`.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Without `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// With or without `others`.
    #[must_use]
    pub const fn set(self, others: Self, are_there: bool) -> Self {
        if are_there {
            self.with(others)
        } else {
            self.without(others)
        }
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn of_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// It takes load only where too few others do.
    #[must_use]
    pub const fn is_degraded(self) -> bool {
        self.has(Self(Self::DEGRADED.0 | Self::ANSWERS_DEGRADED.0))
    }

    /// It takes no load.
    #[must_use]
    pub const fn is_failed(self) -> bool {
        self.has(Self(Self::FAILED_CHECK.0 | Self::EJECTED.0))
    }

    /// It does not count among those who could take load.
    #[must_use]
    pub const fn is_excluded(self) -> bool {
        self.has(Self(Self::PENDING.0 | Self::EXCLUDED.0))
    }
}

impl BitOr for HealthFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Debug for HealthFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::FAILED_CHECK, "failed_check"),
            (Self::EJECTED, "ejected"),
            (Self::DEGRADED, "degraded"),
            (Self::PENDING, "pending"),
            (Self::EXCLUDED, "excluded"),
            (Self::TIMED_OUT, "timed_out"),
            (Self::UNCHECKED, "unchecked"),
            (Self::ANSWERS_DEGRADED, "answers_degraded"),
        ];
        let set = names.into_iter().filter(|(flag, _)| self.has(*flag));
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}
