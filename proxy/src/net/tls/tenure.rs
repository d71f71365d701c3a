//! How long a connection may stay that stands on certificates.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustls_pki_types::UnixTime;
use tokio::time::Instant;

use crate::drain::DrainSignal;

/// A connection is asked to go so long before the end, at least: the end is looked for each second, and
/// HTTP/1 waits up to another one ([`limits::DRAIN_IDLE`](crate::config::limits::DRAIN_IDLE)) for a
/// request whose answer can say so.
const LEAVE_SECONDS_MIN: i64 = 2;

/// Until when a connection may tenure: it is asked to go a while before a certificate ends, and is cut
/// when it does. Connections that came about the same time go at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// Seconds since 1970.
    leave: i64,
    /// Seconds since 1970.
    end: i64,
}

impl Tenure {
    /// Nothing ends.
    pub const FOREVER: Self = Self {
        leave: i64::MAX,
        end: i64::MAX,
    };

    /// From `now` until `end`, in seconds since 1970. It is asked to go the drain time before the end, or
    /// later if most of its time would go by waiting: that is halved until half of the time is left.
    pub fn until(end: i64, now: i64, drain_time: Duration) -> Self {
        if end == i64::MAX {
            return Self::FOREVER;
        }
        let mut before = i64::try_from(drain_time.as_secs()).unwrap_or(i64::MAX);
        let half = end.saturating_sub(now) / 2;
        while before > half && before > LEAVE_SECONDS_MIN {
            before /= 2;
        }
        Self {
            leave: end.saturating_sub(before.max(LEAVE_SECONDS_MIN)),
            end,
        }
    }

    /// Whether it is time to go.
    pub fn is_over(self, now: i64) -> bool {
        self.leave <= now
    }

    /// Asks those to go that `signal` reaches, and says when they have to be gone.
    pub fn ask(self, signal: &DrainSignal) {
        match self.cut_at() {
            Some(at) => signal.start_by(at),
            None => signal.start(),
        }
    }

    /// Whether both end at the same time.
    pub fn ends_with(self, other: Self) -> bool {
        self.end == other.end
    }

    /// When it is cut; none if never.
    pub fn cut_at(self) -> Option<Instant> {
        let end = u64::try_from(self.end).unwrap_or_default();
        let left = Duration::from_secs(end).saturating_sub(since_1970());
        Instant::now()
            .checked_add(left)
            .filter(|_| self.end != i64::MAX)
    }
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

fn since_1970() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "certificates end by the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_the_drain_time_before_the_end_or_half_of_what_is_left_and_never_at_the_end() {
        let drain = Duration::from_secs(600);
        // (seconds left, asked so long before the end)
        for (left, before) in [
            (86_400, 600),
            (1200, 600),
            (1199, 300),
            (600, 300),
            (15, 4),
            (5, 2),
            (4, 2),
            (1, 2),
            (0, 2),
            (-9, 2),
        ] {
            let tenure = Tenure::until(1000 + left, 1000, drain);
            assert_eq!(tenure.end - tenure.leave, before, "{left}");
            assert_eq!(tenure.is_over(1000), left <= 2, "{left}");
        }
        assert_eq!(Tenure::until(i64::MAX, 0, drain), Tenure::FOREVER);
        let brief = Tenure::until(1000, 0, Duration::ZERO);
        assert_eq!(brief.leave, 998);
    }

    #[test]
    fn it_is_cut_when_the_certificate_ends() {
        let now = unix_now();
        let tenure = Tenure::until(now + 60, now, Duration::from_secs(10));
        let left = tenure.cut_at().map(|at| at - Instant::now());
        let left = left.map(|left| left.as_secs_f64());
        assert!(
            left.is_some_and(|left| (58.0..=60.0).contains(&left)),
            "{left:?}"
        );
        let ended = Tenure::until(now - 60, now, Duration::from_secs(10));
        assert!(ended.cut_at().is_some_and(|at| at <= Instant::now()));
        assert_eq!(Tenure::FOREVER.cut_at(), None);
    }
}
