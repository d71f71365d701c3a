//! The connections of one worker to one host.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls_pki_types::UnixTime;
use tokio::time::Instant;

use crate::config;
use crate::config::limits;
use crate::downstream::Downstream;
use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::http::codec;
use crate::http::codec::Http2Sender;
use crate::http::codec::Protocol;
use crate::net::tls::Facts;
use crate::net::tls::facts::Presented;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::connect::Connected;
use crate::upstream::connect::Open;
use crate::upstream::connect::Purpose;
use crate::upstream::connect::Vintage;
use crate::upstream::connect::connect;
use crate::upstream::pool::lease::Http1Lease;
use crate::upstream::pool::lease::Http2Lease;
use crate::upstream::pool::lease::Lease;
use crate::upstream::pool::lease::Sender;
use crate::upstream::servers::Servers;

/// Offered in TLS, unless the cluster's context says otherwise.
const HTTP1: &[&[u8]] = &[b"http/1.1"];
const HTTP2: &[&[u8]] = &[b"h2"];
const EITHER: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The connections to one host; if the host of a request makes a difference, those for one of them.
#[derive(Debug)]
pub(super) struct HostPool {
    config: Arc<config::Cluster>,
    stats: Arc<ClusterStats>,
    host: Arc<Host>,
    servers: Servers,
    request_host: Option<Rc<str>>,
    /// What ALPN agreed on last, where it decides.
    agreed: Cell<Option<Protocol>>,
    pub(super) counts: Arc<HostCounts>,
    /// The one used last is at the end, so that the rest can grow old and go.
    http1: RefCell<Vec<Http1Connection>>,
    http2: RefCell<Vec<Rc<Http2Connection>>>,
    /// When the first certificate ends that either side showed on them, in seconds since 1970.
    end: Cell<i64>,
    /// Who uses it since the last era of the host began.
    users: RefCell<DrainSignal>,
    era: Cell<u32>,
    /// Those of earlier eras, and when they are cut.
    leaving: RefCell<Vec<(Instant, DrainSignal)>>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one.
    connecting: tokio::sync::Mutex<()>,
}

/// An HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Http1Connection {
    pub(super) sender: Sender,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Arc<Facts>>,
    _open: Open,
    born: Instant,
    idle_since: Instant,
    served: u32,
    pub(super) vintage: Vintage,
    /// Those that use it, to be ended when the drain time of the host is over.
    pub(super) users: DrainSignal,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Http2Connection {
    sender: Http2Sender,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Arc<Facts>>,
    pub(super) streams: Cell<u32>,
    served: Cell<u32>,
    born: Instant,
    used: Cell<Instant>,
    pub(super) vintage: Vintage,
    /// Those that use it, to be ended when the drain time of the host is over.
    pub(super) users: DrainSignal,
}

