//! Connections of earlier secrets are not used again, so after a rotation every request would find none
//! and make one: a burst of handshakes that delays all others. Instead few are made at once, more with
//! each that stands, and whoever waits for a turn takes a connection that comes free before.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::codec::Protocol;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::pool::host_pool::HostPool;
use crate::upstream::pool::lease::Lease;

/// Connections made at once at first. It doubles with each that stands.
const FIRST: u32 = 1;

/// When so many may be made at once the burst is over: each has served requests meanwhile, and a worker
/// makes few handshakes at the same time anyway.
const ENOUGH: u32 = 32;

/// Of one pool.
#[derive(Debug)]
pub(super) struct Renewal {
    /// How many may be made at once.
    limit: Cell<u32>,
    making: Cell<u32>,
    waiting: Cell<u32>,
    changed: Notify,
}

/// Leave to make a connection, while it lives.
#[derive(Debug)]
pub(super) struct Turn<'a>(Option<&'a Renewal>);

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
            limit: Cell::new(ENOUGH),
            making: Cell::new(0),
            waiting: Cell::new(0),
            changed: Notify::new(),
        }
    }
}

impl Renewal {
    /// A connection of earlier secrets was found.
    pub(super) fn begin(&self) {
        if self.is_over() {
            self.limit.set(FIRST);
        }
    }

    /// A connection has come free.
    pub(super) fn tell(&self) {
        if self.waiting.get() > 0 {
            self.changed.notify_one();
        }
    }

    fn is_over(&self) -> bool {
        self.limit.get() >= ENOUGH
    }

    fn turn(&self) -> Option<Turn<'_>> {
        if self.is_over() {
            return Some(Turn(None));
        }
        let making = self.making.get();
        (making < self.limit.get()).then(|| {
            self.making.set(making + 1);
            Turn(Some(self))
        })
    }
}

impl Turn<'_> {
    /// The connection stands.
    pub(super) fn made(self) {
        if let Some(renewal) = self.0 {
            renewal.limit.set(renewal.limit.get().saturating_mul(2));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(renewal) = self.0 {
            renewal.making.set(renewal.making.get() - 1);
            if renewal.waiting.get() > 0 {
                renewal.changed.notify_waiters();
            }
        }
    }
}

/// One that waits, while it lives.
struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn enter(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
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
        if let Some(turn) = renewal.turn() {
            return Ok(Next::Make(turn));
        }
        let _waiting = Waiting::enter(&renewal.waiting);
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
