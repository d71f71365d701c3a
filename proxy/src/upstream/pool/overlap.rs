//! When we show another certificate, connections on which we showed the old one are not used again. Closed
//! at once they would all be made anew by the requests that miss them, in one burst of handshakes. So they
//! are replaced one after the other first, and serve as long as that takes, a second at most. Where whom
//! we trust has changed there is no such time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::connect::Vintage;
use crate::upstream::pool::host_pool::HTTP1;
use crate::upstream::pool::host_pool::HostPool;
use crate::upstream::pool::host_pool::Http1Connection;

/// The longest time an old certificate is of use after a rotation; dozens of handshakes take less.
const OVERLAP_MAX: Duration = Duration::from_secs(1);

/// Over this time they are spread, so that requests find the processors free between them.
const SPREAD: Duration = Duration::from_millis(500);

/// Of one pool.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// The generation of the secrets that is being replaced.
    old: Cell<u32>,
    /// None while there is none.
    until: Cell<Option<Instant>>,
}

impl HostPool {
    /// Whether an HTTP/1 connection may serve: it is current, or about to be replaced.
    pub(super) fn may_serve(&self, vintage: Vintage) -> bool {
        let now = Vintage::now(&self.host);
        vintage == now || self.is_being_replaced(vintage, now)
    }

    fn is_being_replaced(&self, vintage: Vintage, now: Vintage) -> bool {
        let until = self.overlap.until.get();
        until.is_some_and(|until| Instant::now() < until)
            && vintage.secrets() == self.overlap.old.get()
            && self.differs_by_what_we_show(vintage, now)
    }

    fn differs_by_what_we_show(&self, vintage: Vintage, now: Vintage) -> bool {
        vintage.secrets().checked_add(1) == Some(now.secrets())
            && vintage.with_secrets_of(now) == now
            && self.host.transport.only_shows_another(vintage.secrets())
    }

    /// Begins to replace what is idle, so many besides this one, which may not serve any more; false if that
    /// is not because of a rotation, or it was begun before.
    pub(super) fn begin_overlap(pool: &Rc<Self>, vintage: Vintage, idle: usize) -> bool {
        let overlap = &pool.overlap;
        let is_begun = overlap.until.get().is_some() && overlap.old.get() == vintage.secrets();
        if is_begun || !pool.differs_by_what_we_show(vintage, Vintage::now(&pool.host)) {
            return false;
        }
        let until = Instant::now() + OVERLAP_MAX;
        overlap.old.set(vintage.secrets());
        overlap.until.set(Some(until));
        // It ends by itself, as it is replaced by another one or its time is over.
        tokio::task::spawn_local(replace(Rc::clone(pool), vintage.secrets(), idle));
        true
    }

    /// Makes a connection in place of one that is idle; false if there is none, or it could not be made.
    async fn replace_one(&self) -> bool {
        let Some(old) = self.take_old() else {
            return false;
        };
        drop(old); // its place among the connections of the cluster is for the new one
        let Ok(permit) = self.breakers.try_connection(&self.host, self.priority) else {
            return false;
        };
        match self.open(None, HTTP1).await {
            Ok(connected) => {
                self.put_back(self.http1_connection(connected, permit));
                true
            }
            Err(_) => false, // requests will tell
        }
    }

    fn take_old(&self) -> Option<Http1Connection> {
        let now = Vintage::now(&self.host);
        let mut idle = self.http1.borrow_mut();
        let place = idle.iter().position(|one| one.vintage != now)?;
        Some(idle.remove(place))
    }

    fn end_overlap(&self) {
        self.overlap.until.set(None);
        let now = Vintage::now(&self.host);
        self.http1.borrow_mut().retain(|one| one.vintage == now);
    }
}

/// Replaces so many idle connections of these secrets.
async fn replace(pool: Rc<HostPool>, old: u32, idle: usize) {
    let until = pool.overlap.until.get().unwrap_or_else(Instant::now);
    let is_on = || pool.overlap.old.get() == old;
    let pause = SPREAD / u32::try_from(idle.max(1)).unwrap_or(u32::MAX);
    let all = async {
        for _ in 0..idle {
            if !is_on() || !pool.replace_one().await {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    };
    let _ = tokio::time::timeout_at(until, all).await; // what is left goes
    if is_on() {
        pool.end_overlap();
    }
}
