//! What the health of a host learns from attempts: what they were answered, and that they were not.

use std::sync::Arc;

use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::response;

use crate::config;
use crate::http::exchange::Exchange;
use crate::telemetry::ResponseFlag;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::health::outlier::Report;

/// A host says of itself that it fails its health checks from now on.
const FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Statuses of HTTP that stand for those of gRPC, from OK to UNAUTHENTICATED: Envoy's.
const OF_GRPC: [u16; 17] = [
    200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/// An attempt at a host that is judged by what becomes of it.
#[derive(Debug)]
pub(super) struct Judged {
    host: Arc<Host>,
    counts: Arc<HostCounts>,
    id: Option<HeaderValue>,
    is_answered: bool,
}

impl Judged {
    fn report(&self, report: Report) {
        let id = self.id.as_ref().map(HeaderValue::as_bytes);
        self.host.report(&self.counts, report, id);
    }
}

impl Exchange {
    /// An attempt has its connection.
    pub(super) fn begin_report(&mut self) {
        let host = self.host.as_ref().filter(|host| host.is_judged());
        if let (Some(host), Some(counts)) = (host, &self.counts) {
            let judged = Judged {
                host: Arc::clone(host),
                counts: Arc::clone(counts),
                id: self.id_of_request(),
                is_answered: false,
            };
            judged.report(Report::Connected);
            self.judged = Some(judged);
        }
    }

    /// The head of a response came.
    pub(super) fn report_head(&mut self, head: &response::Parts) {
        let host = self.host.as_ref();
        let Some(health) = host.and_then(|host| host.health()) else {
            return;
        };
        if health.checked.is_some() && head.headers.contains_key(FAIL) {
            health.say_unfit();
        }
        let Some(mut judged) = self.judged.take() else {
            return;
        };
        judged.is_answered = true;
        judged.report(Report::Answered(self.status_told(head)));
        self.judged = Some(judged);
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
            judged.report(Report::TimedOut);
        } else if failed && !has_left && (is_broken || !is_answered) {
            judged.report(Report::Unreached);
        }
    }

    /// An attempt took too long, and another one follows.
    pub(super) fn report_slow(&mut self) {
        if let Some(judged) = self.judged.take() {
            judged.report(Report::TimedOut);
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
            let id = self.id_of_request();
            let id = id.as_ref().map(HeaderValue::as_bytes);
            host.report(&counts, Report::Unreached, id);
        }
    }

    fn id_of_request(&self) -> Option<HeaderValue> {
        let headers = self.request.as_ref().map(Request::headers);
        headers?.get(REQUEST_ID).cloned()
    }

    /// The status of a response, which for gRPC without a message is that of the call.
    fn status_told(&self, head: &response::Parts) -> u16 {
        let grpc = self.is_grpc.then(|| head.headers.get(GRPC_STATUS));
        let Some(grpc) = grpc.flatten() else {
            return head.status.as_u16();
        };
        let number = grpc.to_str().ok().and_then(|text| text.parse().ok());
        let status = number.and_then(|number: usize| OF_GRPC.get(number));
        status.copied().unwrap_or(500)
    }
}
