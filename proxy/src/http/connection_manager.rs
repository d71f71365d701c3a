//! One downstream HTTP connection: which protocol it speaks, how long it may be silent, when it is
//! asked to go. Requests on it are exchanges.

use std::cell::Cell;
use std::fmt;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Version;
use tokio::time::Instant;

use crate::config::filter_chain::Allowance;
use crate::config::filter_state::StateFilter;
use crate::config::limits;
use crate::config::listener::Codec;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::HttpFilter;
use crate::config::overload::Action;
use crate::config::overload::ShedPoint;
use crate::config::overload::Timeout;
use crate::config::session::SessionFilter;
use crate::downstream::Downstream;
use crate::http::codec;
use crate::http::codec::IoFacts;
use crate::http::codec::Protocol;
use crate::http::codec::ServerOptions;
use crate::http::codec::Stop;
use crate::http::exchange;
use crate::http::headers;
use crate::http::headers::Peer;
use crate::http::headers::RequestPolicy;
use crate::http::headers::ResponsePolicy;
use crate::http::http1::decode::Violation;
use crate::http::logged::LoggedHeaders;
use crate::http::router::RouteTable;
use crate::net::NetStream;
use crate::overload::Loads;
use crate::overload::held::OfConnection;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::HttpStats;
use crate::timer::LazyTimer;
use crate::upstream::ClusterHandle;
use crate::worker::ConnectionGuard;
use crate::worker::WorkerContext;

/// A route table with live clusters.
pub type Routes = RouteTable<ClusterHandle>;

/// The cell of a route table: listeners that use one RDS name share it.
#[derive(Clone, Debug)]
pub struct RouteHandle(Arc<ArcSwap<Routes>>);

impl RouteHandle {
    /// A cell with its first table.
    pub fn new(table: Routes) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(table)))
    }

    /// The table of an exchange that begins now.
    pub fn load(&self) -> Arc<Routes> {
        self.0.load_full()
    }

    /// Changes the table for exchanges that begin later. Called by `apply`.
    pub fn store(&self, table: Routes) {
        self.0.store(Arc::new(table));
    }
}

/// An HTTP connection manager as it lives: its configuration with everything resolved.
#[derive(Debug)]
pub struct HttpManager {
    /// As configured.
    pub config: Arc<HttpConnectionManager>,
    /// Where requests go.
    pub routes: RouteHandle,
    /// Its counters.
    pub stats: Arc<HttpStats>,
    /// What it writes at the end of each exchange.
    pub loggers: Vec<Logger>,
    /// The configured part of request header rules.
    pub request_policy: RequestPolicy,
    /// The configured part of response header rules.
    pub response_policy: ResponsePolicy,
    /// Leave `x-envoy-*` headers out.
    pub suppress_envoy_headers: bool,
    /// What a trusted client says it expects goes before the route's timeout.
    pub respects_expected_timeout: bool,
    /// Has clients meet the member again that served them.
    pub session: Option<SessionFilter>,
    /// Give requests filter state.
    pub states: Box<[StateFilter]>,
    /// Headers the loggers need at the end.
    pub logged: LoggedHeaders,
    /// What its listener lets each connection have.
    pub allowance: Allowance,
    options: ServerOptions,
}

impl HttpManager {
    /// Resolves what `config` names.
    pub fn new(
        config: Arc<HttpConnectionManager>,
        routes: RouteHandle,
        (stats, loggers): (Arc<HttpStats>, Vec<Logger>),
        allowance: Allowance,
    ) -> Self {
        let router = config.http_filters.iter().find_map(|filter| match filter {
            HttpFilter::Router {
                suppress_envoy_headers,
                respects_expected_timeout,
            } => Some((*suppress_envoy_headers, *respects_expected_timeout)),
            HttpFilter::Session(_) | HttpFilter::State(_) => None,
        });
        let (suppress_envoy_headers, respects_expected_timeout) = router.unwrap_or_default();
        let session = config.http_filters.iter().find_map(|filter| match filter {
            HttpFilter::Session(session) => Some(session.clone()),
            HttpFilter::Router { .. } | HttpFilter::State(_) => None,
        });
        let states = config
            .http_filters
            .iter()
            .filter_map(|filter| match filter {
                HttpFilter::State(state) => Some(state.clone()),
                HttpFilter::Router { .. } | HttpFilter::Session(_) => None,
            });
        Self {
            routes,
            stats,
            loggers,
            session,
            states: states.collect(),
            request_policy: RequestPolicy::new(&config),
            response_policy: ResponsePolicy::new(&config),
            suppress_envoy_headers,
            respects_expected_timeout,
            logged: LoggedHeaders::new(&config.access_logs),
            options: ServerOptions {
                head_bytes_max: config.request_headers_bytes_max,
                header_count_max: config.header_count_max,
                http2: config.http2,
                read_bytes_max: allowance.read_bytes_max(),
            },
            allowance,
            config,
        }
    }
}

