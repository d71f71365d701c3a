//! What the exchanges of one connection share, and what is counted of it.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tokio::time::Instant;

use super::Client;
use super::HttpManager;
use super::Reach;
use crate::config::overload::Action;
use crate::config::overload::ShedPoint;
use crate::config::overload::Timeout;
use crate::downstream::Downstream;
use crate::http::codec;
use crate::http::codec::IoFacts;
use crate::http::codec::Protocol;
use crate::http::exchange;
use crate::http::headers;
use crate::http::headers::Peer;
use crate::http::http1::decode::Violation;
use crate::overload::Loads;
use crate::overload::held::OfConnection;
use crate::worker::WorkerContext;

/// What a connection carried, for its listener's access logs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// Bytes from the client, heads and all.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// What was spoken, if there was a request.
    pub protocol: Option<Version>,
    /// The client broke the protocol.
    pub is_broken: bool,
}

/// What the exchanges of one connection share.
#[derive(Debug)]
pub struct Connection {
    /// The connection manager it belongs to.
    pub manager: Arc<HttpManager>,
    /// The worker it lives on.
    pub worker: Rc<WorkerContext>,
    /// Its addresses.
    pub downstream: Downstream,
    /// Its address as forwarding headers want it.
    pub peer: Peer,
    /// What is spoken.
    pub protocol: Protocol,
    /// None where all hosts are alike.
    reach: Option<Box<dyn Reach>>,
    /// What its streams hold.
    pub held: Rc<OfConnection>,
    /// What reduces its timeouts, if anything ever does.
    pub reducing: Option<Arc<Loads>>,
    pub(super) active: Cell<u32>,
    pub(super) served: Cell<u32>,
    pub(super) idle_since: Cell<Instant>,
    pub(super) closing: Cell<bool>,
    /// It ends after its exchanges because of overload.
    shed: Cell<bool>,
    /// It ends at once, and what it brought is nobody's business.
    cut_off: Cell<bool>,
    /// Bytes that had come when it was last looked at.
    seen: Cell<u64>,
    /// Bytes either way, once it is closing.
    pub(super) moved: Cell<u64>,
    /// Its exchange looks after a client that takes nothing.
    pub(super) is_watched: Cell<bool>,
    pub(super) born: Instant,
    pub(super) facts: Rc<IoFacts>,
    /// Bytes that the statistics know of.
    told: Cell<(u64, u64)>,
}

impl Connection {
    /// One that has begun at `born`, and nothing was asked on it.
    pub(super) fn new(
        (worker, manager): (Rc<WorkerContext>, &Arc<HttpManager>),
        ((downstream, reach), held): (Client, Rc<OfConnection>),
        protocol: Protocol,
        (born, facts): (Instant, &Rc<IoFacts>),
    ) -> Rc<Self> {
        let loads = worker.shared_loads();
        let is_reduced = !manager.allowance.ignores_overload && loads.reduces_timeouts();
        let reducing = is_reduced.then(|| Arc::clone(loads));
        Rc::new(Self {
            reducing,
            peer: peer_of(&downstream),
            worker,
            downstream,
            protocol,
            reach,
            held,
            active: Cell::new(0),
            served: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            closing: Cell::new(false),
            shed: Cell::new(false),
            cut_off: Cell::new(false),
            seen: Cell::new(0),
            moved: Cell::new(0),
            is_watched: Cell::new(false),
            born,
            facts: Rc::clone(facts),
            told: Cell::default(),
            manager: Arc::clone(manager),
        })
    }

