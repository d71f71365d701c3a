//! One downstream HTTP connection: which protocol it speaks, how long it may be silent, when it is
//! asked to go. Requests on it are exchanges.
//!
//! | file | holds |
//! |---|---|
//! | `connection` | what the exchanges of one connection share |
//! | `control` | when it has to go |

mod connection;
mod control;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::filter_chain::Allowance;
use crate::config::filter_state::StateFilter;
use crate::config::limits;
use crate::config::listener::Codec;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::HttpFilter;
use crate::config::overload::ShedPoint;
use crate::config::session::SessionFilter;
use crate::downstream::Downstream;
use crate::http::codec;
use crate::http::codec::IoFacts;
use crate::http::codec::Protocol;
use crate::http::codec::ServerOptions;
use crate::http::exchange;
use crate::http::headers::RequestPolicy;
use crate::http::headers::ResponsePolicy;
use crate::http::logged::LoggedHeaders;
use crate::http::router::RouteTable;
use crate::net::NetStream;
use crate::overload::held::OfConnection;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::HttpStats;
use crate::upstream::ClusterHandle;
use crate::worker::ConnectionGuard;
use crate::worker::WorkerContext;

pub use connection::Carried;
pub use connection::Connection;
use connection::Counted;
use control::Control;

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
    let client = ((downstream, reach), held);
    let connection = Connection::new((worker, &manager), client, protocol, (born, &facts));
    let _counted = Counted::enter(&connection);
    let service = {
        let connection = Rc::clone(&connection);
        move |request| exchange::run(Rc::clone(&connection), request)
    };
    let mut control = Control::new(&connection, drain);
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
