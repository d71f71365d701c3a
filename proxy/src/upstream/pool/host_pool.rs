//! The connections of one worker to one host.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config;
use crate::config::circuit_breakers::Priority;
use crate::config::limits;
use crate::config::overload::ShedPoint;
use crate::downstream::Downstream;
use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::error::Reason;
use crate::http::codec;
use crate::http::codec::Http2Sender;
use crate::http::codec::Http2Settings;
use crate::http::codec::Protocol;
use crate::net::tls::Facts;
use crate::net::tls::Tenure;
use crate::net::tls::unix_now;
use crate::overload::Loads;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::Breakers;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::breaker::ConnectionPermit;
use crate::upstream::breaker::Full;
use crate::upstream::connect::Begun;
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
use crate::upstream::pool::lease::Slot;
use crate::upstream::pool::overlap::Overlap;
use crate::upstream::pool::room::Room;
use crate::upstream::pool::users::Users;
use crate::upstream::servers::Servers;

/// Offered in TLS, unless the cluster's context says otherwise.
pub(super) const HTTP1: &[&[u8]] = &[b"http/1.1"];
const HTTP2: &[&[u8]] = &[b"h2"];
const EITHER: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The connections to one host; if the host of a request makes a difference, those for one of them.
#[derive(Debug)]
pub(super) struct HostPool {
    config: Arc<config::Cluster>,
    stats: Arc<ClusterStats>,
    pub(super) host: Arc<Host>,
    pub(super) servers: Servers,
    request_host: Option<Rc<str>>,
    pub(super) breakers: Arc<Breakers>,
    /// Whose limits its connections and requests count against.
    pub(super) priority: Priority,
    /// Requests of the pool that wait for a connection, by what is full: the cluster, the member.
    waiting: [Cell<u32>; 2],
    /// A connection has come free while one of them waits.
    pub(super) changed: Notify,
    /// Exchanges served while others wait for a connection, too.
    pub(super) turns: Cell<u32>,
    /// What ALPN agreed on last, where it decides.
    agreed: Cell<Option<Protocol>>,
    pub(super) counts: Arc<HostCounts>,
    loads: Arc<Loads>,
    /// The one used last is at the end, so that the rest can grow old and go.
    pub(super) http1: RefCell<Vec<Http1Connection>>,
    pub(super) http2: RefCell<Vec<Rc<Http2Connection>>>,
    users: Users,
    pub(super) overlap: Overlap,
    /// Those to be closed when the host is found unfit, and how often it was so before them.
    closing: RefCell<DrainSignal>,
    falls: Cell<u32>,
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
    pub(super) tenure: Tenure,
    /// Those that use it, to be ended when the drain time of the host is over, or a certificate ends.
    pub(super) users: DrainSignal,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Http2Connection {
    sender: Http2Sender,
    pub(super) settings: Rc<Http2Settings>,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Arc<Facts>>,
    pub(super) streams: Cell<u32>,
    served: Cell<u32>,
    born: Instant,
    used: Cell<Instant>,
    pub(super) vintage: Vintage,
    pub(super) tenure: Tenure,
    /// Those that use it, to be ended when the drain time of the host is over, or a certificate ends.
    pub(super) users: DrainSignal,
}

impl HostPool {
    pub(super) fn new(
        config: Arc<config::Cluster>,
        cluster: &ClusterHandle,
        (host, servers): (Arc<Host>, Servers),
        (counts, loads): (Arc<HostCounts>, Arc<Loads>),
        (request_host, priority): (Option<Rc<str>>, Priority),
    ) -> Self {
        Self {
            config,
            stats: Arc::clone(cluster.stats()),
            breakers: Arc::clone(cluster.breakers()),
            counts,
            loads,
            users: Users::new(&host),
            overlap: Overlap::default(),
            closing: RefCell::default(),
            falls: Cell::new(host.falls()),
            host,
            servers,
            request_host,
            priority,
            waiting: Default::default(),
            changed: Notify::new(),
            turns: Cell::new(0),
            agreed: Cell::new(None),
            http1: RefCell::default(),
            http2: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Those that wait because this is full.
    pub(super) fn waiting(&self, full: Full) -> &Cell<u32> {
        let [cluster, host] = &self.waiting;
        match full {
            Full::Cluster => cluster,
            Full::Host => host,
        }
    }

    /// An idle HTTP/1 connection whose last exchange ended cleanly.
    ///
    /// # Errors
    /// There is one, but there are too many requests.
    pub(super) fn idle_http1(pool: &Rc<Self>) -> Result<Option<Http1Lease>, Reason> {
        let mut idle = pool.http1.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            let vintage = connection.vintage;
            let may_serve =
                pool.may_serve(vintage) || Self::begin_overlap(pool, vintage, idle.len());
            if !may_serve || !connection.sender.is_ready() || connection.users.is_draining() {
                continue;
            }
            let slot = match Slot::enter(pool) {
                Ok(slot) => slot,
                Err(overflow) => {
                    idle.push(connection);
                    return Err(overflow);
                }
            };
            connection.served += 1;
            return Ok(Some(Http1Lease {
                slot,
                connection,
                reused: true,
            }));
        }
        Ok(None)
    }

    /// A new connection, or with HTTP/2 one that somebody else has just made; without `protocol` ALPN
    /// decides what is spoken on it.
    pub(super) async fn connect(
        pool: &Rc<Self>,
        protocol: Option<Protocol>,
        client: &Downstream,
    ) -> Result<Lease, ConnectFailure> {
        let pending = pool.breakers.try_pend(pool.priority);
        let _pending = pending.ok_or_else(ConnectFailure::overflow)?;
        let deadline = Instant::now() + pool.config.connect_timeout;
        let shares = match protocol {
            Some(protocol) => protocol == Protocol::Http2,
            None => pool.agreed.get() == Some(Protocol::Http2), // at first a burst may make several
        };
        if shares && let Some(lease) = overflows(Self::free_stream(pool, true))? {
            return Ok(Lease::Http2(lease));
        }
        let _connecting = match shares {
            true => Some(pool.connecting.lock().await), // somebody else may make one while we wait
            false => None,
        };
        let permit = match Self::room(pool, protocol, deadline).await? {
            Room::Free(lease) => return Ok(lease),
            Room::New(permit) => permit,
        };
        match protocol {
            Some(Protocol::Http1) => {
                let connected = pool.open(Some(client), HTTP1).await?;
                Self::begin_http1(pool, connected, permit).map(Lease::Http1)
            }
            Some(Protocol::Http2) => {
                let connected = pool.open(None, HTTP2).await?; // shared by clients
                let lease = Self::begin_http2(pool, connected, permit).await;
                lease.map(Lease::Http2)
            }
            None => Self::agree(pool, permit).await,
        }
    }

    /// A new connection on which ALPN decides.
    async fn agree(pool: &Rc<Self>, permit: ConnectionPermit) -> Result<Lease, ConnectFailure> {
        let connected = pool.open(None, EITHER).await?;
        let tls = connected.0.tls.as_ref();
        let is_http2 = tls.is_some_and(|tls| tls.speaks_http2() == Some(true));
        if is_http2 {
            pool.agreed.set(Some(Protocol::Http2));
            let lease = Self::begin_http2(pool, connected, permit).await;
            return lease.map(Lease::Http2);
        }
        pool.agreed.set(Some(Protocol::Http1));
        Self::begin_http1(pool, connected, permit).map(Lease::Http1)
    }

    pub(super) fn http1_connection(
        &self,
        (connected, begun): (Connected, Begun),
        permit: ConnectionPermit,
    ) -> Http1Connection {
        let Connected {
            stream,
            tls,
            vintage,
        } = connected;
        let tenure = self.servers.tenure(&self.host, tls.as_ref());
        self.stats.upstream_cx_http1_total().inc();
        let now = Instant::now();
        Http1Connection {
            local: stream.local_address(),
            tls,
            sender: Sender::new(stream, self.config.read_bytes_max()),
            _open: Open::enter(begun, &self.counts, permit),
            born: now,
            idle_since: now,
            served: 0,
            vintage,
            tenure,
            users: self.users(vintage, tenure),
        }
    }

    fn begin_http1(
        pool: &Rc<Self>,
        connected: (Connected, Begun),
        permit: ConnectionPermit,
    ) -> Result<Http1Lease, ConnectFailure> {
        let mut connection = pool.http1_connection(connected, permit);
        match Slot::enter(pool) {
            Ok(slot) => {
                connection.served = 1;
                Ok(Http1Lease {
                    slot,
                    connection,
                    reused: false,
                })
            }
            Err(_) => {
                pool.put_back(connection); // it is as good as new
                Err(ConnectFailure::too_many_requests())
            }
        }
    }

    async fn begin_http2(
        pool: &Rc<Self>,
        (connected, begun): (Connected, Begun),
        permit: ConnectionPermit,
    ) -> Result<Http2Lease, ConnectFailure> {
        let Connected {
            stream,
            tls,
            vintage,
        } = connected;
        let local = stream.local_address();
        let (sender, settings, connection) = codec::connect_http2(stream, &pool.config.http2)
            .await
            .map_err(|error| ConnectFailure::new(&error.to_string()))?;
        let tenure = pool.servers.tenure(&pool.host, tls.as_ref());
        pool.stats.upstream_cx_http2_total().inc();
        let asked = pool.servers.enter(&pool.host, tls.as_ref(), tenure);
        let open = Open::enter(begun, &pool.counts, permit);
        Self::drive(connection, open, asked);
        let now = Instant::now();
        let users = pool.users(vintage, tenure);
        pool.http2.borrow_mut().push(Rc::new(Http2Connection {
            sender,
            settings,
            local,
            tls,
            streams: Cell::new(0),
            served: Cell::new(0),
            born: now,
            used: Cell::new(now),
            vintage,
            tenure,
            users,
        }));
        pool.tell_own();
        let lease = overflows(Self::free_stream(pool, false))?;
        lease.ok_or_else(|| ConnectFailure::new("the connection ended at once"))
    }

    /// A stream on an open HTTP/2 connection.
    ///
    /// # Errors
    /// There is one, but there are too many requests.
    pub(super) fn free_stream(pool: &Rc<Self>, reused: bool) -> Result<Option<Http2Lease>, Reason> {
        let mut connections = pool.http2.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let streams_max = pool.config.http2.max_concurrent_streams;
        let served_max = pool.config.max_requests_per_connection.unwrap_or(u32::MAX);
        let has_room = |c: &&Rc<Http2Connection>| {
            let is_full = c.streams.get() >= streams_max || c.served.get() >= served_max;
            !is_full && !pool.is_too_old(c.born) && !c.users.is_draining()
        };
        let connection = if reused {
            let mut usable = connections.iter().filter(has_room);
            usable.find(|c| pool.is_current(c.vintage))
        } else {
            connections.last().filter(has_room) // just made, if perhaps not of the latest secrets
        };
        let Some(connection) = connection else {
            return Ok(None);
        };
        let slot = Slot::enter(pool)?;
        connection.streams.set(connection.streams.get() + 1);
        connection
            .served
            .set(connection.served.get().saturating_add(1));
        connection.used.set(Instant::now());
        Ok(Some(Http2Lease {
            connection: Rc::clone(connection),
            sender: connection.sender.clone(),
            slot,
            reused,
        }))
    }

    /// A stream has ended; the connection may be needed elsewhere.
    pub(super) fn end_stream(&self, connection: &Rc<Http2Connection>) {
        // One with streams would not be free for whoever waits.
        if connection.streams.get() == 0 && self.is_owed() {
            let mut connections = self.http2.borrow_mut();
            connections.retain(|known| !Rc::ptr_eq(known, connection));
        }
        self.tell_own();
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
            || !self.may_serve(connection.vintage)
            || !connection.sender.is_ready()
            || self.is_owed()
        {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.http1.borrow_mut();
        if idle.len() >= limits::IDLE_UPSTREAM_PER_HOST {
            idle.remove(0);
        }
        idle.push(connection);
        drop(idle);
        self.tell_own();
    }

    /// Closes what is too old; false if the whole pool can go.
    pub(super) fn housekeep(&self, now: Instant) -> bool {
        self.close_unfit();
        if self.host.is_removed() {
            self.close_idle();
            return self.users.are_there(); // those that are still on it may have to be cut
        }
        let unix_now = unix_now();
        let fresh = |since: Instant| self.config.idle_timeout.is_none_or(|max| now - since < max);
        let may_stay = |born, tenure: Tenure| !self.is_too_old(born) && !tenure.is_over(unix_now);
        self.http1.borrow_mut().retain(|c| {
            let is_fresh = fresh(c.idle_since) && c.sender.is_ready();
            is_fresh && self.may_serve(c.vintage) && may_stay(c.born, c.tenure)
        });
        self.http2.borrow_mut().retain(|c| {
            let busy = c.streams.get() > 0;
            !c.sender.is_closed()
                && (busy || fresh(c.used.get()))
                && self.is_current(c.vintage)
                && may_stay(c.born, c.tenure) // streams still open hold their connection
        });
        // Clients choose the hosts of requests, so what is for one goes as soon as it is empty.
        self.request_host.is_none()
            || !self.http1.borrow().is_empty()
            || !self.http2.borrow().is_empty()
    }

    /// Closes what does nothing.
    pub(super) fn close_idle(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear(); // streams still open hold their connection
    }

    /// Those that use a connection of this vintage, that may stay so long.
    pub(super) fn users(&self, vintage: Vintage, tenure: Tenure) -> DrainSignal {
        self.follow_host();
        self.users.of(&self.host, vintage, tenure)
    }

    /// A place among those that are to end when the host is found unfit.
    pub(super) fn unfit(&self) -> DrainGuard {
        self.close_unfit(); // those from before, not this one
        self.closing.borrow().guard()
    }

    fn close_unfit(&self) {
        let falls = self.host.falls();
        if self.falls.replace(falls) != falls {
            self.closing.take().start();
        }
    }

    /// Closes what does nothing if the host has begun another era.
    pub(super) fn follow_host(&self) {
        if self.users.follow(&self.host) {
            self.close_idle();
        }
    }

    /// When those are to be cut that go first.
    pub(super) fn next_cut(&self) -> Option<Instant> {
        self.users.next_cut()
    }

    /// Ends what uses a connection though its time is over.
    pub(super) fn cut(&self, now: Instant) {
        self.users.cut(now);
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

    pub(super) async fn open(
        &self,
        client: Option<&Downstream>,
        alpn: &'static [&'static [u8]],
    ) -> Result<(Connected, Begun), ConnectFailure> {
        if self.loads.sheds(ShedPoint::NewConnection) {
            return Err(ConnectFailure::overflow());
        }
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
    fn drive<F>(connection: F, open: Open, asked: Option<DrainGuard>)
    where
        F: Future<Output = Result<(), codec::Error>> + 'static,
    {
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
    let cut_at = Instant::now() + limits::DRAIN_TIME;
    let told = asked.deadline();
    tokio::time::sleep_until(told.map_or(cut_at, |told| told.min(cut_at))).await;
}

fn overflows<T>(found: Result<T, Reason>) -> Result<T, ConnectFailure> {
    found.map_err(|_| ConnectFailure::too_many_requests()) // the only reason there is
}