/// Which hosts a connection over TLS is for.
pub trait Reach: fmt::Debug {
    /// Whether a request for `host`, which has no port, may come over it: not if a connection that had
    /// asked for that name would have been received otherwise.
    fn includes(&self, downstream: &Downstream, host: &str) -> bool;
}

/// Who a connection is from, and which hosts it is for.
pub type Client = (Downstream, Option<Box<dyn Reach>>);

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
    active: Cell<u32>,
    served: Cell<u32>,
    idle_since: Cell<Instant>,
    closing: Cell<bool>,
    /// It ends after its exchanges because of overload.
    shed: Cell<bool>,
    /// It ends at once, and what it brought is nobody's business.
    cut_off: Cell<bool>,
    /// Bytes that had come when it was last looked at.
    seen: Cell<u64>,
    /// Bytes either way, once it is closing.
    moved: Cell<u64>,
    /// Its exchange looks after a client that takes nothing.
    is_watched: Cell<bool>,
    born: Instant,
    facts: Rc<IoFacts>,
    /// Bytes that the statistics know of.
    told: Cell<(u64, u64)>,
}

impl Connection {
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
        !self.manager.allowance.ignores_overload && self.worker.loads().sheds(point)
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
    fn is_cut_off_now(&self) -> bool {
        let received = self.facts.received.get();
        if self.seen.replace(received) != received
            && self.protocol == Protocol::Http2
            && self.sheds(ShedPoint::GoAwayAndClose)
        {
            self.cut_off.set(true);
        }
        self.cut_off.get()
    }

    /// Its part, between 0 and 1, of what is another random time for each connection.
    fn part(&self) -> f64 {
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
    fn reduced(&self, timeout: Timeout, max: Duration) -> Duration {
        if self.manager.allowance.ignores_overload {
            return max;
        }
        self.worker.loads().reduced(timeout, max)
    }

    /// What reduces timeouts of its streams, if anything ever does.
    pub fn reducing(&self, timeouts: &[Timeout]) -> Option<Arc<Loads>> {
        let loads = self.worker.shared_loads();
        let is_reduced = !self.manager.allowance.ignores_overload
            && timeouts.iter().any(|timeout| loads.reduces(*timeout));
        is_reduced.then(|| Arc::clone(loads))
    }

    /// Closes the connection once its exchanges have ended.
    pub fn close(&self) {
        self.closing.set(true);
    }
}

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

/// Serves a connection to its end, and says what it carried.
pub async fn serve(
    worker: Rc<WorkerContext>,
    manager: Arc<HttpManager>,
    ((downstream, reach), held): (Client, Rc<OfConnection>),
    mut stream: NetStream,
    drain: ConnectionGuard,
) -> Carried {
    let born = Instant::now();
    let Some((protocol, first)) = find_protocol(&manager, &downstream, &mut stream)
        .await
        .filter(|_| !sends_away(&worker, &manager))
    else {
        return Carried::default();
    };
    let facts = Rc::new(IoFacts::new(manager.config.delayed_close_timeout));
    let connection = Rc::new(Connection {
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
        facts: Rc::clone(&facts),
        told: Cell::default(),
        manager: Arc::clone(&manager),
    });
    let _counted = Counted::enter(&connection);
    let service = {
        let connection = Rc::clone(&connection);
        move |request| exchange::run(Rc::clone(&connection), request)
    };
    let mut control = Control {
        connection: Rc::clone(&connection),
        drain,
        asked: None,
        timer: LazyTimer::default(),
        closing_since: None,
    };
    let options = &manager.options;
    let served = codec::serve((stream, first), protocol, options, facts, service, |cx| {
        control.poll(cx)
    });
    let is_broken = match served.await {
        Ok(()) => false,
        Err(error) => connection.ended_with(&error),
    };
    if connection.facts.is_cut.get() {
        let stats = &connection.manager.stats;
        stats.downstream_cx_delayed_close_timeout().inc();
    }
    connection.carried(is_broken)
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

/// Whether a client that has begun is sent away because of overload.
fn sends_away(worker: &WorkerContext, manager: &HttpManager) -> bool {
    let does = !manager.allowance.ignores_overload && worker.loads().sheds(ShedPoint::Codec);
    if does {
        manager.stats.downstream_rq_overload_close().inc();
    }
    does
}

/// The protocol, unless the client leaves or stays silent. ALPN decides where it was agreed on.
async fn find_protocol(
    manager: &HttpManager,
    downstream: &Downstream,
    stream: &mut NetStream,
) -> Option<(Protocol, Vec<u8>)> {
    let agreed = downstream.tls.as_ref().and_then(|tls| tls.speaks_http2());
    if let (Codec::Auto, Some(is_http2)) = (manager.config.codec, agreed) {
        let protocol = if is_http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        return Some((protocol, Vec::new()));
    }
    let patience = head_patience(&manager.config);
    let sniffed = codec::sniff(stream, manager.config.codec);
    match tokio::time::timeout(patience, sniffed).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(_)) => None,
        Err(_) => {
            manager.stats.downstream_rq_header_timeout().inc();
            None
        }
    }
}

