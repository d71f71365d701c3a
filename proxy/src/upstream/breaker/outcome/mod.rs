//! A breaker that opens when too many requests were slow or failed
//! (`weir.circuit_breaking.v1.OutcomeBreaker`).
//!
//! While it is closed a request costs it a load, and a compare-exchange when its outcome is known, and ten
//! loads more if there was a bad one of late. Only what is rare, a change of state and requests that try, takes its lock, which workers hold for
//! a few instructions and nobody else for longer.
//!
//! | file | holds |
//! |---|---|
//! | `machine` | closed, open, half-open; no clock, no lock |
//! | `window` | what came of the requests of the last while |

mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::outcome_breaker::OutcomeBreaker;
pub use machine::Cause;
use machine::Machine;
pub use machine::State;
pub use window::Counts;
use window::STEPS;
use window::Window;

/// The lock need not be taken: all pass.
const CLOSED: u64 = 0;

/// One breaker, of a cluster or of a member.
#[derive(Debug)]
pub struct Breaker {
    /// Its times are since then.
    born: Instant,
    config: Arc<OutcomeBreaker>,
    window: Window,
    /// Of the window, in nanoseconds.
    step: u64,
    machine: Mutex<Machine>,
    /// [`CLOSED`], or until when all are refused, in milliseconds and one more, and in two bits why.
    refuses: AtomicU64,
    /// The machine's, for those that pass without its lock.
    era: AtomicU32,
    refused: AtomicU64,
}

/// A request that passed, until its outcome is known. Dropped without, it was given up.
#[derive(Debug)]
pub struct Ticket {
    breaker: Arc<Breaker>,
    era: u32,
    /// It tries, and nothing is known yet.
    is_probe: bool,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Closed, open or half-open.
    pub state: State,
    /// Why it opened last.
    pub cause: Option<Cause>,
    /// What it saw then.
    pub seen: Counts,
    /// What it sees now.
    pub counts: Counts,
    /// How often it opened.
    pub opened: u64,
    /// Requests it refused.
    pub refused: u64,
}

impl Breaker {
    /// Closed, with nothing known.
    pub fn new(config: Arc<OutcomeBreaker>) -> Self {
        Self::since(Instant::now(), config)
    }

    /// The same for a member of its cluster.
    pub(super) fn of_member(&self) -> Self {
        Self::since(self.born, Arc::clone(&self.config))
    }

    /// Whether it is one that was made so.
    pub(super) fn goes_with(&self, of_cluster: &Self) -> bool {
        Arc::ptr_eq(&self.config, &of_cluster.config) && self.born == of_cluster.born
    }

    fn since(born: Instant, config: Arc<OutcomeBreaker>) -> Self {
        let step = config.window / u32::try_from(STEPS).unwrap_or(1);
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        Self {
            born,
            config,
            window: Window::default(),
            step: step.max(1),
            machine: Mutex::new(Machine::new()),
            refuses: AtomicU64::new(CLOSED),
            era: AtomicU32::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// How long it has been there at this moment.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// Its settings.
    pub const fn config(&self) -> &Arc<OutcomeBreaker> {
        &self.config
    }

    /// Lets a request pass now; what time it is mostly does not matter.
    ///
    /// # Errors
    /// It is refused, because of this.
    #[inline]
    pub fn admit(self: Arc<Self>, now: Instant) -> Result<Ticket, Cause> {
        match self.refuses.load(Ordering::Acquire) {
            CLOSED => {
                let era = self.era.load(Ordering::Acquire);
                Ok(Ticket::new(self, era, false))
            }
            word => self.admit_to_try(word, now),
        }
    }

    #[inline(never)]
    fn admit_to_try(self: Arc<Self>, word: u64, now: Instant) -> Result<Ticket, Cause> {
        let now = self.age(now);
        if let Some(cause) = refused(word, now) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(cause);
        }
        let mut machine = self.machine();
        if machine.admit(&self.config, now) {
            let is_probe = machine.state != State::Closed;
            self.publish(&machine);
            let era = machine.era;
            drop(machine);
            return Ok(Ticket::new(self, era, is_probe));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(machine.cause.unwrap_or(Cause::Probe))
    }

    /// How it stands.
    pub fn report(&self, now: Duration) -> Report {
        let counts = self.window.sum(self.step(now));
        let machine = self.machine();
        Report {
            state: machine.state,
            cause: machine.cause,
            seen: machine.seen,
            counts,
            opened: machine.opened,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// What came of one that tried.
    fn end_probe(&self, era: u32, is_good: bool, now: Duration) {
        let mut machine = self.machine();
        if machine.era == era {
            machine.probed(&self.config, is_good, now);
            if machine.state == State::Closed {
                self.window.clear(); // what was before is over
            }
            self.publish(&machine);
        }
    }

    #[inline]
    fn end(&self, era: u32, (failed, slow): (bool, bool), now: Duration) {
        if self.era.load(Ordering::Acquire) != era {
            return; // it began before the last change
        }
        let step = self.step(now);
        self.window.add(step, failed, slow);
        if self.window.has_bad(step) {
            self.look(era, step, now); // else nothing opens it
        }
    }

    /// Opens if it saw too much.
    #[inline(never)]
    fn look(&self, era: u32, step: u64, now: Duration) {
        let seen = self.window.sum(step);
        let Some(cause) = machine::cause(&self.config, seen) else {
            return;
        };
        let mut machine = self.machine();
        if machine.state == State::Closed && machine.era == era {
            machine.seen = seen;
            machine.open(&self.config, cause, now);
            self.publish(&machine);
        }
    }

    fn publish(&self, machine: &Machine) {
        let cause = machine.cause.map_or(0, |cause| cause as u64);
        let word = match machine.state {
            State::Closed => CLOSED,
            State::HalfOpen { .. } => (1 << 2) | cause, // who may pass only the machine knows
            State::Open { until } => ((millis(until) + 1) << 2) | cause,
        };
        self.era.store(machine.era, Ordering::Release);
        self.refuses.store(word, Ordering::Release);
    }

    fn step(&self, now: Duration) -> u64 {
        let seconds = now.as_secs().saturating_mul(1_000_000_000); // half a millennium fits
        seconds.saturating_add(now.subsec_nanos().into()) / self.step
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why all are refused at this time, if they are.
fn refused(word: u64, now: Duration) -> Option<Cause> {
    let cause = Cause::ALL.get((word & 3) as usize).copied();
    cause.filter(|_| millis(now) < (word >> 2) - 1)
}

/// Rounded down; half a billion years are enough.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(u64::MAX >> 3, |millis| millis.min(u64::MAX >> 3))
}

impl Ticket {
    const fn new(breaker: Arc<Breaker>, era: u32, is_probe: bool) -> Self {
        Self {
            breaker,
            era,
            is_probe,
        }
    }

    /// Whose it is.
    pub const fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// Its response has begun after this time, or it failed.
    #[inline]
    pub fn end(mut self, failed: bool, took: impl Fn() -> Duration, now: Duration) {
        let breaker = &*self.breaker;
        let slow = breaker.config.slow.as_ref();
        let slow = slow.is_some_and(|rule| took() > rule.slower_than);
        if std::mem::take(&mut self.is_probe) {
            breaker.end_probe(self.era, !failed && !slow, now);
        } else {
            breaker.end(self.era, (failed, slow), now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_probe {
            let mut machine = self.breaker.machine();
            if machine.era == self.era {
                machine.gave_up();
            }
        }
    }
}
