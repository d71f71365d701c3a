//! How many requests have begun within a window that moves on (`RetryBudget.budget_interval`).
//!
//! The window is cut into slots. Any thread counts into the slot of now, which forgets what it held when its
//! turn comes again; nobody waits. A request is forgotten up to one slot too early.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

/// A request is forgotten up to three percent of the window too early, and a look is cheap.
const SLOTS: u8 = 32;

/// The slots of one window.
#[derive(Debug)]
pub(super) struct Recent {
    began: Instant,
    /// Nanoseconds of a slot; 0 while nothing is counted.
    width: AtomicU64,
    slots: [AtomicU64; SLOTS as usize],
}

/// What a slot holds: how many it counted, and for which turn; turns are counted from 1.
#[derive(Clone, Copy, Debug)]
struct Slot {
    turn: u32,
    count: u32,
}

impl Slot {
    fn pack(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.count)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn unpack(packed: u64) -> Self {
        Self {
            turn: (packed >> 32) as u32,
            count: packed as u32,
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            width: AtomicU64::new(0),
            slots: Default::default(),
        }
    }
}

impl Recent {
    /// The window is so long from now on. Another window begins empty.
    pub(super) fn configure(&self, window: Option<Duration>) {
        let nanos = window.map_or(0, |window| window.as_nanos() / u128::from(SLOTS));
        let width = u64::try_from(nanos).unwrap_or(u64::MAX);
        let width = if window.is_some() { width.max(1) } else { 0 };
        if self.width.swap(width, Ordering::Relaxed) != width {
            for slot in &self.slots {
                slot.store(0, Ordering::Relaxed);
            }
        }
    }

    /// One more request begins.
    pub(super) fn count(&self) {
        let Some((turn, slot)) = self.now().and_then(|turn| Some((turn, self.slot(turn)?))) else {
            return;
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let slot = Slot::unpack(packed);
            let count = if slot.turn == turn { slot.count } else { 0 };
            let count = count.saturating_add(1);
            Some(Slot { turn, count }.pack())
        }); // it always finds a value
    }

    /// Those that have begun within the window; none if nothing is counted.
    pub(super) fn sum(&self) -> Option<u64> {
        let now = self.now()?;
        let slots = self.slots.iter();
        let slots = slots.map(|slot| Slot::unpack(slot.load(Ordering::Relaxed)));
        let counts = slots.filter(|slot| u64::from(now.wrapping_sub(slot.turn)) < u64::from(SLOTS));
        Some(counts.map(|slot| u64::from(slot.count)).sum())
    }

    /// The turn of now. After four thousand million of them they begin anew, which a slot of a millisecond
    /// does after fifty days; what is left in it from then is no more than it once held.
    fn now(&self) -> Option<u32> {
        let passed = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let turn = passed.checked_div(self.width.load(Ordering::Relaxed))?;
        #[expect(clippy::cast_possible_truncation, reason = "turns begin anew")]
        let turn = (turn + 1) as u32;
        Some(turn)
    }

    fn slot(&self, turn: u32) -> Option<&AtomicU64> {
        let place = usize::try_from(u64::from(turn) % u64::from(SLOTS)).ok()?;
        self.slots.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn requests_count_for_as_long_as_the_window_is() {
        let recent = Recent::default();
        recent.count();
        assert_eq!(recent.sum(), None, "nothing is counted");
        recent.configure(Some(SECOND));
        let count = |times: usize| (0..times).for_each(|_| recent.count());
        count(10);
        tokio::time::advance(SECOND / 2).await;
        count(5);
        assert_eq!(recent.sum(), Some(15));
        tokio::time::advance(SECOND / 100 * 46).await;
        assert_eq!(recent.sum(), Some(15), "0.96 s later");
        tokio::time::advance(SECOND / 100 * 4).await;
        assert_eq!(recent.sum(), Some(5));
        tokio::time::advance(SECOND * 100).await;
        assert_eq!(recent.sum(), Some(0));
        count(1);
        assert_eq!(recent.sum(), Some(1), "a slot forgets what it held");
        recent.configure(Some(SECOND * 2));
        assert_eq!(recent.sum(), Some(0), "another window");
        recent.configure(None);
        assert_eq!(recent.sum(), None);
    }

    #[test]
    fn none_is_lost_between_threads() {
        let recent = Recent::default();
        recent.configure(Some(SECOND * 600));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| recent.count()));
            }
        });
        assert_eq!(recent.sum(), Some(40_000));
    }
}
