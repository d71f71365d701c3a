//! The thresholds of one host: from the outcome of a check to what is said of the host, and how long
//! to wait for the next one. Sans-IO; chance is an argument.
//!
//! The rules are Envoy's. A host that was never checked needs one success, whatever the threshold;
//! an answer that says "unhealthy" fails it at once, what does not come only when it happens as often
//! as the threshold says.

use std::time::Duration;

use super::flags::HealthFlags;
use crate::config::health::HealthCheck;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not well.
    Bad(Failure),
    /// Well.
    Good {
        /// The host says that others should be preferred.
        is_degraded: bool,
    },
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer says so.
    Answer {
        /// The status of the answer, if it has one.
        status: Option<u16>,
        /// It counts towards the threshold only.
        is_retriable: bool,
        /// The host asks not to be counted at all.
        excludes: bool,
    },
    /// No connection, or it broke.
    Network,
    /// We have no descriptor or port for a connection, which says nothing of the host. It is no outcome
    /// for a session.
    Ours,
    /// An ordinary answer of the host's said so.
    Passive,
    /// No answer in time.
    Timeout,
}

impl Failure {
    fn counts_only(self) -> bool {
        match self {
            Self::Answer { is_retriable, .. } => is_retriable,
            Self::Network | Self::Ours | Self::Timeout => true,
            Self::Passive => false,
        }
    }

    /// Of the network, not of an answer.
    #[must_use]
    pub const fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::Timeout)
    }
}

/// What a check did to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Something is said of it that was not said before.
    Changed,
    /// It counts towards a threshold.
    Pending,
    /// Nothing.
    Unchanged,
}

/// Checks in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    good: u32,
    bad: u32,
}

impl Session {
    /// Takes in how a check ended; returns what is said of the host from now on.
    pub fn take(
        &mut self,
        outcome: Outcome,
        flags: HealthFlags,
        config: &HealthCheck,
    ) -> (HealthFlags, Transition) {
        let was_pending = flags.has(HealthFlags::PENDING);
        let (flags, transition) = match outcome {
            Outcome::Good { is_degraded } => self.succeed(is_degraded, flags, config),
            Outcome::Bad(failure) => self.fail(failure, flags, config),
        };
        let flags = flags.without(HealthFlags::PENDING | HealthFlags::UNCHECKED);
        // It counts from now on, even if nothing else changed.
        let transition = if was_pending {
            Transition::Changed
        } else {
            transition
        };
        (flags, transition)
    }

    fn succeed(
        &mut self,
        is_degraded: bool,
        mut flags: HealthFlags,
        config: &HealthCheck,
    ) -> (HealthFlags, Transition) {
        self.bad = 0;
        let mut transition = Transition::Unchanged;
        if flags.has(HealthFlags::FAILED_CHECK) {
            self.good = self.good.saturating_add(1);
            let is_first = flags.has(HealthFlags::UNCHECKED);
            if is_first || self.good == config.healthy_threshold {
                let over =
                    HealthFlags::FAILED_CHECK | HealthFlags::TIMED_OUT | HealthFlags::EXCLUDED;
                flags = flags.without(over);
                transition = Transition::Changed;
            } else {
                transition = Transition::Pending;
            }
        }
        if is_degraded != flags.has(HealthFlags::DEGRADED) {
            flags = flags.set(HealthFlags::DEGRADED, is_degraded);
            if transition == Transition::Unchanged {
                transition = Transition::Changed;
            }
        }
        (flags, transition)
    }

    fn fail(
        &mut self,
        failure: Failure,
        mut flags: HealthFlags,
        config: &HealthCheck,
    ) -> (HealthFlags, Transition) {
        self.good = 0;
        let mut transition = Transition::Unchanged;
        if !flags.has(HealthFlags::FAILED_CHECK) {
            if failure.counts_only() {
                self.bad = self.bad.saturating_add(1);
            }
            if !failure.counts_only() || self.bad == config.unhealthy_threshold {
                flags = flags.with(HealthFlags::FAILED_CHECK);
                transition = Transition::Changed;
            } else {
                transition = Transition::Pending;
            }
        }
        if matches!(
            failure,
            Failure::Answer { excludes: true, .. } | Failure::Passive
        ) {
            flags = flags.with(HealthFlags::EXCLUDED);
        }
        let is_slow = failure == Failure::Timeout && flags.has(HealthFlags::FAILED_CHECK);
        (flags.set(HealthFlags::TIMED_OUT, is_slow), transition)
    }
}

/// How long to wait after a check; `random` is fresh. Whether it went well counts, not what is said of
/// the host.
pub fn wait(
    config: &HealthCheck,
    (went_well, transition): (bool, Transition),
    had_traffic: bool,
    random: u64,
) -> Duration {
    let is_edge = transition == Transition::Pending;
    let base = match (had_traffic, went_well, is_edge) {
        (false, true, false) => config.no_traffic_healthy_interval,
        (false, ..) => config.no_traffic_interval,
        (true, true, false) => config.interval,
        (true, true, true) => config.healthy_edge_interval,
        (true, false, false) => config.unhealthy_interval,
        (true, false, true) => config.unhealthy_edge_interval,
    };
    jittered(config, base, config.interval_jitter, random)
}

/// Checks of many hosts that fall due within one part in so many of their wait, or half of that, are made
/// together: waking up for each costs more than to ask.
const ROUNDS: u32 = 100;

/// The shortest round. Longer ones are this, doubled so often, so that waits that differ by a jitter, and
/// clusters that differ in their intervals, meet.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// To ten seconds.
const DOUBLINGS_MAX: u32 = 10;

/// A shorter wait is kept exactly.
const ROUNDED_MIN: Duration = Duration::from_secs(1);

/// When a check is made that is to wait from `now` on; both count from when its thread began.
pub fn due(now: Duration, wait: Duration) -> Duration {
    let due = now.saturating_add(wait);
    if wait < ROUNDED_MIN {
        return due;
    }
    let most = (wait / ROUNDS).as_millis() / ROUND_MIN.as_millis(); // 1 or more
    let round = ROUND_MIN * (1 << most.ilog2().min(DOUBLINGS_MAX));
    let over = due.as_nanos() % round.as_nanos();
    match u64::try_from(over) {
        Ok(over @ 1..) => due.saturating_add(round.saturating_sub(Duration::from_nanos(over))),
        _ => due,
    }
}

/// How long to wait before the first check.
pub fn first_wait(config: &HealthCheck, random: u64) -> Duration {
    match config.initial_jitter.as_millis() {
        0 => Duration::ZERO,
        _ => jittered(config, Duration::ZERO, config.initial_jitter, random),
    }
}

fn jittered(config: &HealthCheck, base: Duration, jitter: Duration, random: u64) -> Duration {
    let below = |most: u128, random: u64| match u64::try_from(most).unwrap_or(u64::MAX) {
        0 => Duration::ZERO,
        most => Duration::from_millis(random % most),
    };
    let percent = base.as_millis() * u128::from(config.interval_jitter_percent) / 100;
    let longer = below(percent, random) + below(jitter.as_millis(), random.rotate_left(32));
    // Never none, or it would be a busy loop.
    base.saturating_add(longer).max(Duration::from_millis(1))
}