impl HostPool {
    pub(super) fn new(
        config: Arc<config::Cluster>,
        stats: Arc<ClusterStats>,
        (host, servers): (Arc<Host>, Servers),
        counts: Arc<HostCounts>,
        request_host: Option<Rc<str>>,
    ) -> Self {
        Self {
            config,
            stats,
            counts,
            era: Cell::new(host.era()),
            users: RefCell::default(),
            leaving: RefCell::default(),
            host,
            servers,
            request_host,
            agreed: Cell::new(None),
            http1: RefCell::default(),
            http2: RefCell::default(),
            end: Cell::new(i64::MAX),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// An idle HTTP/1 connection whose last exchange ended cleanly.
    pub(super) fn idle_http1(pool: &Rc<Self>) -> Option<Http1Lease> {
        let mut idle = pool.http1.borrow_mut();
        let mut connection = loop {
            let last = idle.pop()?;
            if last.sender.is_ready() && pool.is_current(last.vintage) {
                break last;
            }
        };
        connection.served += 1;
        Some(Http1Lease {
            pool: Rc::clone(pool),
            connection,
            reused: true,
        })
    }

    /// A new connection, or with HTTP/2 one that somebody else has just made; without `protocol` ALPN
    /// decides what is spoken on it.
    pub(super) async fn connect(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
        client: &Downstream,
    ) -> Result<Lease, ConnectFailure> {
        match protocol {
            Some(Protocol::Http1) => {
                let connected = pool.open(Some(client), HTTP1).await?;
                return Ok(Lease::Http1(Self::begin_http1(pool, connected)));
            }
            None if pool.agreed.get() != Some(Protocol::Http2) => {
                return Self::agree(pool).await; // a burst may make several HTTP/2 connections
            }
            Some(Protocol::Http2) | None => {}
        }
        if let Some(lease) = pool.free_stream(true) {
            return Ok(Lease::Http2(lease));
        }
        let _connecting = pool.connecting.lock().await;
        if let Some(lease) = pool.free_stream(true) {
            return Ok(Lease::Http2(lease)); // somebody else made it while we waited
        }
        if protocol.is_none() {
            return Self::agree(pool).await;
        }
        let connected = pool.open(None, HTTP2).await?; // shared by clients
        Self::begin_http2(pool, connected).await.map(Lease::Http2)
    }

    /// A new connection on which ALPN decides.
    async fn agree(pool: &Rc<Self>) -> Result<Lease, ConnectFailure> {
        let connected = pool.open(None, EITHER).await?;
        let tls = connected.tls.as_ref();
        let is_http2 = tls.is_some_and(|tls| tls.speaks_http2() == Some(true));
        if is_http2 {
            pool.agreed.set(Some(Protocol::Http2));
            return Self::begin_http2(pool, connected).await.map(Lease::Http2);
        }
        pool.agreed.set(Some(Protocol::Http1));
        Ok(Lease::Http1(Self::begin_http1(pool, connected)))
    }

    fn begin_http1(pool: &Rc<Self>, connected: Connected) -> Http1Lease {
        let Connected {
            stream,
            tls,
            vintage,
        } = connected;
        pool.note_end(tls.as_ref());
        pool.stats.upstream_cx_http1_total().inc();
        let now = Instant::now();
        let connection = Http1Connection {
            local: stream.local_address(),
            tls,
            sender: Sender::new(stream),
            _open: Open::enter(&pool.stats, &pool.counts),
            born: now,
            idle_since: now,
            served: 1,
            vintage,
            users: pool.users.borrow().clone(),
        };
        Http1Lease {
            pool: Rc::clone(pool),
            connection,
            reused: false,
        }
    }

    async fn begin_http2(
        pool: &Rc<Self>,
        connected: Connected,
    ) -> Result<Http2Lease, ConnectFailure> {
        let Connected {
            stream,
            tls,
            vintage,
        } = connected;
        let local = stream.local_address();
        let (sender, connection) = codec::connect_http2(stream, &pool.config.http2)
            .await
            .map_err(|error| ConnectFailure::new(&error.to_string()))?;
        pool.note_end(tls.as_ref());
        pool.stats.upstream_cx_http2_total().inc();
        let asked = pool.servers.enter(&pool.host, tls.as_ref());
        pool.drive(connection, asked);
        let now = Instant::now();
        pool.http2.borrow_mut().push(Rc::new(Http2Connection {
            sender,
            local,
            tls,
            streams: Cell::new(0),
            served: Cell::new(0),
            born: now,
            used: Cell::new(now),
            vintage,
            users: pool.users.borrow().clone(),
        }));
        let lease = pool.free_stream(false);
        lease.ok_or_else(|| ConnectFailure::new("the connection ended at once"))
    }

    /// A stream on an open HTTP/2 connection.
    pub(super) fn free_stream(&self, reused: bool) -> Option<Http2Lease> {
        let mut connections = self.http2.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let streams_max = self.config.http2.max_concurrent_streams;
        let served_max = self.config.max_requests_per_connection.unwrap_or(u32::MAX);
        let has_room = |c: &&Rc<Http2Connection>| {
            c.streams.get() < streams_max && c.served.get() < served_max && !self.is_too_old(c.born)
        };
        let connection = if reused {
            let mut usable = connections.iter().filter(has_room);
            usable.find(|c| self.is_current(c.vintage))
        } else {
            connections.last().filter(has_room) // just made, if perhaps not of the latest secrets
        }?;
        connection.streams.set(connection.streams.get() + 1);
        connection
            .served
            .set(connection.served.get().saturating_add(1));
        connection.used.set(Instant::now());
        Some(Http2Lease {
            connection: Rc::clone(connection),
            sender: connection.sender.clone(),
            counts: Arc::clone(&self.counts),
            reused,
        })
    }

    /// Takes back an HTTP/1 connection whose response was read to its end.
    pub(super) fn put_back(&self, mut connection: Http1Connection) {
        let spent = self
            .config
            .max_requests_per_connection
            .is_some_and(|max| connection.served >= max);
        // A connection that told who its client is belongs to that client.
        if spent
            || self.host.transport.names_client()
            || self.is_too_old(connection.born)
            || !self.is_current(connection.vintage)
            || !connection.sender.is_ready()
        {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.http1.borrow_mut();
        if idle.len() >= limits::IDLE_UPSTREAM_PER_HOST {
            idle.remove(0);
        }
        idle.push(connection);
    }

    /// Closes what is too old; false if the whole pool can go.
    pub(super) fn housekeep(&self, now: Instant) -> bool {
        if self.host.is_removed() {
            self.close_idle();
            return self.is_used(); // those that are still on it may have to be cut
        }
        self.close_ended();
        let fresh = |since: Instant| self.config.idle_timeout.is_none_or(|max| now - since < max);
        let may_stay = |born, vintage| !self.is_too_old(born) && self.is_current(vintage);
        self.http1
            .borrow_mut()
            .retain(|c| fresh(c.idle_since) && c.sender.is_ready() && may_stay(c.born, c.vintage));
        self.http2.borrow_mut().retain(|c| {
            let busy = c.streams.get() > 0;
            !c.sender.is_closed() && (busy || fresh(c.used.get())) && may_stay(c.born, c.vintage) // streams still open hold their connection
        });
        // Clients choose the hosts of requests, so what is for one goes as soon as it is empty.
        self.request_host.is_none()
            || !self.http1.borrow().is_empty()
            || !self.http2.borrow().is_empty()
    }

    /// Takes note of the certificates of a new connection, unless they may have ended already.
    fn note_end(&self, tls: Option<&Arc<Facts>>) {
        let Some(tls) = tls else { return };
        let end = tls.peer.as_ref().map_or(i64::MAX, Presented::end);
        let end = if end > unix_now() { end } else { i64::MAX };
        let end = end.min(tls.shown_until());
        self.end.set(self.end.get().min(end));
    }

    /// Nothing more is sent on connections of which one has outlived its certificate; they mostly have
    /// the same.
    fn close_ended(&self) {
        if self.end.get() != i64::MAX && self.end.get() < unix_now() {
            self.close_idle();
            self.end.set(i64::MAX);
        }
    }

    fn close_idle(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear(); // streams still open hold their connection
    }

    fn is_used(&self) -> bool {
        let leaving = self.leaving.borrow();
        self.users.borrow().alive() > 0 || leaving.iter().any(|(_, users)| users.alive() > 0)
    }

    /// A place among those that use a connection made now.
    pub(super) fn user(&self) -> DrainGuard {
        self.users.borrow().guard()
    }

    /// Closes what does nothing if the host has begun another era, and knows when to cut the rest.
    pub(super) fn follow_host(&self) {
        let era = self.host.era();
        if self.era.replace(era) == era {
            return;
        }
        self.close_idle();
        if let Some(cut_at) = self.host.cut_at() {
            let users = self.users.take();
            self.leaving.borrow_mut().push((cut_at, users));
        }
    }

    /// When those are to be cut that leave first.
    pub(super) fn next_cut(&self) -> Option<Instant> {
        let leaving = self.leaving.borrow();
        leaving.iter().map(|(cut_at, _)| *cut_at).min()
    }

    /// Ends what uses the host though its time is over.
    pub(super) fn cut(&self, now: Instant) {
        let is_due = |(cut_at, _): &mut (Instant, DrainSignal)| *cut_at <= now;
        let due: Vec<_> = self.leaving.borrow_mut().extract_if(.., is_due).collect();
        due.iter().for_each(|(_, users)| users.start()); // wakes tasks, which come here when they run
    }

    /// It was made with the secrets of now, as who the peer must be may be another since, and the host
    /// has not left, nor was it found unfit, which may have been the connection's fault.
    fn is_current(&self, vintage: Vintage) -> bool {
        vintage == Vintage::now(&self.host)
    }

    fn is_too_old(&self, born: Instant) -> bool {
        self.config
            .max_connection_duration
            .is_some_and(|max| born.elapsed() >= max)
    }

    async fn open(
        &self,
        client: Option<&Downstream>,
        alpn: &'static [&'static [u8]],
    ) -> Result<Connected, ConnectFailure> {
        let purpose = Purpose {
            client,
            request_host: self.request_host.as_deref(),
            alpn,
        };
        let host = (&*self.host, &*self.counts);
        connect(&self.config, &self.stats, host, purpose).await
    }

    /// Runs an HTTP/2 connection as a task of its own; it ends when the sender is dropped and the peer
    /// has its answer, or when the peer closes.
    /// One that was asked to finish has the usual time for it.
    fn drive<F>(&self, connection: F, asked: Option<DrainGuard>)
    where
        F: Future<Output = Result<(), codec::Error>> + 'static,
    {
        let open = Open::enter(&self.stats, &self.counts);
        tokio::task::spawn_local(async move {
            let result = tokio::select! {
                result = connection => result,
                () = cut(asked) => Ok(()),
            };
            drop(open);
            if let Err(error) = result {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
    }
}

/// Some time after it was asked for; never, if nobody can ask.
async fn cut(asked: Option<DrainGuard>) {
    let Some(mut asked) = asked else {
        return std::future::pending().await;
    };
    asked.draining().await;
    tokio::time::sleep(limits::DRAIN_TIME).await;
}

fn unix_now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}
