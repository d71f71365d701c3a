//! A count with a limit, exact for all threads.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// So many may be inside.
///
/// One compare-exchange lets in, one subtraction lets out, and the count is never above the limit, not
/// even for a moment: were it raised first and taken back, somebody else could be refused while there
/// is room.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: AtomicU32,
    max: AtomicU32,
}

impl Gate {
    pub(super) fn new(max: u32) -> Self {
        Self {
            inside: AtomicU32::new(0),
            max: AtomicU32::new(max),
        }
    }

    /// Another limit from now on. Those who are inside stay, even if they are too many now.
    pub(super) fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// One more, if there is room.
    pub(super) fn enter(&self) -> bool {
        self.enter_below(self.max.load(Ordering::Relaxed))
    }

    /// One more, if there are fewer than `max`.
    pub(super) fn enter_below(&self, max: u32) -> bool {
        let mut inside = self.inside.load(Ordering::Relaxed);
        while inside < max {
            // In one order with the count of those who wait, see `Waiters`; on x86 it costs nothing.
            let entered = self.inside.compare_exchange_weak(
                inside,
                inside + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            match entered {
                Ok(_) => return true,
                Err(found) => inside = found,
            }
        }
        false
    }

    /// One more, whether there is room or not.
    pub(super) fn force(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    /// One less.
    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Its limit.
    pub(super) fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Whether one more would be let in.
    pub(super) fn has_room(&self) -> bool {
        self.inside() < self.max()
    }

    /// How many are inside.
    pub(super) fn inside(&self) -> u32 {
        self.inside.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::Gate;

    /// Threads that come and go; what each holds is counted beside the gate, later and earlier than the
    /// gate itself counts, so that this count is never more than what is inside.
    fn crowd(max: u32, threads: u32, rounds: u32) -> (u32, u32, u32) {
        let gate = Gate::new(max);
        let (held, most, entered) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        if gate.enter() {
                            let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            entered.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            held.fetch_sub(1, Ordering::SeqCst);
                            gate.leave();
                        }
                    }
                });
            }
        });
        (most.into_inner(), entered.into_inner(), gate.inside())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn never_more_than_the_limit_and_nobody_is_forgotten(
            max in 0_u32..6, threads in 1_u32..6, rounds in 1_u32..100
        ) {
            let (most, entered, left) = crowd(max, threads, rounds);
            prop_assert!(most <= max, "{most} of {max}");
            prop_assert_eq!(left, 0);
            prop_assert_eq!(entered > 0, max > 0);
            if threads <= max {
                prop_assert_eq!(entered, threads * rounds, "refused while there was room");
            }
        }
    }

    #[test]
    fn the_limit_is_reached_and_can_be_moved() {
        let gate = Gate::new(2);
        assert!(gate.enter() && gate.enter() && !gate.enter());
        gate.set_max(1);
        gate.leave();
        assert!(!gate.enter() && !gate.has_room());
        gate.set_max(3);
        assert!(gate.enter() && gate.enter() && !gate.enter());
        gate.force();
        assert_eq!(gate.inside(), 4);
    }
}
