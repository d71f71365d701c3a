//! What came of the requests of the last while, in steps, written by all workers without a lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Steps of a window: it is forgotten a tenth at a time.
pub(super) const STEPS: u64 = CELLS as u64;
const CELLS: usize = 10;

/// Bits of each of the three counts of a step; what is left says which step it is.
const BITS: u32 = 14;
const COUNT_MAX: u64 = (1 << BITS) - 1;

/// A sliding window. Each step is one word, so that a step that begins anew and its counts are never seen
/// apart.
#[derive(Debug, Default)]
pub(super) struct Window {
    cells: [AtomicU64; CELLS],
    /// The latest step in which a request failed or was slow, and one more.
    bad: AtomicU64,
}

/// Requests of a window or of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were slow.
    pub slow: u64,
}

impl Counts {
    fn of(word: u64) -> Self {
        let count = |place: u32| (word >> (BITS * place)) & COUNT_MAX;
        Self {
            requests: count(0),
            failed: count(1),
            slow: count(2),
        }
    }

    fn word(self, step: u64) -> u64 {
        let mut counts = self;
        if counts.requests > COUNT_MAX {
            // Half of each: shares stay, and no count that opens a breaker is as large.
            counts.requests /= 2;
            counts.failed /= 2;
            counts.slow /= 2;
        }
        (step << (3 * BITS))
            | (counts.slow << (2 * BITS))
            | (counts.failed << BITS)
            | counts.requests
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

/// Which step a word is of; numbers that far apart are the same.
fn step_of(word: u64) -> u64 {
    word >> (3 * BITS)
}

const STEP_MASK: u64 = (1 << (64 - 3 * BITS)) - 1;

impl Window {
    /// One more request, in the step of now.
    pub(super) fn add(&self, step: u64, failed: bool, slow: bool) {
        let Some(cell) = self.cells.get((step % STEPS) as usize) else {
            return;
        };
        if failed || slow {
            self.bad.fetch_max(step + 1, Ordering::Relaxed);
        }
        let step = step & STEP_MASK;
        let one = 1 | (u64::from(failed) << BITS) | (u64::from(slow) << (2 * BITS));
        let mut word = cell.load(Ordering::Relaxed);
        loop {
            let is_current = step_of(word) == step;
            let new = if is_current && word & COUNT_MAX < COUNT_MAX {
                word + one // no count is larger than that of all
            } else {
                let mut counts = Counts::of(if is_current { word } else { 0 });
                counts.add(Counts::of(one));
                counts.word(step)
            };
            match cell.compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }

    /// All of the last [`STEPS`] steps.
    pub(super) fn sum(&self, step: u64) -> Counts {
        let mut sum = Counts::default();
        for cell in &self.cells {
            let word = cell.load(Ordering::Relaxed);
            let age = step.wrapping_sub(step_of(word)) & STEP_MASK;
            if age < STEPS {
                sum.add(Counts::of(word));
            }
        }
        sum
    }

    /// Whether one of the last [`STEPS`] steps may have had a request that failed or was slow.
    pub(super) fn has_bad(&self, step: u64) -> bool {
        let bad = self.bad.load(Ordering::Relaxed);
        bad > 0 && bad + STEPS > step
    }

    /// Nothing is known any more.
    pub(super) fn clear(&self) {
        for cell in &self.cells {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_steps_are_forgotten_one_by_one() {
        let window = Window::default();
        for step in 100..115 {
            window.add(step, step % 2 == 0, step % 5 == 0);
        }
        let expected = Counts {
            requests: 10,
            failed: 5,
            slow: 2,
        };
        assert_eq!(window.sum(114), expected);
        assert_eq!(window.sum(118).requests, 6);
        assert_eq!(window.sum(124), Counts::default());
        window.add(114, false, false);
        assert_eq!(window.sum(114).requests, 11);
        window.clear();
        assert_eq!(window.sum(114), Counts::default());
    }

    #[test]
    fn more_than_a_step_can_count_keeps_its_shares() {
        let window = Window::default();
        for at in 0..100_000 {
            window.add(7, at % 4 == 0, at % 10 == 0);
        }
        let sum = window.sum(7);
        assert!(sum.requests > COUNT_MAX / 3 && sum.requests <= COUNT_MAX);
        assert!(
            (sum.failed * 4).abs_diff(sum.requests) < sum.requests / 20,
            "{sum:?}"
        );
        assert!(
            (sum.slow * 10).abs_diff(sum.requests) < sum.requests / 20,
            "{sum:?}"
        );
    }

    #[test]
    fn no_request_of_any_thread_is_lost() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|at| window.add(3, at % 2 == 0, false)));
            }
        });
        let sum = window.sum(3);
        assert_eq!((sum.requests, sum.failed), (4000, 2000));
    }
}
