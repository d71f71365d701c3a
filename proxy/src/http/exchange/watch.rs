//! Breakers that look at what came of requests: who asks them, and who tells them.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::response;
use tokio::time::Instant;

use crate::config::outcome_breaker::Fallback;
use crate::error::Reason;
use crate::http::exchange::Exchange;
use crate::http::exchange::measure::is_failure;
use crate::http::exchange::retry;
use crate::http::local_reply;
use crate::http::local_reply::LocalReply;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::breaker::outcome::Breaker;
use crate::upstream::breaker::outcome::Cause;
use crate::upstream::breaker::outcome::Ticket;

/// An attempt that breakers let pass, until its outcome is known. Dropped before, it was given up.
#[derive(Debug)]
pub(super) struct Watch {
    cluster: Ticket,
    host: Option<Ticket>,
    began: Instant,
}

impl Watch {
    /// A client that takes its time to send, until `sent`, does not make an upstream slow.
    fn end(self, failed: bool, sent: Instant, now: Instant) {
        let took = || now.saturating_duration_since(self.began.max(sent));
        let now = self.cluster.breaker().age(now);
        if let Some(host) = self.host {
            host.end(failed, took, now);
        }
        self.cluster.end(failed, took, now);
    }
}

/// What a refused attempt does.
pub(super) enum Refused {
    /// Tries this cluster.
    Elsewhere(ClusterHandle),
    /// Tries another member.
    OtherMember,
    /// Fails.
    With(Reason),
}

/// Members looked at besides the first when breakers of members are open: one that is free is found among a
/// few, and if there is none nobody is served sooner by looking longer.
const OTHERS_MAX: u8 = 4;

impl Exchange {
    /// Asks the breakers of the cluster and of the member. A request that came from another cluster goes
    /// no further.
    pub(super) fn admit(
        &mut self,
        cluster: &ClusterHandle,
        breaker: Arc<Breaker>,
        host: &Host,
    ) -> Result<(), Refused> {
        if self.watch.is_some() {
            self.watch = None; // the attempt before was not sent
        }
        let began = self.attempt_began();
        let admitted = match breaker.admit(began) {
            Ok(ticket) => ticket,
            Err(cause) => return Err(self.refused(cluster, cause)),
        };
        let own = match admitted.breaker().of_host(host) {
            None => None,
            Some(breaker) => match breaker.admit(began) {
                Ok(ticket) => Some(ticket),
                // Dropping what the cluster's breaker gave is giving up.
                Err(_) if self.others < OTHERS_MAX => {
                    self.others += 1;
                    self.undo_connection();
                    return Err(Refused::OtherMember);
                }
                Err(cause) => return Err(self.refused(cluster, cause)),
            },
        };
        self.watch = Some(Watch {
            cluster: admitted,
            host: own,
            began,
        });
        Ok(())
    }

    fn refused(&mut self, cluster: &ClusterHandle, cause: Cause) -> Refused {
        cluster.stats().upstream_rq_breaker_open().inc();
        self.undo_connection();
        match cluster.fallback().filter(|_| !self.fell_back) {
            Some(fallback) => {
                self.fall_back(&fallback);
                Refused::Elsewhere(fallback)
            }
            None => Refused::With(Reason::BreakerOpen(cause.details())),
        }
    }

    /// Goes to this cluster from now on.
    fn fall_back(&mut self, to: &ClusterHandle) {
        let from = self.cluster.replace(to.clone());
        if std::mem::take(&mut self.was_sent)
            && let Some(from) = from
        {
            from.stats().upstream_rq_active().dec(); // of an attempt before
        }
        self.fell_back = true;
        self.others = 0;
    }

    /// The head of its response came.
    pub(super) fn watch_head(&mut self, head: &response::Parts, now: Instant) {
        if self.watch.is_some() {
            self.end_watch(is_failure(head, self.is_grpc), now);
        }
    }

    /// It ended before that; if that was not the upstream's doing it does not count.
    pub(super) fn watch_failure(&mut self, reason: Reason) {
        if self.watch.is_some() && is_of_upstream(reason) {
            self.end_watch(true, Instant::now());
        }
        self.watch = None;
    }

    fn end_watch(&mut self, failed: bool, now: Instant) {
        if let Some(watch) = self.watch.take() {
            watch.end(failed, self.deadlines.request_moved(), now);
        }
    }

    /// What the cluster wants to be answered for a request that its breaker refused.
    pub(super) fn fallback_answer(&self, details: &'static str) -> Option<LocalReply> {
        let current = self.cluster.as_ref()?.load();
        let breaker = current.config.outcome_breaker.as_ref()?;
        let Some(Fallback::Answer {
            status,
            body,
            content_type,
        }) = &breaker.fallback
        else {
            return None;
        };
        let mut reply = local_reply::direct(*status, body, self.is_grpc);
        if let Some(kind) = content_type {
            let headers = reply.response.headers_mut();
            headers.insert(CONTENT_TYPE, kind.clone());
        }
        reply.details = details;
        Some(reply)
    }
}

/// Whether an attempt that got no response failed by the doing of its upstream.
fn is_of_upstream(reason: Reason) -> bool {
    match reason {
        Reason::CertificateEnded | Reason::HostLeft => false, // we ended it
        Reason::UpstreamTimeout => true,
        other => retry::is_of_attempt(other),
    }
}