    /// An exchange begins.
    pub fn enter(&self) {
        self.active.set(self.active.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
        if !self.closing.get() && self.is_hit_by(Action::DisableKeepalive) {
            let stats = &self.manager.stats;
            stats.downstream_cx_overload_disable_keepalive().inc();
            self.shed();
        }
        if self.sheds(ShedPoint::GoAway) {
            self.shed();
        }
        if self
            .manager
            .config
            .max_requests_per_connection
            .is_some_and(|max| self.served.get() >= max)
        {
            self.manager
                .stats
                .downstream_cx_max_requests_reached()
                .inc();
            self.closing.set(true);
        }
    }

    /// An exchange has ended.
    pub fn leave(&self, now: Instant) {
        self.active.set(self.active.get() - 1);
        self.is_watched.set(false);
        self.idle_since.set(now);
    }

    /// Whether its exchange looks after its client of HTTP/1, which takes nothing; else it does itself.
    pub fn watch(&self, is_watched: bool) {
        self.is_watched.set(is_watched);
    }

    /// Whether a request for `authority` may come over it (security case T3).
    pub fn includes(&self, authority: &str) -> bool {
        self.reach.as_ref().is_none_or(|reach| {
            let host = headers::host_without_port(authority);
            reach.includes(&self.downstream, host)
        })
    }

    /// The rule of HTTP/1 the client broke, if any.
    pub fn violation(&self) -> Option<Violation> {
        self.facts.violation.get()
    }

    /// Whether it ends after its exchanges because of overload.
    pub fn is_shed(&self) -> bool {
        self.shed.get()
    }

    fn shed(&self) {
        self.shed.set(true);
        self.closing.set(true);
    }

    /// Whether this is done to it because of overload.
    pub fn is_hit_by(&self, action: Action) -> bool {
        !self.manager.allowance.ignores_overload && self.worker.loads().hits(action)
    }

    /// Whether load is shed here because of overload.
    pub fn sheds(&self, point: ShedPoint) -> bool {
        let loads = self.worker.loads(); // first, because it mostly is the answer
        loads.may_shed(point) && !self.manager.allowance.ignores_overload && loads.sheds(point)
    }

    /// Whether it ends at once because it brought a request: over HTTP/1 that is looked at before the
    /// connection is.
    pub fn is_cut_off(&self) -> bool {
        if self.protocol == Protocol::Http1 && self.sheds(ShedPoint::GoAwayAndClose) {
            self.cut_off.set(true);
        }
        self.cut_off.get()
    }

    /// Whether it ends at once because it brought something since it was last asked.
    pub(super) fn is_cut_off_now(&self) -> bool {
        if self.protocol == Protocol::Http2 {
            let received = self.facts.received.get();
            if self.seen.replace(received) != received && self.sheds(ShedPoint::GoAwayAndClose) {
                self.cut_off.set(true);
            }
        }
        self.cut_off.get()
    }

    /// Its part, between 0 and 1, of what is another random time for each connection.
    pub(super) fn part(&self) -> f64 {
        // Fibonacci hashing: ids that follow each other are far apart.
        let hash = self
            .downstream
            .connection_id
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_precision_loss, reason = "a part of random times")]
        let part = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }

    /// How long to wait right now.
    pub(super) fn reduced(&self, timeout: Timeout, max: Duration) -> Duration {
        match &self.reducing {
            Some(loads) => loads.reduced(timeout, max),
            None => max,
        }
    }

    /// Closes the connection once its exchanges have ended.
    pub fn close(&self) {
        self.closing.set(true);
    }
}

impl Connection {
    pub(super) fn carried(&self, is_broken: bool) -> Carried {
        let version = match self.protocol {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        Carried {
            received: self.facts.received.get(),
            sent: self.facts.sent.get(),
            protocol: (self.served.get() > 0).then_some(version),
            is_broken,
        }
    }

    /// Tells the statistics what has moved since the last time.
    pub(super) fn tell_bytes(&self) {
        let (received, sent) = (self.facts.received.get(), self.facts.sent.get());
        let told = self.told.replace((received, sent));
        let stats = &self.manager.stats;
        stats.downstream_cx_rx_bytes_total().add(received - told.0);
        stats.downstream_cx_tx_bytes_total().add(sent - told.1);
    }

    /// Whether the client broke the protocol.
    pub(super) fn ended_with(&self, error: &codec::Error) -> bool {
        let violation = self.facts.violation.get();
        let is_broken = violation.is_some() || error.kind() == codec::ErrorKind::Protocol;
        if is_broken {
            self.manager.stats.downstream_cx_protocol_error().inc();
        }
        // Elsewhere there is an exchange that tells it.
        if let Some(violation) = violation.filter(|violation| violation.in_head) {
            exchange::log_refused(self, violation);
        }
        tracing::debug!(connection = self.downstream.connection_id, %error, "downstream connection ended");
        is_broken
    }
}

/// The client's address for forwarding headers; a client on a Unix socket is this machine.
fn peer_of(downstream: &Downstream) -> Peer {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Peer::new(
        downstream.peer.unwrap_or(local),
        downstream.tls.as_ref(),
        None,
    )
}

/// Counts the connection while it is open.
pub(super) struct Counted(Rc<Connection>);

impl Counted {
    pub(super) fn enter(connection: &Rc<Connection>) -> Self {
        let stats = &connection.manager.stats;
        stats.downstream_cx_total().inc();
        stats.downstream_cx_active().inc();
        match connection.protocol {
            Protocol::Http1 => {
                stats.downstream_cx_http1_total().inc();
                stats.downstream_cx_http1_active().inc();
            }
            Protocol::Http2 => {
                stats.downstream_cx_http2_total().inc();
                stats.downstream_cx_http2_active().inc();
            }
        }
        Self(Rc::clone(connection))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stats = &self.0.manager.stats;
        stats.downstream_cx_active().dec();
        stats.downstream_cx_destroy().inc();
        match self.0.protocol {
            Protocol::Http1 => stats.downstream_cx_http1_active().dec(),
            Protocol::Http2 => stats.downstream_cx_http2_active().dec(),
        }
        self.0.tell_bytes();
    }
}
