//! Tasks that wait for the end of a timeout that may be reduced meanwhile. They are woken when it changes,
//! and look anew. Each worker has its own, on its thread.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::task::Context;
use std::task::Waker;

thread_local! {
    static WAITS: RefCell<Waits> = const { RefCell::new(Waits::new()) };
}

/// Places of tasks; those that are free hold none, and are filled first.
#[derive(Debug)]
struct Waits {
    places: Vec<Option<Waker>>,
    free: Vec<NonZeroU32>,
}

impl Waits {
    const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    fn enter(&mut self, waker: Waker) -> Option<Wait> {
        if let Some(number) = self.free.pop() {
            *self.place(number)? = Some(waker);
            return Some(Wait(number));
        }
        self.places.push(Some(waker));
        let number = u32::try_from(self.places.len()).ok()?;
        NonZeroU32::new(number).map(Wait)
    }

    /// Places are counted from one.
    fn place(&mut self, number: NonZeroU32) -> Option<&mut Option<Waker>> {
        self.places.get_mut(number.get() as usize - 1)
    }
}

/// A task is woken when timeouts change, until this is dropped.
#[derive(Debug)]
pub struct Wait(NonZeroU32);

impl Wait {
    /// Wakes the task of `cx` from now on. None if there are as many as can be counted.
    pub fn enter(cx: &Context<'_>) -> Option<Self> {
        WAITS.with_borrow_mut(|waits| waits.enter(cx.waker().clone()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // At the end of the thread there may be no list any more.
        let waker = WAITS.try_with(|waits| {
            let mut waits = waits.borrow_mut();
            let waker = waits.place(self.0).and_then(Option::take);
            waits.free.push(self.0);
            waker
        });
        drop(waker); // once nothing is borrowed: it may be the last that holds its task
    }
}

/// Timeouts have changed: has every task of this worker look anew that waits for the end of one.
pub fn wake_all() {
    WAITS.with_borrow(|waits| waits.places.iter().flatten().for_each(Waker::wake_by_ref));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_waits_is_woken() {
        let woken = [(); 3].map(|()| Arc::<Woken>::default());
        let enter = |place: usize| {
            let waker = Waker::from(Arc::clone(&woken[place]));
            Wait::enter(&Context::from_waker(&waker))
        };
        let times = || [0, 1, 2].map(|place: usize| woken[place].0.load(Ordering::Relaxed));
        let (first, second) = (enter(0), enter(1));
        wake_all();
        drop(first);
        wake_all();
        let third = enter(2);
        wake_all();
        assert_eq!(times(), [1, 3, 1]);
        drop((second, third));
        wake_all();
        assert_eq!(times(), [1, 3, 1]);
        WAITS.with_borrow(|waits| assert_eq!(waits.places.len(), 2, "places are used again"));
    }
}
