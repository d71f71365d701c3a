//! What workers tell of one host's answers: failures in a row, and successes among all.
//!
//! Failures in a row are numbers all workers share, as Envoy has them: a host that fails every worker's
//! requests is found as soon as one that fails those of one. While all is well they are only read.
//! Everything else is counted in cells with one writer.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::TryLockError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::health::OutlierDetection;
use crate::config::limits;
use crate::error::Reason;
use crate::upstream::health::timeline::FailedRequest;
use crate::upstream::health::timeline::Kind;
use crate::upstream::host::HostCount;

/// Stands for a request that got no answer in time.
const TIMED_OUT: u16 = 504;

/// Stands for a host that was not reached, or broke off.
const NOT_REACHED: u16 = 503;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was answered, with this status.
    Answered(u16),
    /// There is a connection, and what comes over it is told apart.
    Connected,
    /// There is a connection, and that is all there is to tell.
    Served,
    /// It did not get an answer in time, or no connection.
    TimedOut,
    /// No connection, or it broke.
    Unreached,
}

impl Report {
    /// What a connection that did not come about says.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::ConnectTimeout => Self::TimedOut,
            _ => Self::Unreached,
        }
    }
}

/// One worker's counts of one host. Only that worker writes them.
#[derive(Debug, Default)]
pub struct Tally {
    total: HostCount,
    good: HostCount,
    local_total: HostCount,
    local_good: HostCount,
}

/// The same of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Answers, and what stands for them.
    pub external: Sum,
    /// Attempts to reach the host.
    pub local: Sum,
}

/// Successes among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// All.
    pub total: u64,
    /// Successes.
    pub good: u64,
}

impl Tally {
    /// Adds what is here.
    pub(in crate::upstream) fn add_to(&self, sums: &mut Sums) {
        let add = |sum: &mut Sum, total: &HostCount, good: &HostCount| {
            sum.total = sum.total.wrapping_add(total.value());
            sum.good = sum.good.wrapping_add(good.value());
        };
        // A success is counted last, so it is read first: there are never more of them.
        add(&mut sums.external, &self.total, &self.good);
        add(&mut sums.local, &self.local_total, &self.local_good);
    }

    fn count(&self, is_local: bool, is_good: bool) {
        let (total, good) = if is_local {
            (&self.local_total, &self.local_good)
        } else {
            (&self.total, &self.good)
        };
        total.inc();
        if is_good {
            good.inc();
        }
    }
}

impl Sum {
    /// What came since `before`.
    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Self {
        let total = self.total.saturating_sub(before.total);
        let good = self.good.saturating_sub(before.good);
        Self {
            total,
            // The cells are not read at one moment.
            good: good.min(total),
        }
    }
}

/// What all workers share of one host.
#[derive(Debug, Default)]
pub struct Streaks {
    fives: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    /// One bit for each kind that reached its count.
    tripped: AtomicU8,
    failed: Mutex<VecDeque<(Instant, FailedRequest)>>,
}

/// Kinds that are found in a row, with their bits.
pub(super) const IN_A_ROW: [(u8, Kind); 3] = [
    (1, Kind::Consecutive5xx),
    (2, Kind::ConsecutiveGateway),
    (4, Kind::ConsecutiveLocalOrigin),
];

impl Streaks {
    /// Takes in what became of an attempt; says whether somebody must look. Called by the worker whose
    /// `tally` it is.
    pub(in crate::upstream::health) fn take(
        &self,
        config: &OutlierDetection,
        tally: &Tally,
        report: Report,
        id: Option<&[u8]>,
    ) -> bool {
        let is_split = config.splits_local_origin;
        let (status, is_local) = match report {
            Report::Answered(status) => (status, false),
            Report::TimedOut => (TIMED_OUT, true),
            Report::Unreached => (NOT_REACHED, true),
            Report::Connected if is_split => return self.reached(tally),
            Report::Connected => return false,
            Report::Served if is_split => return self.reached(tally),
            Report::Served => (200, false),
        };
        if status >= 500 {
            self.remember(status, is_local, id);
        }
        if is_local && is_split {
            tally.count(true, false);
            return self.trip(4, &self.local, config.consecutive_local_origin.count);
        }
        self.answered(config, tally, status)
    }

