//! One attempt, from the choice of its member to the head of its response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::response::Parts;
use tokio::time::Instant;

use super::Held;
use super::Outcome;
use super::plan::Since;
use crate::config;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::http::codec::Incoming;
use crate::http::codec::Sent;
use crate::http::exchange::Exchange;
use crate::http::exchange::deadlines;
use crate::http::exchange::forward::CONNECTIONS_MAX;
use crate::http::exchange::prepare::Authority;
use crate::http::exchange::retry;
use crate::http::exchange::watch::Refused;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::Picked;
use crate::upstream::breaker::RetryPermit;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::pool::Lease;
use crate::upstream::pool::Wanted;

/// An attempt on its way.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) held: Held,
    /// Where it goes; another one than the route's if breakers of that say so.
    pub(super) cluster: ClusterHandle,
    step: Step,
    /// None for the first attempt.
    pub(super) permit: Option<RetryPermit>,
    /// When it had a connection.
    pub(super) began: Option<Instant>,
    /// It has taken its time.
    pub(super) is_timed: bool,
    /// Another attempt was made, or is to be made, because it did.
    pub(super) is_followed: bool,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Lease, ConnectFailure>>>>;

/// How far it is.
enum Step {
    Connecting(Connecting),
    /// It ended before there was anything to wait for.
    Failed(Option<ProxyError>),
    /// A response of gRPC whose first message, or status, is waited for.
    Peeking(Option<(Parts, Incoming)>),
    /// Whether the connection had served before.
    Sent(Pin<Box<dyn Future<Output = Sent>>>, bool),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting(_) => "Connecting",
            Self::Failed(_) => "Failed",
            Self::Peeking(_) => "Peeking",
            Self::Sent(..) => "Sent",
        })
    }
}

impl Lane {
    /// It has done nothing yet.
    pub(super) fn new(cluster: ClusterHandle, permit: Option<RetryPermit>) -> Self {
        Self {
            held: Held::default(),
            cluster,
            step: Step::Failed(None),
            permit,
            began: None,
            is_timed: false,
            is_followed: false,
        }
    }

    pub(super) fn is_retry(&self) -> bool {
        self.permit.is_some()
    }

    /// Since when its time is counted, once the whole request has come; none if it is counted no more.
    pub(super) fn since(&self, complete: Option<Instant>) -> Option<Since> {
        let began = self.began?.max(complete?);
        Some(Since {
            began,
            is_timed: self.is_timed,
            is_first: !self.is_retry(),
        })
    }

    /// Chooses a member and takes a connection to it, or begins one.
    pub(super) fn connect(&mut self, exchange: &mut Exchange, authority: &Authority) {
        self.held.swap(exchange);
        self.step = begin(exchange, &mut self.cluster, authority);
        let host = exchange.host.clone();
        self.held.swap(exchange);
        exchange.host = host.or_else(|| exchange.host.take()); // the latest, for the log
        if let Step::Sent(..) = self.step {
            self.began = Some(Instant::now());
        }
    }

    /// Ready when it has an outcome.
    pub(super) fn poll(
        &mut self,
        exchange: &mut Exchange,
        authority: &Authority,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        loop {
            let departure = self.held.departure.as_mut();
            let over = departure.and_then(|departure| {
                let is_over = departure.poll_draining(cx).is_ready();
                is_over.then(|| deadlines::left(departure))
            });
            let next = match &mut self.step {
                _ if let Some(reason) = over => Next::End(Err(reason.into())),
                Step::Failed(error) => {
                    let error = error.take();
                    let error = error.unwrap_or_else(|| Reason::UpstreamClosed.into());
                    Next::End(Err(error))
                }
                Step::Connecting(connecting) => {
                    let connected = std::task::ready!(connecting.as_mut().poll(cx));
                    let to = (&self.cluster, authority);
                    self.held
                        .lend(exchange, |exchange| after_connect(exchange, to, connected))
                }
                Step::Sent(answer, reused) => {
                    let sent = std::task::ready!(answer.as_mut().poll(cx));
                    let reused = *reused;
                    self.held
                        .lend(exchange, |exchange| after_sent(exchange, sent, reused))
                }
                Step::Peeking(response) => {
                    let Some((_, body)) = response else {
                        return Poll::Pending; // it was handed on
                    };
                    let first = std::task::ready!(retry::poll_first_frame(body, cx));
                    let Some(response) = response.take() else {
                        return Poll::Pending;
                    };
                    let peeked = |exchange: &mut Exchange| exchange.peeked(response, first);
                    Next::End(self.held.lend(exchange, peeked))
                }
            };
            match next {
                Next::Connect => self.connect(exchange, authority),
                Next::End(outcome) => return Poll::Ready(outcome),
                Next::Step(step) => {
                    if let Step::Sent(..) = step {
                        self.began = Some(Instant::now());
                    }
                    self.step = step;
                }
            }
        }
    }
}

