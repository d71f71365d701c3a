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

use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::config::limits;
use crate::config::overload::Action;
pub use manager::Manager;

/// In full force.
const FULL: u32 = 1 << 16;

/// How strongly each action is taken right now, and how much may be held.
#[derive(Debug)]
pub struct Loads {
    strengths: [AtomicU32; Action::ALL.len()],
    held_max: AtomicUsize,
}

impl Default for Loads {
    fn default() -> Self {
        Self {
            strengths: Default::default(),
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
        let strength = self.strength(action);
        strength != 0 && (strength >= FULL || fastrand::u32(..FULL) < strength)
    }

    /// Whether the action is in full force.
    pub fn is_full(&self, action: Action) -> bool {
        self.strength(action) >= FULL
    }

    fn strength(&self, action: Action) -> u32 {
        let cell = self.strengths.get(action.place());
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Between 0 and 1.
    fn set(&self, action: Action, strength: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at most FULL"
        )]
        let strength = (strength.clamp(0.0, 1.0) * f64::from(FULL)) as u32;
        if let Some(cell) = self.strengths.get(action.place()) {
            cell.store(strength, Ordering::Relaxed);
        }
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
            loads.set(action, strength);
            (0..10_000).filter(|_| loads.hits(action)).count()
        };
        assert_eq!((hits(0.0), hits(1.0)), (0, 10_000));
        assert!((2000..3000).contains(&hits(0.25)));
        assert!(!loads.is_full(action));
        assert!(!loads.hits(Action::ShrinkHeap), "each is its own");
    }
}
