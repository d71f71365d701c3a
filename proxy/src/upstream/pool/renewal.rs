//! Connections of earlier secrets are not used again, so after a rotation every request would find none
//! and make one: a burst of handshakes that delays all others. Instead one is made at a time, and whoever
//! waits takes a connection that comes free before. Where that is not enough, because somebody waited all
//! the time that a connection took, twice as many are made at once.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::codec::Protocol;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::pool::host_pool::HostPool;
use crate::upstream::pool::lease::Lease;

/// When so many may be made at once there is no limit any more: a worker makes few handshakes at the same
/// time anyway.
const ENOUGH: u32 = 32;

/// How long that goes on. A pool has what it needs by then, and a burst of requests is none of handshakes
/// alone.
const PERIOD: Duration = Duration::from_secs(10);

/// Of one pool.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The secrets that connections were found not to be of.
    secrets: Cell<u32>,
    /// Since when there is a limit; none if there is not.
    since: Cell<Option<Instant>>,
    /// How many may be made at once.
    limit: Cell<u32>,
    making: Cell<u32>,
    /// Those that wait, by the order in which they came.
    waiting: RefCell<BTreeSet<u64>>,
    /// How many they are.
    queued: Cell<u32>,
    next: Cell<u64>,
    changed: Notify,
}

/// Leave to make a connection, while it lives.
#[derive(Debug)]
pub(super) struct Turn<'a>(Option<Begun<'a>>);

#[derive(Debug)]
struct Begun<'a> {
    renewal: &'a Renewal,
    /// Who waits from now on has a number that is not below.
    before: u64,
}

/// What a request got.
pub(super) enum Next<'a> {
    /// A connection that has come free.
    Free(Lease),
    /// Leave to make one.
    Make(Turn<'a>),
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            secrets: Cell::new(0),
            since: Cell::new(None),
            limit: Cell::new(1),
            making: Cell::new(0),
            waiting: RefCell::default(),
            queued: Cell::new(0),
            next: Cell::new(0),
            changed: Notify::new(),
        }
    }
}

impl Renewal {
    /// A connection was found that is of earlier secrets than these.
    pub(super) fn begin(&self, secrets: u32) {
        if self.secrets.replace(secrets) != secrets {
            self.since.set(Some(Instant::now()));
            self.limit.set(1);
        }
    }

    /// A connection has come free.
    pub(super) fn tell(&self) {
        if self.has_waiting() {
            self.changed.notify_one();
        }
    }

    /// Whether what comes free is for those that wait already: without that they would wait on while others
    /// come and go.
    pub(super) fn has_waiting(&self) -> bool {
        self.queued.get() > 0
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let is_over = |since: Instant| self.limit.get() >= ENOUGH || since.elapsed() >= PERIOD;
        if self.since.get().is_none_or(is_over) {
            self.since.set(None);
            return Some(Turn(None));
        }
        let making = self.making.get();
        (making < self.limit.get()).then(|| {
            self.making.set(making + 1);
            Turn(Some(Begun {
                renewal: self,
                before: self.next.get(),
            }))
        })
    }

    /// A connection stands whose making began when those with numbers below `before` waited already.
    fn made(&self, before: u64) {
        let waiting = self.waiting.borrow();
        if waiting.first().is_some_and(|oldest| *oldest < before) {
            self.limit.set(self.limit.get().saturating_mul(2));
        }
    }
}

impl Turn<'_> {
    /// The connection stands.
    pub(super) fn made(self) {
        if let Some(begun) = &self.0 {
            begun.renewal.made(begun.before);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(Begun { renewal, .. }) = self.0 {
            renewal.making.set(renewal.making.get() - 1);
            let free = renewal.limit.get().saturating_sub(renewal.making.get());
            (0..free).for_each(|_| renewal.tell());
        }
    }
}

/// One that waits, while it lives.
struct Waiting<'a>(&'a Renewal, u64);

impl<'a> Waiting<'a> {
    fn enter(renewal: &'a Renewal) -> Self {
        let number = renewal.next.get();
        renewal.next.set(number + 1);
        renewal.waiting.borrow_mut().insert(number);
        renewal.queued.set(renewal.queued.get() + 1);
        Self(renewal, number)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
        self.0.queued.set(self.0.queued.get() - 1);
    }
}

impl HostPool {
    /// Leave to make a connection, or one that comes free before.
    ///
    /// # Errors
    /// There was none until `deadline`.
    ///
    /// # Cancel safety
    /// Nothing is held while it waits.
    pub(super) async fn turn(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
        deadline: Instant,
    ) -> Result<Next<'_>, ConnectFailure> {
        let renewal = &pool.renewal;
        if !renewal.has_waiting()
            && let Some(turn) = renewal.turn()
        {
            return Ok(Next::Make(turn));
        }
        let _waiting = Waiting::enter(renewal);
        loop {
            let mut changed = pin!(renewal.changed.notified());
            changed.as_mut().enable();
            match Self::idle(pool, protocol) {
                Ok(Some(lease)) => return Ok(Next::Free(lease)),
                Ok(None) => {}
                Err(_) => return Err(ConnectFailure::too_many_requests()),
            }
            if let Some(turn) = renewal.turn() {
                return Ok(Next::Make(turn));
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => return Err(ConnectFailure::timed_out()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(renewal: &Renewal, most: usize) -> Vec<Turn<'_>> {
        (0..most).map_while(|_| renewal.turn()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn more_are_made_at_once_only_if_somebody_waited_all_the_time_one_took() {
        let renewal = Renewal::default();
        assert_eq!(turns(&renewal, 99).len(), 99, "nothing was rotated");
        renewal.begin(1);
        let first = renewal.turn().expect("the first");
        assert!(renewal.turn().is_none());
        let waiting = Waiting::enter(&renewal);
        first.made();
        let second = turns(&renewal, 9).pop().expect("one after it");
        drop(second); // it failed
        let third = turns(&renewal, 9).pop().expect("one after it");
        third.made();
        renewal.begin(1);
        let two = turns(&renewal, 9);
        assert_eq!(two.len(), 2);
        let _later = Waiting::enter(&renewal);
        drop(waiting);
        two.into_iter().for_each(Turn::made);
        assert_eq!(turns(&renewal, 9).len(), 2, "what comes free is enough");
        renewal.begin(2);
        assert_eq!(turns(&renewal, 9).len(), 1, "it begins anew");
        tokio::time::advance(PERIOD).await;
        assert_eq!(turns(&renewal, 99).len(), 99, "it is over");
    }
}
