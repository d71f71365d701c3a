//! What is done when memory, processors or connections run short, in the terms of Envoy's overload
//! manager, and a watch over workers that no longer answer.
//!
//! The control side looks at resources and writes how strongly each action is taken; workers read one
//! number where they would do something, and never wait.
//!
//! | file | holds |
//! |---|---|
//! | `held` | bytes held for clients, and who gives them back first |
//! | `manager` | from pressure to action |
//! | `monitor` | how much of a resource is used |
//! | `watchdog` | workers that do not answer |

pub mod held;
mod manager;
mod monitor;
pub mod watchdog;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::limits;
use crate::config::overload::Action;
use crate::config::overload::Least;
use crate::config::overload::ShedPoint;
use crate::config::overload::Timeout;
use crate::telemetry::stats::ShedPointStats;
pub use manager::Manager;

/// In full force.
const FULL: u32 = 1 << 16;

/// How strongly each action is taken right now, where load is shed, and how much may be held.
#[derive(Debug)]
pub struct Loads {
    actions: [Strength; Action::ALL.len()],
    /// A bit for each point where load is shed now: the usual answer takes one look.
    shedding: AtomicU32,
    points: [Point; ShedPoint::ALL.len()],
    /// What is left of timeouts, if they are ever reduced.
    timeouts: OnceLock<[Option<Least>; Timeout::ALL.len()]>,
    held_max: AtomicUsize,
}

/// How strongly something is done.
#[derive(Debug, Default)]
struct Strength(AtomicU32);

#[derive(Debug, Default)]
struct Point {
    strength: Strength,
    stats: OnceLock<Arc<ShedPointStats>>,
}

impl Default for Loads {
    fn default() -> Self {
        Self {
            actions: Default::default(),
            shedding: AtomicU32::new(0),
            points: Default::default(),
            timeouts: OnceLock::new(),
            held_max: AtomicUsize::new(limits::HELD_BYTES_TOTAL),
        }
    }
}

impl Loads {
    /// Bytes that may be held for all clients of the process.
    pub fn held_max(&self) -> usize {
        self.held_max.load(Ordering::Relaxed)
    }

    /// The process has so much memory.
    fn bound(&self, memory_bytes: u64) {
        let part = usize::try_from(memory_bytes / limits::HELD_SHARE_OF_MEMORY);
        let most = part.unwrap_or(usize::MAX).min(limits::HELD_BYTES_TOTAL);
        self.held_max.store(most, Ordering::Relaxed);
    }

    /// Whether the action is taken in this case; of a part of all cases if it is not in full force.
    #[inline]
    pub fn hits(&self, action: Action) -> bool {
        self.action(action).is_some_and(Strength::hits)
    }

    /// Whether the action is in full force.
    pub fn is_full(&self, action: Action) -> bool {
        let strength = self.action(action).map_or(0, Strength::get);
        strength >= FULL
    }

    /// Whether load is shed here in this case, which is counted then.
    #[inline]
    pub fn sheds(&self, point: ShedPoint) -> bool {
        self.may_shed(point) && self.does_shed(point)
    }

    /// Whether load is shed here in some cases.
    #[inline]
    pub fn may_shed(&self, point: ShedPoint) -> bool {
        self.shedding.load(Ordering::Relaxed) & bit(point) != 0
    }

    #[cold]
    fn does_shed(&self, point: ShedPoint) -> bool {
        let point = self.points.get(point.place());
        point.is_some_and(|point| point.strength.hits() && point.count())
    }

    /// Sheds there so strongly from now on.
    fn shed(&self, point: ShedPoint, strength: f64) {
        if let Some(known) = self.points.get(point.place()) {
            known.strength.set(strength);
        }
        if strength > 0.0 {
            self.shedding.fetch_or(bit(point), Ordering::Relaxed);
        } else {
            self.shedding.fetch_and(!bit(point), Ordering::Relaxed);
        }
    }

    /// What is left of a timeout right now.
    #[inline]
    pub fn reduced(&self, timeout: Timeout, max: Duration) -> Duration {
        let strength = self.action(Action::ReduceTimeouts).map_or(0, Strength::get);
        if strength == 0 {
            return max;
        }
        let least = self
            .timeouts
            .get()
            .and_then(|all| *all.get(timeout.place())?);
        let strength = f64::from(strength) / f64::from(FULL);
        least.map_or(max, |least| least.of(max, strength))
    }

    /// Whether timeouts are reduced at times: who waits for the end of one is to be woken when they change.
    pub fn reduces_timeouts(&self) -> bool {
        self.timeouts.get().is_some()
    }

    fn action(&self, action: Action) -> Option<&Strength> {
        self.actions.get(action.place())
    }
}

const fn bit(point: ShedPoint) -> u32 {
    1 << point.place()
}

impl Strength {
    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn hits(&self) -> bool {
        let strength = self.get();
        strength != 0 && (strength >= FULL || fastrand::u32(..FULL) < strength)
    }

    /// Between 0 and 1.
    fn set(&self, strength: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at most FULL"
        )]
        let strength = (strength.clamp(0.0, 1.0) * f64::from(FULL)) as u32;
        self.0.store(strength, Ordering::Relaxed);
    }
}

impl Point {
    /// Always true.
    fn count(&self) -> bool {
        if let Some(stats) = self.stats.get() {
            stats.shed_load_count().inc();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_hits_as_often_as_it_is_strong() {
        let loads = Loads::default();
        let action = Action::StopAcceptingRequests;
        let hits = |strength| {
            loads.action(action).unwrap().set(strength);
            (0..10_000).filter(|_| loads.hits(action)).count()
        };
        assert_eq!((hits(0.0), hits(1.0)), (0, 10_000));
        assert!((2000..3000).contains(&hits(0.25)));
        assert!(!loads.is_full(action));
        assert!(!loads.hits(Action::ShrinkHeap), "each is its own");
    }

    #[test]
    fn timeouts_get_as_short_as_they_may() {
        let loads = Loads::default();
        let (long, short) = (Duration::from_secs(600), Duration::from_secs(1));
        let reduced = |strength| {
            let action = loads.action(Action::ReduceTimeouts);
            action.unwrap().set(strength);
            let of = |timeout, max| loads.reduced(timeout, max).as_secs_f64();
            (
                of(Timeout::ConnectionIdle, long),
                of(Timeout::ConnectionIdle, short),
                of(Timeout::StreamIdle, long),
                of(Timeout::ConnectionMax, long),
            )
        };
        assert_eq!(reduced(1.0), (600.0, 1.0, 600.0, 600.0), "none is known");
        let some = [
            Some(Least::Time(Duration::from_secs(2))),
            None,
            None,
            Some(Least::Part(0.1)),
            None,
        ];
        loads.timeouts.set(some).unwrap();
        assert_eq!(reduced(0.0), (600.0, 1.0, 600.0, 600.0));
        // 2 s + 598 s / 4, and 60 s + 540 s / 4.
        assert_eq!(reduced(0.75), (151.5, 1.0, 195.0, 600.0));
        assert_eq!(reduced(1.0), (2.0, 1.0, 60.0, 600.0));
        assert!(loads.reduces_timeouts());
    }
}