    fn reached(&self, tally: &Tally) -> bool {
        tally.count(true, true);
        reset(&self.local);
        false
    }

    fn answered(&self, config: &OutlierDetection, tally: &Tally, status: u16) -> bool {
        let is_failure = (500..600).contains(&status);
        tally.count(false, !is_failure);
        if !is_failure {
            reset(&self.fives);
            reset(&self.gateway);
            return false;
        }
        let mut trips = false;
        if (502..=504).contains(&status) {
            trips |= self.trip(2, &self.gateway, config.consecutive_gateway.count);
        } else {
            reset(&self.gateway);
        }
        trips | self.trip(1, &self.fives, config.consecutive_5xx.count)
    }

    /// One more in a row; says whether that makes as many as are allowed.
    fn trip(&self, bit: u8, streak: &AtomicU32, count: u32) -> bool {
        let now = streak.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if now == count {
            self.tripped.fetch_or(bit, Ordering::Relaxed);
        }
        now == count
    }

    /// Keeps what failed, unless somebody else is at it: this must not wait.
    fn remember(&self, status: u16, is_local: bool, id: Option<&[u8]>) {
        let mut failed = match self.failed.try_lock() {
            Ok(failed) => failed,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if failed.len() >= limits::FAILED_REQUESTS_MAX {
            failed.pop_front();
        }
        let id = id.map(|id| id.get(..limits::FAILED_REQUEST_ID_BYTES_MAX).unwrap_or(id));
        let request = FailedRequest {
            age: Duration::ZERO,
            status,
            is_local,
            id: id.map(|id| String::from_utf8_lossy(id).into()),
        };
        failed.push_back((Instant::now(), request));
    }

    /// The kinds that reached their count since the last call.
    pub(super) fn take_tripped(&self) -> u8 {
        // Mostly there are none, and then nothing is written.
        match self.tripped.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.tripped.swap(0, Ordering::Relaxed),
        }
    }

    /// One kind is counted from the beginning.
    pub(super) fn begin_again(&self, bit: u8) {
        match bit {
            1 => reset(&self.fives),
            2 => reset(&self.gateway),
            _ => reset(&self.local),
        }
    }

    /// All kinds are.
    pub(super) fn begin_all_again(&self) {
        IN_A_ROW.iter().for_each(|(bit, _)| self.begin_again(*bit));
    }

    /// The requests because of which a rule holds, the last of them last, and forgets all that failed.
    /// `interval` is the time since all hosts were looked at.
    pub(super) fn take_failed(
        &self,
        (config, kind): (&OutlierDetection, Kind),
        (now, interval): (Instant, Duration),
    ) -> Vec<FailedRequest> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.drain(..);
        let aged = |(at, request): (Instant, FailedRequest)| FailedRequest {
            age: now.saturating_duration_since(at),
            ..request
        };
        let is_reason = |request: &FailedRequest| {
            let is_local = config.splits_local_origin && request.is_local;
            match kind {
                Kind::Consecutive5xx => !is_local && request.status < 600,
                Kind::ConsecutiveGateway => !is_local && (502..=504).contains(&request.status),
                Kind::ConsecutiveLocalOrigin => is_local,
                Kind::SuccessRate | Kind::FailurePercentage => {
                    !is_local && request.status < 600 && request.age <= interval
                }
                Kind::SuccessRateLocalOrigin | Kind::FailurePercentageLocalOrigin => {
                    is_local && request.age <= interval
                }
            }
        };
        let mut reasons: Vec<_> = failed.map(aged).filter(is_reason).collect();
        let in_a_row = match kind {
            Kind::Consecutive5xx => config.consecutive_5xx.count,
            Kind::ConsecutiveGateway => config.consecutive_gateway.count,
            Kind::ConsecutiveLocalOrigin => config.consecutive_local_origin.count,
            _ => return reasons,
        };
        let before = reasons.len().saturating_sub(in_a_row as usize);
        reasons.drain(..before); // of rows that were broken
        reasons
    }
}

fn reset(streak: &AtomicU32) {
    if streak.load(Ordering::Relaxed) != 0 {
        streak.store(0, Ordering::Relaxed);
    }
}
