//! The one drain primitive of a worker: a signal that asks, guards that know when everyone has gone.
//!
//! It lives on one thread, so a connection that is not draining pays one flag test per wake-up and
//! no lock. Invariant: every guard ever handed out is counted until it is dropped.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use tokio::time::Instant;

/// Asks the holders of its guards to finish, and can wait until they have.
#[derive(Clone, Debug, Default)]
pub struct DrainSignal(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    draining: Cell<bool>,
    /// When those have to be gone, if they were told.
    deadline: Cell<Option<Instant>>,
    /// One place per guard; `None` is free or not yet waiting.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    alive: Cell<usize>,
    finished: RefCell<Option<Waker>>,
}

impl DrainSignal {
    /// One more holder to wait for.
    pub fn guard(&self) -> DrainGuard {
        let shared = Rc::clone(&self.0);
        shared.alive.set(shared.alive.get() + 1);
        let key = shared.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = shared.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        DrainGuard {
            shared,
            key,
            registered: false,
        }
    }

    /// Asks everyone to finish; those who come later see it at once.
    pub fn start(&self) {
        self.0.draining.set(true);
        let wakers: Vec<Waker> = self
            .0
            .wakers
            .borrow_mut()
            .iter_mut()
            .filter_map(Option::take)
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The same, and says when they have to be gone; the first to say so counts.
    pub fn start_by(&self, deadline: Instant) {
        let known = self.0.deadline.get();
        self.0.deadline.set(known.or(Some(deadline)));
        self.start();
    }

    /// Whether nobody else has it, or a guard of it.
    pub fn is_forgotten(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Whether [`start`](Self::start) was called.
    pub fn is_draining(&self) -> bool {
        self.0.draining.get()
    }

    /// How many guards are alive.
    pub fn alive(&self) -> usize {
        self.0.alive.get()
    }

    /// Waits until no guard is alive. One waiter at a time.
    pub async fn drained(&self) {
        std::future::poll_fn(|cx| {
            if self.0.alive.get() == 0 {
                return Poll::Ready(());
            }
            *self.0.finished.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One holder; dropping it says it has finished.
#[derive(Debug)]
pub struct DrainGuard {
    shared: Rc<Shared>,
    key: usize,
    registered: bool,
}

impl DrainGuard {
    /// Whether the holder should finish.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.get()
    }

    /// When the holder has to be gone, if it was told.
    pub fn deadline(&self) -> Option<Instant> {
        self.shared.deadline.get()
    }

    /// Ready once the holder should finish. The waker of the first call is kept: a tokio task has
    /// one waker for its life.
    pub fn poll_draining(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.shared.draining.get() {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            if let Some(place) = self.shared.wakers.borrow_mut().get_mut(self.key) {
                *place = Some(cx.waker().clone());
            }
        }
        Poll::Pending
    }

    /// Waits until the holder should finish.
    pub async fn draining(&mut self) {
        std::future::poll_fn(|cx| self.poll_draining(cx)).await;
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if let Some(place) = self.shared.wakers.borrow_mut().get_mut(self.key) {
            *place = None;
        }
        self.shared.free.borrow_mut().push(self.key);
        let alive = self.shared.alive.get() - 1;
        self.shared.alive.set(alive);
        if alive == 0
            && let Some(waker) = self.shared.finished.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn waits_for_every_guard() {
        run(async {
            let signal = DrainSignal::default();
            let (first, second) = (signal.guard(), signal.guard());
            drop(first);
            assert_eq!(signal.alive(), 1);
            let mut drained = std::pin::pin!(signal.drained());
            let pending =
                std::future::poll_fn(|cx| Poll::Ready(drained.as_mut().poll(cx).is_pending()))
                    .await;
            assert!(pending, "a guard is still alive");
            drop(second);
            drained.await;
        });
    }

    #[test]
    fn a_late_guard_sees_the_signal() {
        let signal = DrainSignal::default();
        signal.start();
        assert!(signal.guard().is_draining());
    }

    #[test]
    fn wakes_a_waiting_holder() {
        run(async {
            let signal = DrainSignal::default();
            let mut guard = signal.guard();
            let wait = std::future::poll_fn(|cx| guard.poll_draining(cx));
            let start = async { signal.start() };
            tokio::join!(wait, start);
        });
    }
}
