//! One request and its response. The order of everything that happens stands here:
//! prepare → route → forward → respond → finish.
//!
//! An exchange sees one route table and, per attempt, one host set, from start to end. However it
//! ends, by its last byte, by an error or because the client left, [`Exchange`] is dropped, and
//! that is where it is counted and logged, once.
//!
//! | file | holds |
//! |---|---|
//! | `prepare` | checks and canonical form of the request |
//! | `forward` | attempt: host, connection, request, response head |
//! | `health` | what the health of hosts learns |
//! | `measure` | what balancing learns |
//! | `watch` | what breakers learn that look at outcomes |
//! | `respond` | the response, and the body that carries the exchange to its end |
//! | `deadlines` | how long each phase may take |
//! | `retry` | sending a request again |
//! | `hedge` | attempts beside each other |
//! | `shed` | requests that are refused because of overload |
//! | `grpc_timeout` | how long a gRPC client waits |
//! | `upgrade` | going on as another protocol |
//! | `finish` | counters and access log |

mod deadlines;
mod finish;
mod forward;
mod grpc_timeout;
mod health;
mod hedge;
mod measure;
mod prepare;
mod respond;
mod retry;
mod shed;
mod upgrade;
mod watch;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header::EXPECT;
use http::request::Parts;

use crate::config;
use crate::config::circuit_breakers::Priority;
use crate::config::route::Action;
use crate::config::route::Forward;
use crate::config::subset::Criteria;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::given_state::GivenState;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::connection_manager::Connection;
use crate::http::connection_manager::Routes;
use crate::http::hash::Hashed;
use crate::http::headers::lookup;
use crate::http::local_reply;
use crate::http::local_reply::LocalReply;
use crate::http::router::Match;
use crate::http::router::Place;
use crate::http::router::Target;
use crate::http::session::Session;
use crate::net::tls::Facts;
use crate::telemetry::ResponseFlags;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::pool::Lease;
use deadlines::Deadlines;
use finish::LogFacts;
pub use finish::log_refused;
use health::Judged;
use measure::Measured;
use prepare::Authority;
pub use respond::ExchangeBody;
use retry::Retrying;
use upgrade::Upgrading;
use watch::Watch;

/// One request and its response, from the head of the one to the end of the other.
#[derive(Debug)]
pub struct Exchange {
    connection: Rc<Connection>,
    deadlines: Deadlines,
    route: Option<(Arc<Routes>, Place)>,
    cluster: Option<ClusterHandle>,
    /// What the cluster chooses by, with the cookies that go with it.
    hashed: Hashed,
    /// What it was given for hash policies.
    state: GivenState,
    /// What the route asks of the cluster's member.
    criteria: Option<Arc<Criteria>>,
    /// Which member the client was served by, if that is kept.
    session: Option<Box<Session>>,
    host: Option<Arc<Host>>,
    /// Until it is sent.
    request: Option<Request<RequestBody>>,
    lease: Option<Lease>,
    /// Of one that may be sent again, as it goes out; of one attempt after the other that is the head of the
    /// last one over HTTP/1.
    kept_head: Option<Parts>,
    /// Only if it may be sent again.
    retrying: Option<Retrying>,
    /// The client is told how many attempts there were.
    response_tells_attempts: bool,
    /// Of the host of the last attempt.
    counts: Option<Arc<HostCounts>>,
    /// How far the measuring of the attempt has come.
    measured: Measured,
    /// What breakers wait for, if any look at outcomes.
    watch: Option<Watch>,
    /// Whose policy wants to know what the server says of its load, until it said it.
    reports_to: Option<Arc<config::Cluster>>,
    upstream_local: Option<SocketAddr>,
    /// Only if something is to be logged or edited.
    upstream_tls: Option<Arc<Facts>>,
    /// Why a connection could not be made.
    upstream_failure: Option<Box<str>>,
    attempts: u32,
    /// For the attempt that is made.
    connections: u32,
    /// Whose limits of the cluster it counts against.
    priority: Priority,
    /// If it asks for another protocol.
    upgrading: Option<Upgrading>,
    /// Members whose breakers refused it.
    others: u8,
    /// In place of another cluster.
    fell_back: bool,
    /// Counted among the cluster's active requests.
    was_sent: bool,
    is_grpc: bool,
    is_head: bool,
    /// The scheme the client used; it goes on as `:scheme`.
    scheme: &'static str,
    /// The attempt, if its host is judged by what becomes of it.
    judged: Option<Judged>,
    /// Kept for the response if it is to be sent back.
    request_id: Option<HeaderValue>,
    client: Option<SocketAddr>,
    /// Its headers may say how it is treated.
    is_internal: bool,
    /// Else its `x-request-id` is not looked for.
    may_have_id: bool,
    status: u16,
    flags: ResponseFlags,
    details: &'static str,
    sent: u64,
    complete: bool,
    /// Only if something is to be logged.
    log: Option<Box<LogFacts>>,
}

