//! A deadline that moves often and passes rarely.
//!
//! Re-arming a timer for each request costs a visit to the runtime's wheel. This one leaves the
//! sleep where it is while the deadline only moves later, and looks again when it fires. Sleeps are
//! kept per worker and used again by the next exchange.

pub mod waits;

use std::cell::RefCell;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::time::Instant;
use tokio::time::Sleep;

use waits::Wait;

/// Sleeps kept per worker: as many as exchanges that usually run at once; the rest is freed.
const SPARE_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Pin<Box<Sleep>>>> = const { RefCell::new(Vec::new()) };
}

/// A deadline that can be moved at no cost. Belongs to one task.
#[derive(Debug, Default)]
pub struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The sleep holds this task's waker.
    is_registered: bool,
    /// The task is woken, too, when timeouts change.
    wait: Option<Wait>,
}

impl LazyTimer {
    /// Has the task of `cx`, to which it belongs, woken whenever timeouts change because of overload.
    pub fn heed_changes(&mut self, cx: &Context<'_>) {
        if self.wait.is_none() {
            self.wait = Wait::enter(cx);
        }
    }

    /// Ready once `deadline` has passed. The deadline may differ from call to call.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| take_spare(deadline));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        } else if self.is_registered && !sleep.is_elapsed() {
            return Poll::Pending; // it will wake us, and nothing is due before
        }
        self.is_registered = true;
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

fn take_spare(deadline: Instant) -> Pin<Box<Sleep>> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline)))
}

impl Drop for LazyTimer {
    fn drop(&mut self) {
        let Some(sleep) = self.sleep.take() else {
            return;
        };
        // The thread's spares are gone already when the thread itself ends.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(sleep);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn elapsed(timer: &mut LazyTimer, deadline: Instant) {
        std::future::poll_fn(|cx| timer.poll_until(deadline, cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn fires_at_its_deadline_wherever_the_sleep_stood() {
        let start = Instant::now();
        let mut timer = LazyTimer::default();
        elapsed(&mut timer, start + Duration::from_secs(1)).await;
        elapsed(&mut timer, start + Duration::from_secs(5)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(timer);
        let mut reused = LazyTimer::default();
        elapsed(&mut reused, start + Duration::from_secs(7)).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_is_kept() {
        let start = Instant::now();
        let mut timer = LazyTimer::default();
        let far = start + Duration::from_secs(60);
        let pending =
            std::future::poll_fn(|cx| Poll::Ready(timer.poll_until(far, cx).is_pending())).await;
        assert!(pending);
        elapsed(&mut timer, start + Duration::from_secs(2)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