/// What a step led to.
enum Next {
    /// Another connection is to be tried.
    Connect,
    End(Outcome),
    Step(Step),
}

fn begin(exchange: &mut Exchange, cluster: &mut ClusterHandle, authority: &Authority) -> Step {
    loop {
        exchange.begin_connection();
        let Picked {
            config,
            outcomes,
            host,
        } = exchange.pick(cluster);
        let Some(host) = host else {
            return Step::Failed(Some(Reason::NoHealthyUpstream.into()));
        };
        if let Some(outcomes) = outcomes {
            match exchange.admit(cluster, outcomes, &host) {
                Ok(()) => {}
                Err(Refused::Elsewhere(fallback)) => {
                    *cluster = fallback;
                    continue;
                }
                Err(Refused::OtherMember) => continue,
                Err(Refused::With(reason)) => return Step::Failed(Some(reason.into())),
            }
        }
        let wanted = exchange.wanted(&config, &host, authority);
        exchange.begin_at(&host);
        return match exchange.take_idle(&host, &wanted) {
            Ok(true) => send(exchange, (cluster, authority)),
            Ok(false) => Step::Connecting(connecting(exchange, cluster, (config, host), wanted)),
            Err(overflow) => Step::Failed(Some(overflow.into())),
        };
    }
}

fn connecting(
    exchange: &Exchange,
    cluster: &ClusterHandle,
    (config, host): (Arc<config::Cluster>, Arc<Host>),
    wanted: Wanted,
) -> Connecting {
    let connection = Rc::clone(&exchange.connection);
    let cluster = cluster.clone();
    Box::pin(async move {
        let pools = &connection.worker.pools;
        let how = (wanted, &connection.downstream);
        pools.connect(&config, &cluster, &host, how).await
    })
}

fn after_connect(
    exchange: &mut Exchange,
    to: (&ClusterHandle, &Authority),
    connected: Result<Lease, ConnectFailure>,
) -> Next {
    let Some(host) = exchange.host.clone() else {
        return Next::Connect;
    };
    match connected {
        Ok(lease) => {
            exchange.lease = Some(lease);
            if exchange.connections < CONNECTIONS_MAX && exchange.has_obsolete_lease(&host) {
                exchange.lease = None;
                return Next::Connect; // it left while we connected
            }
            Next::Step(send(exchange, to))
        }
        Err(failure) => {
            let cluster = to.0;
            let config = cluster.load().config.clone();
            let reason = exchange.not_connected((cluster, &config, &host), &failure);
            Next::End(Err(reason.into()))
        }
    }
}

fn send(exchange: &mut Exchange, (cluster, authority): (&ClusterHandle, &Authority)) -> Step {
    let Some(host) = exchange.host.clone() else {
        return Step::Failed(None);
    };
    let config = cluster.load().config.clone();
    let began = Instant::now();
    exchange.begin_upstream(cluster, began);
    exchange.begin_sample(&config, began);
    exchange.begin_report();
    exchange.shape(&host, authority);
    let (Some(request), Some(lease)) = (exchange.request.take(), &mut exchange.lease) else {
        return Step::Failed(None);
    };
    let reused = lease.is_reused();
    match lease {
        Lease::Http1(lease) => Step::Sent(Box::pin(lease.send(request, None)), reused),
        Lease::Http2(lease) => Step::Sent(Box::pin(lease.send(request)), reused),
    }
}

fn after_sent(exchange: &mut Exchange, sent: Sent, reused: bool) -> Next {
    match exchange.take_sent(Ok(sent), reused) {
        Ok(None) => Next::Connect,
        Ok(Some(response)) => {
            let retrying = exchange.retrying.as_ref();
            let is_grpc = exchange.is_grpc;
            if is_grpc && retrying.is_some_and(|kept| kept.minds_more_than(&response)) {
                return Next::Step(Step::Peeking(Some(response.into_parts())));
            }
            Next::End(Ok(response))
        }
        Err(reason) => Next::End(Err(reason.into())),
    }
}
