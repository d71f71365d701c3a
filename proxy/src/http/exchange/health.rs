//! What the health of a host learns from attempts: what they were answered, and that they were not.

use std::sync::Arc;

use http::HeaderName;
use http::HeaderValue;
use http::response;

use crate::config;
use crate::http::codec::unfit;
use crate::http::exchange::Exchange;
use crate::http::router;
use crate::telemetry::ResponseFlag;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::health::HostHealth;
use crate::upstream::health::outlier::Report;
use crate::upstream::pool::Lease;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Statuses of HTTP that stand for those of gRPC, from OK to UNAUTHENTICATED: Envoy's.
const OF_GRPC: [u16; 17] = [
    200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/// An attempt whose host is judged by what becomes of it.
#[derive(Debug)]
pub(super) struct Judged {
    /// Of the request.
    id: Option<HeaderValue>,
    is_answered: bool,
}

impl Exchange {
    /// An attempt has its connection.
    pub(super) fn begin_report(&mut self) {
        let host = self.host.as_ref().filter(|host| host.is_judged());
        if let (Some(host), Some(counts)) = (host, &self.counts) {
            if host.minds_connections() {
                host.report(counts, Report::Connected, None);
            }
            let judged = Judged {
                id: self.id_of_request().cloned(),
                is_answered: false,
            };
            self.judged = Some(judged);
        }
    }

    /// Tells the host of the attempt.
    fn report(&self, judged: &Judged, report: Report) {
        if let (Some(host), Some(counts)) = (&self.host, &self.counts) {
            let id = judged.id.as_ref().map(HeaderValue::as_bytes);
            host.report(counts, report, id);
        }
    }

    /// The head of a response came.
    pub(super) fn report_head(&mut self, head: &response::Parts) {
        let host = self.host.as_ref();
        let Some(health) = host.and_then(|host| host.health()) else {
            return;
        };
        let protocol = self.lease.as_ref().map(Lease::protocol);
        if health.checked.is_some()
            && protocol.is_some_and(|protocol| unfit::is_said(head, protocol))
        {
            health.say_unfit();
        }
        if let Some(judged) = &self.judged {
            let status = self.status_told(health, head);
            self.report(judged, Report::Answered(status));
            if health.minds_degraded() && status < 500 && head.headers.contains_key(DEGRADED) {
                health.say_degraded();
            }
        }
        if let Some(judged) = &mut self.judged {
            judged.is_answered = true;
        }
    }

    /// An attempt has ended.
    pub(super) fn report_end(&mut self, failed: bool) {
        let Some(judged) = self.judged.take() else {
            return;
        };
        let is_answered = judged.is_answered;
        let has = |flag| self.flags.contains(flag);
        let is_broken = has(ResponseFlag::UpstreamConnectionTermination)
            || has(ResponseFlag::UpstreamRemoteReset)
            || has(ResponseFlag::UpstreamProtocolError);
        let is_slow = has(ResponseFlag::UpstreamRequestTimeout);
        let has_left = has(ResponseFlag::DownstreamConnectionTermination);
        if failed && is_slow && !is_answered {
            self.report(&judged, Report::TimedOut);
        } else if failed && !has_left && (is_broken || !is_answered) {
            self.report(&judged, Report::Unreached);
        }
    }

    /// An attempt took too long, and another one follows.
    pub(super) fn report_slow(&mut self) {
        if let Some(judged) = self.judged.take() {
            self.report(&judged, Report::TimedOut);
        }
    }

    /// No connection could be made for an attempt. Envoy does not tell here what was only too slow.
    pub(super) fn report_unreached(
        &self,
        (cluster, config, host): (&ClusterHandle, &Arc<config::Cluster>, &Arc<Host>),
    ) {
        if host.is_judged() {
            let pools = &self.connection.worker.pools;
            let counts = pools.counts(config, cluster, host);
            let id = self.id_of_request().map(HeaderValue::as_bytes);
            host.report(&counts, Report::Unreached, id);
        }
    }

    fn id_of_request(&self) -> Option<&HeaderValue> {
        let request = self.request.as_ref().filter(|_| self.may_have_id);
        request?.headers().get(REQUEST_ID)
    }

    /// The status of a response: for gRPC without a message that of the call, and what the cluster says is an
    /// error, or none, has one that is or is none.
    fn status_told(&self, health: &HostHealth, head: &response::Parts) -> u16 {
        let grpc = self.is_grpc.then(|| head.headers.get(GRPC_STATUS));
        let Some(grpc) = grpc.flatten() else {
            let status = head.status.as_u16();
            let is_error = (health.errors())
                .map(|errors| router::response_fits(errors, (head.status, &head.headers)));
            return match is_error {
                None => status,
                Some(true) => status.max(500),
                Some(false) => 200,
            };
        };
        let number = grpc.to_str().ok().and_then(|text| text.parse().ok());
        let status = number.and_then(|number: usize| OF_GRPC.get(number));
        status.copied().unwrap_or(500)
    }
}