/// How long a client may take to its first head, and to every other it has begun.
fn head_patience(config: &HttpConnectionManager) -> Duration {
    let configured = config.request_headers_timeout;
    configured.unwrap_or(limits::REQUEST_HEAD_TIMEOUT)
}

impl Connection {
    fn carried(&self, is_broken: bool) -> Carried {
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
    fn tell_bytes(&self) {
        let (received, sent) = (self.facts.received.get(), self.facts.sent.get());
        let told = self.told.replace((received, sent));
        let stats = &self.manager.stats;
        stats.downstream_cx_rx_bytes_total().add(received - told.0);
        stats.downstream_cx_tx_bytes_total().add(sent - told.1);
    }

    /// Whether the client broke the protocol.
    fn ended_with(&self, error: &codec::Error) -> bool {
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

/// Decides when a connection has to go.
struct Control {
    connection: Rc<Connection>,
    drain: ConnectionGuard,
    /// When it was asked to go.
    asked: Option<Instant>,
    timer: LazyTimer,
    /// Since when it is closing.
    closing_since: Option<Instant>,
}

impl Control {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if self.connection.facts.is_switched.get() {
            self.connection.tell_bytes(); // it may be there for days
        }
        if self.connection.is_cut_off_now() {
            return Poll::Ready(Stop::Now);
        }
        if !self.connection.closing.get()
            && let Some(asked) = self.asked(cx)
        {
            let is_http1 = self.connection.protocol == Protocol::Http1;
            let until = asked + limits::DRAIN_IDLE;
            if is_http1 && self.timer.poll_until(until, cx).is_pending() {
                return Poll::Ready(Stop::AfterAnswer);
            }
            self.connection.closing.set(true);
        }
        if self.connection.closing.get() {
            let since = *self.closing_since.get_or_insert_with(Instant::now);
            let cut = self.cut(since);
            let stop = if self.is_unheard(since, cx) {
                Stop::Now
            } else if self.timer.poll_until(cut, cx).is_pending() {
                Stop::Gracefully
            } else if self.has_last_word(cut, cx) {
                Stop::LastWord
            } else {
                Stop::Now
            };
            return Poll::Ready(stop);
        }
        self.heed_changes(cx);
        let Some((deadline, cause)) = self.deadline() else {
            return Poll::Pending;
        };
        std::task::ready!(self.timer.poll_until(deadline, cx));
        let stats = &self.connection.manager.stats;
        match cause {
            Cause::Age => stats.downstream_cx_max_duration_reached().inc(),
            Cause::Head => stats.downstream_rq_header_timeout().inc(),
            Cause::Blocked => stats.downstream_rq_idle_timeout().inc(),
            Cause::Idle => stats.downstream_cx_idle_timeout().inc(),
        }
        self.connection.closing.set(true);
        Poll::Ready(if matches!(cause, Cause::Blocked | Cause::Head) {
            Stop::Now
        } else {
            Stop::Gracefully
        })
    }

    /// Has it look again when timeouts change that hold for it.
    fn heed_changes(&mut self, cx: &Context<'_>) {
        let loads = self.connection.worker.loads();
        let reduces = |timeout| loads.reduces(timeout);
        if reduces(Timeout::ConnectionIdle) || reduces(Timeout::ConnectionMax) {
            self.timer.heed_changes(cx);
        }
    }

    /// When it is cut: after the drain time, but before a certificate ends it stands on.
    fn cut(&self, since: Instant) -> Instant {
        let drained = since + self.connection.worker.drain_time();
        // It may be told while it goes for another reason.
        let told = self.drain.chain.deadline();
        told.map_or(drained, |told| told.min(drained))
    }

    /// Whether it has been closing for long without a stream or a byte, and its client has not answered
    /// that it knows: else it would be closed.
    fn is_unheard(&mut self, since: Instant, cx: &mut Context<'_>) -> bool {
        let connection = &self.connection;
        if connection.protocol == Protocol::Http1 || connection.active.get() > 0 {
            return false;
        }
        let moved = connection.facts.received.get() + connection.facts.sent.get();
        if connection.moved.replace(moved) != moved {
            connection.idle_since.set(Instant::now());
        }
        let patience = connection
            .manager
            .config
            .drain_timeout
            .of(connection.part());
        let until = connection.idle_since.get().max(since) + patience;
        self.timer.poll_until(until, cx).is_ready()
    }

    /// Whether it may still say goodbye.
    fn has_last_word(&mut self, cut: Instant, cx: &mut Context<'_>) -> bool {
        let is_switched = self.connection.facts.is_switched.get();
        let until = cut + limits::LAST_WORD;
        is_switched && self.timer.poll_until(until, cx).is_pending()
    }

    /// When it was asked to go, if it was.
    fn asked(&mut self, cx: &Context<'_>) -> Option<Instant> {
        if self.asked.is_none() && self.drain.chain.poll_draining(cx).is_ready() {
            let stats = &self.connection.manager.stats;
            stats.downstream_cx_drain_close().inc();
            self.asked = Some(Instant::now());
        }
        self.asked
    }

    /// The next deadline of the connection itself; exchanges have their own.
    fn deadline(&self) -> Option<(Instant, Cause)> {
        let connection = &self.connection;
        let config = &connection.manager.config;
        // The first head is waited for since the connection stands; clients of HTTP/2 are expected to
        // have connections in reserve.
        let is_first = connection.served.get() == 0 && connection.protocol == Protocol::Http1;
        let since = connection.facts.head_since.get();
        let since = if is_first {
            Some(connection.born)
        } else {
            since
        };
        let head = since.map(|since| (since + head_patience(config), Cause::Head));
        let idle = (connection.active.get() == 0)
            .then_some(config.idle_timeout)
            .flatten();
        let idle = idle.map(|max| {
            let max = connection.reduced(Timeout::ConnectionIdle, max);
            (connection.idle_since.get() + max, Cause::Idle)
        });
        let age = config.max_connection_duration.map(|max| {
            let max = max.of(connection.part());
            let max = connection.reduced(Timeout::ConnectionMax, max);
            (connection.born + max, Cause::Age)
        });
        let blocked = connection.facts.blocked_since.get();
        let blocked = blocked.filter(|_| !connection.is_watched.get());
        let blocked = blocked
            .zip(config.stream_idle_timeout)
            .map(|(since, max)| (since + max, Cause::Blocked));
        [head, blocked, idle, age]
            .into_iter()
            .flatten()
            .min_by_key(|(deadline, _)| *deadline)
    }
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Age,
    /// The client takes nothing of what is written to it.
    Blocked,
    Head,
    Idle,
}

/// Counts the connection while it is open.
struct Counted(Rc<Connection>);

impl Counted {
    fn enter(connection: &Rc<Connection>) -> Self {
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
