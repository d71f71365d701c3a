//! Room for a request that found no idle connection: leave to make one, or one that comes free.
//!
//! Connections are counted for the whole process, but each belongs to one worker and one member. Who
//! finds them all taken waits here; pools that have one nobody uses are asked for it, and a pool that
//! is busy gives one up after some turns of its own, so that nobody waits for ever.

use std::pin::pin;
use std::rc::Rc;

use tokio::time::Instant;

use crate::error::Reason;
use crate::http::codec::Protocol;
use crate::upstream::breaker::ConnectionPermit;
use crate::upstream::breaker::Full;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::pool::host_pool::HostPool;
use crate::upstream::pool::lease::Lease;

/// Exchanges that a pool whose own requests wait serves one after the other before it gives a
/// connection to another pool that waits: a new connection costs a few of them.
const TURNS_MAX: u32 = 16;

/// What a request got.
#[derive(Debug)]
pub(super) enum Room {
    /// A connection that has come free.
    Free(Lease),
    /// Leave to make one.
    New(ConnectionPermit),
}

/// One of the pool's own requests that waits, while it lives.
struct Own<'a>(&'a HostPool, Full);

impl<'a> Own<'a> {
    fn enter(pool: &'a HostPool, full: Full) -> Self {
        let waiting = pool.waiting(full);
        waiting.set(waiting.get() + 1);
        Self(pool, full)
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let waiting = self.0.waiting(self.1);
        waiting.set(waiting.get() - 1);
    }
}

impl HostPool {
    /// Room for a connection on which `protocol` is spoken.
    ///
    /// # Errors
    /// There was none until `deadline`.
    ///
    /// # Cancel safety
    /// Nothing is held while it waits; whoever is next is told.
    pub(super) async fn room(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
        deadline: Instant,
    ) -> Result<Room, ConnectFailure> {
        let mut was_full = false;
        loop {
            let full = match Self::try_room(pool, protocol)? {
                Ok(room) => {
                    if was_full {
                        pool.pass_on();
                    }
                    return Ok(room);
                }
                Err(full) => full,
            };
            let is_first = !std::mem::replace(&mut was_full, true);
            let waiters = pool.breakers.waiters(full, (&pool.host, pool.priority));
            let (_waiting, _own) = (waiters.enter(), Own::enter(pool, full));
            let (mut left, mut changed) = (pin!(waiters.left()), pin!(pool.changed.notified()));
            left.as_mut().enable();
            changed.as_mut().enable();
            if is_first {
                pool.breakers.count_full();
                pool.breakers.ask();
            }
            // Once more, now that whoever leaves sees us.
            match Self::try_room(pool, protocol)? {
                Ok(room) => {
                    pool.pass_on();
                    return Ok(room);
                }
                Err(other) if other != full => continue,
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = left => {}
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => return Err(ConnectFailure::overflow()),
            }
        }
    }

    /// The outer error says that requests have a limit of their own, which is reached.
    fn try_room(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
    ) -> Result<Result<Room, Full>, ConnectFailure> {
        match Self::idle(pool, protocol) {
            Ok(Some(lease)) => Ok(Ok(Room::Free(lease))),
            Ok(None) => {
                let permit = pool.breakers.try_connection(&pool.host, pool.priority);
                Ok(permit.map(Room::New))
            }
            Err(_) => Err(ConnectFailure::too_many_requests()),
        }
    }

    /// A connection that can be used at once; of a kind that is open both are looked for.
    ///
    /// # Errors
    /// There is one, but there are too many requests.
    pub(super) fn idle(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
    ) -> Result<Option<Lease>, Reason> {
        let http1 = || Ok(Self::idle_http1(pool)?.map(Lease::Http1));
        let http2 = || Ok(Self::free_stream(pool, true)?.map(Lease::Http2));
        match protocol {
            Some(Protocol::Http1) => http1(),
            Some(Protocol::Http2) => http2(),
            None => match http2()? {
                Some(lease) => Ok(Some(lease)),
                None => http1(),
            },
        }
    }

    /// What woke one may have been meant for two.
    fn pass_on(&self) {
        self.changed.notify_one();
        if self.breakers.has_connection(self.priority) {
            let cluster = self
                .breakers
                .waiters(Full::Cluster, (&self.host, self.priority));
            cluster.wake();
        }
        self.host.room.waiters.wake();
    }

    /// Others who wait for what a connection of this pool takes.
    fn others(&self) -> u32 {
        let others = |full| {
            let all = self.breakers.waiters(full, (&self.host, self.priority));
            all.count().saturating_sub(self.waiting(full).get())
        };
        others(Full::Cluster).max(others(Full::Host))
    }

    /// Whether a connection that has come free goes to somebody else.
    pub(super) fn is_owed(&self) -> bool {
        if self.others() == 0 {
            return false;
        }
        let waits = self.waiting(Full::Cluster).get() + self.waiting(Full::Host).get() > 0;
        let turns = self.turns.get() + 1;
        let is_owed = !waits || turns >= TURNS_MAX;
        self.turns.set(if is_owed { 0 } else { turns });
        is_owed
    }

    /// A connection has come free: the first of our own who waits may look.
    pub(super) fn tell_own(&self) {
        if self.waiting(Full::Cluster).get() + self.waiting(Full::Host).get() > 0 {
            self.changed.notify_one();
        }
    }

    /// Closes connections that nobody uses, as many as others wait for.
    pub(super) fn give_up(&self) {
        let mut wanted = self.others() as usize;
        if wanted == 0 {
            return;
        }
        let mut http1 = self.http1.borrow_mut();
        let closed = http1.len().min(wanted);
        wanted -= closed;
        let closed: Vec<_> = http1.drain(..closed).collect();
        drop(http1);
        drop(closed);
        self.http2.borrow_mut().retain(|connection| {
            let goes = wanted > 0 && connection.streams.get() == 0;
            wanted -= usize::from(goes);
            !goes
        });
    }
}