/// Serves one request.
pub async fn run(connection: Rc<Connection>, request: Request<Incoming>) -> Response<ExchangeBody> {
    if connection.is_cut_off() {
        return std::future::pending().await; // it goes with its connection
    }
    let mut exchange = Box::new(Exchange::start(connection, &request));
    let error = match exchange.decide(request) {
        Ok(Decision::Reply(reply)) => return exchange.reply(reply),
        Ok(Decision::Forward(cluster, authority)) => {
            match forward::forward(&mut exchange, cluster, authority).await {
                Ok(response) => return exchange.relay(response),
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    exchange.fail(error)
}

/// What is to be done with a request. Nothing large is kept here: the request waits in the exchange,
/// so that the future of an exchange stays small.
enum Decision {
    /// Send it to this cluster, under this authority.
    Forward(ClusterHandle, Authority),
    /// The route answers by itself.
    Reply(LocalReply),
}

impl Exchange {
    /// Prepares the request, routes it and makes it fit for the next hop.
    fn decide(&mut self, request: Request<Incoming>) -> Result<Decision, ProxyError> {
        let (mut parts, body) = request.into_parts();
        self.upgrading = Upgrading::of(&parts);
        shed::dispatch(&self.connection)?;
        let (authority, reply) = prepare::prepare(self, &mut parts)?;
        if let Some(reply) = reply {
            return Ok(Decision::Reply(reply));
        }
        shed::head(&self.connection)?;
        let table = self.connection.manager.routes.load();
        let found = prepare::find_route(self, &table, &parts, authority.as_str());
        if self.is_upgrade() {
            self.allow_upgrade(found.as_ref().ok(), &parts.headers)?;
        }
        let found = found?;
        self.route = Some((Arc::clone(&table), found.place()));
        if !found.keeps_response_headers() {
            finish::remember_for_edits(self, &parts, &authority);
        }
        let forward = match found.target {
            Target::Forward {
                forward,
                cluster,
                weighted,
                ..
            } => {
                let asked = weighted.map_or(&forward.criteria, |choice| &choice.criteria);
                self.criteria.clone_from(asked);
                self.aim(forward, cluster, &mut parts.headers);
                forward
            }
            Target::DirectResponse { .. } | Target::Redirect(_) => {
                return self.own_reply(&found, &parts, &authority);
            }
        };
        let Some(cluster) = self.cluster.clone() else {
            self.connection.manager.stats.no_cluster().inc();
            return Err(Reason::NoCluster.into());
        };
        shed::routed(&self.connection)?;
        if let Some(dropped) = cluster.drops(|| fastrand::u32(..1_000_000)) {
            return Err(dropped.into());
        }
        self.session = prepare::session(self, &table, &found, &parts);
        self.state = prepare::state(self, (&table, &found), &parts, &authority);
        prepare::edit(self, &found, (forward, &authority), &mut parts);
        self.may_have_id |= !found.keeps_request_headers();
        self.hashed = prepare::hash(self, &cluster, (forward, &authority), &parts);
        if !found.keeps_response_headers() && !found.keeps_request_headers() {
            finish::remember_for_edits(self, &parts, &authority); // the request as it goes out
        }
        self.response_tells_attempts = forward.retries.response_tells_attempts;
        let may_ask = self.is_internal || !found.keeps_request_headers();
        self.keep_request((forward, &authority), may_ask, parts, body);
        Ok(Decision::Forward(cluster, authority))
    }

    /// What the route says of the way the request goes.
    fn aim(&mut self, forward: &Forward, cluster: Option<&ClusterHandle>, headers: &mut HeaderMap) {
        let respects = self.connection.manager.respects_expected_timeout;
        let asked = (self.is_internal).then(|| retry::Timeouts::take(headers, respects));
        self.deadlines
            .set_route(forward, headers, (self.is_grpc, asked));
        if self.is_upgrade() {
            self.deadlines.forbid_hedges();
        }
        self.priority = forward.priority;
        self.cluster = cluster.cloned();
    }

    /// Keeps the request until it is sent, and as long as it may be sent again. `may_ask`: its headers may
    /// say something of that.
    fn keep_request(
        &mut self,
        (forward, authority): (&Forward, &Authority),
        may_ask: bool,
        mut parts: Parts,
        body: Incoming,
    ) {
        let state = retry::begin(self, (forward, authority), may_ask, &mut parts);
        lookup::remove(&mut parts.headers, &EXPECT); // answered by the codec when the body is first read
        let body = match state {
            None => {
                self.deadlines.take_plan(); // without retries nothing is hedged, either
                self.body_once(body)
            }
            Some(state) => self.keep_for_retries(state, forward, &parts, body),
        };
        self.request = Some(Request::from_parts(parts, body));
    }

    /// The answer of a route that sends nothing on.
    fn own_reply(
        &self,
        found: &Match<'_, ClusterHandle>,
        parts: &Parts,
        authority: &Authority,
    ) -> Result<Decision, ProxyError> {
        let stats = &self.connection.manager.stats;
        let reply = match found.target {
            Target::DirectResponse { status, body } => {
                stats.rq_direct_response().inc();
                Some(local_reply::direct(status, body, self.is_grpc))
            }
            Target::Redirect(redirect) => {
                stats.rq_redirect().inc();
                let asked = (authority.as_str(), self.scheme, self.is_grpc);
                local_reply::redirect(found, redirect, parts, asked)
            }
            Target::Forward { .. } => None,
        };
        reply
            .map(Decision::Reply)
            .ok_or_else(|| Reason::NoRoute.into())
    }

    /// Whether the cluster has a member at this address, fit or not.
    fn knows(&self, address: &str) -> bool {
        let cluster = self.cluster.as_ref().map(ClusterHandle::load);
        cluster.is_some_and(|cluster| {
            let mut members = cluster.hosts.members().iter();
            members.any(|member| *member.host.label == *address)
        })
    }

    /// Status of an answer for a cluster that does not exist, which the route may choose.
    fn status_of(&self, error: ProxyError) -> http::StatusCode {
        let telling = error.reason.telling();
        if error.reason == Reason::DurationTimeout && !self.deadlines.is_request_complete() {
            return http::StatusCode::REQUEST_TIMEOUT;
        }
        if error.reason == Reason::NoHealthyUpstream
            && self.attempts == 1
            && let Some(session) = &self.session
            && let Some((address, status)) = session.failure()
            && !self.knows(address)
        {
            return status;
        }
        if error.reason == Reason::NoCluster
            && let Some((table, place)) = &self.route
            && let Some(found) = table.at(*place)
            && let Action::Forward(forward) = &found.route.action
        {
            return forward.cluster_not_found;
        }
        telling.status
    }
}
