//! What balancing learns from an attempt: the time to the first byte of its response, whether the member
//! failed, and what it says of its load. A call of gRPC has failed if its status says so, be it in the head or in
//! trailers that come before any message.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::StatusCode;
use http::header::RETRY_AFTER;
use http::response;
use tokio::time::Instant;

use crate::config;
use crate::http::codec::Incoming;
use crate::http::exchange::Exchange;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::latency::Outcome;
use crate::upstream::load_report::LoadReport;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Statuses of gRPC that are the server's doing: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [&[u8]; 6] = [b"2", b"4", b"8", b"13", b"14", b"15"];

/// How far the measuring of an attempt has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Measured {
    /// It is not measured, or all was told.
    #[default]
    No,
    /// Its first byte is waited for since then.
    From(Instant),
    /// The head of a call of gRPC came after so long, and does not say what became of the call: its first
    /// message does, or its trailers.
    Head(Duration),
}

impl Exchange {
    /// An attempt at a member that is measured has a connection, and lasts since `began`.
    pub(super) fn begin_sample(&mut self, config: &Arc<config::Cluster>, began: Instant) {
        let balancing = &config.load_balancing;
        let wanted = balancing.load_reports();
        let counts = self.counts.as_ref();
        let may_come = || counts.is_some_and(|counts| counts.may_report());
        let is_wanted = wanted.is_some_and(|wanted| !wanted.are_extra || may_come());
        self.reports_to = is_wanted.then(|| Arc::clone(config));
        if !balancing.measures_latency() {
            return;
        }
        if let Some(counts) = &self.counts {
            counts.begin_sample();
            self.measured = Measured::From(began);
        }
    }

    /// The head of its response came.
    pub(super) fn sample_head(&mut self, head: &response::Parts, now: Instant) {
        self.report_head(head);
        self.watch_head(head, now);
        self.read_load_report(&head.headers);
        let Measured::From(from) = std::mem::take(&mut self.measured) else {
            return;
        };
        let failed = is_failure(head, self.is_grpc);
        let says_nothing = self.is_grpc && !failed && !head.headers.contains_key(GRPC_STATUS);
        if let Some(counts) = self.counts.as_ref().filter(|_| says_nothing) {
            counts.end_sample(None); // nobody waits for the first byte any more
            self.measured = Measured::Head(now - from);
            return;
        }
        let spare_for = failed.then(|| spare_for(&head.headers)).flatten();
        self.take_sample(now - from, failed, spare_for);
    }

    /// The first piece of its body came, if it is measured.
    pub(super) fn sample_message(&mut self) {
        self.take_late(false, None);
    }

    /// Its trailers came. Who says after a head at once that the call failed is no fast host.
    pub(super) fn sample_trailers(&mut self, trailers: &HeaderMap) {
        let failed = is_failed_call(trailers);
        self.take_late(failed, failed.then(|| spare_for(trailers)).flatten());
    }

    /// A response came that goes no further, with what was looked at of its body.
    pub(super) fn sample_dropped(&mut self, head: &response::Parts, body: &Incoming) {
        self.sample_head(head, Instant::now());
        match body.peeked_trailers() {
            Some(trailers) => self.sample_trailers(trailers),
            None => self.sample_message(),
        }
    }

    /// The server says how busy it is, in its head or, if not there, in its trailers. What it says goes on
    /// to the client, as in Envoy.
    pub(super) fn read_load_report(&mut self, fields: &HeaderMap) {
        let Some(config) = &self.reports_to else {
            return;
        };
        let Some(wanted) = config.load_balancing.load_reports() else {
            return;
        };
        let stats = self.cluster.as_ref().map(|cluster| cluster.stats());
        match LoadReport::read(fields, wanted) {
            Ok(None) => return,
            Ok(Some(report)) => {
                let weight = report.weight(wanted.error_penalty);
                if let (Some(host), Some(counts)) = (&self.host, &self.counts) {
                    host.take_report(counts, &report, weight);
                }
                stats
                    .into_iter()
                    .for_each(|stats| stats.lb_load_report().inc());
            }
            Err(_) => {
                let count = |stats: &Arc<ClusterStats>| stats.lb_load_report_invalid().inc();
                stats.into_iter().for_each(count);
            }
        }
        self.reports_to = None; // one of each attempt
    }

    /// It ended before that.
    pub(super) fn sample_end(&mut self, failed: bool) {
        match self.measured {
            Measured::No => return,
            Measured::From(from) if failed => self.take_sample(from.elapsed(), true, None),
            Measured::From(_) => {
                let counts = self.counts.as_ref();
                counts
                    .into_iter()
                    .for_each(|counts| counts.end_sample(None));
            }
            Measured::Head(_) => self.take_late(failed, None),
        }
        self.measured = Measured::No;
    }

    /// What became of a call whose head came.
    fn take_late(&mut self, failed: bool, spare_for: Option<Duration>) {
        let Measured::Head(took) = self.measured else {
            return;
        };
        self.measured = Measured::No;
        let counts = self.counts.as_ref();
        counts.into_iter().for_each(|counts| counts.begin_sample());
        self.take_sample(took, failed, spare_for);
    }

    fn take_sample(&self, took: Duration, failed: bool, spare_for: Option<Duration>) {
        let class = self.route.as_ref().map_or(0, |(_, place)| place.class());
        if let Some(counts) = &self.counts {
            counts.end_sample(Some(&Outcome {
                class,
                took,
                failed,
                spare_for,
            }));
        }
    }
}

/// Of the server's making: 5xx, 429, or for a call of gRPC its status, if that is all.
pub(super) fn is_failure(head: &response::Parts, is_grpc: bool) -> bool {
    head.status.is_server_error()
        || head.status == StatusCode::TOO_MANY_REQUESTS
        || (is_grpc && is_failed_call(&head.headers))
}

/// The same of a call that has a status.
fn is_failed_call(fields: &HeaderMap) -> bool {
    let status = fields.get(GRPC_STATUS);
    status.is_some_and(|status| GRPC_FAILURES.contains(&status.as_bytes()))
}

/// What a server asks for with its failure. A date in `retry-after` is not read: whoever is overloaded
/// says seconds.
fn spare_for(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let pushback = number(GRPC_PUSHBACK).map(Duration::from_millis);
    pushback.or_else(|| number(RETRY_AFTER).map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let builder = Response::builder().status(status);
        let add =
            |builder: response::Builder, field: &(&str, &str)| builder.header(field.0, field.1);
        let response = fields.iter().fold(builder, add).body(()).expect("valid");
        response.into_parts().0
    }

    #[test]
    fn failures_are_the_servers_doing() {
        for status in [500, 502, 503, 504, 429] {
            assert!(is_failure(&head(status, &[]), false), "{status}");
        }
        for status in [200, 304, 404, 400, 408] {
            assert!(!is_failure(&head(status, &[]), false), "{status}");
        }
        let of_call = |status| is_failure(&head(200, &[("grpc-status", status)]), true);
        assert!(of_call("14") && !of_call("5"));
        assert!(!is_failure(&head(200, &[("grpc-status", "14")]), false));
    }

    #[test]
    fn a_server_may_ask_to_be_spared() {
        let asked = |fields: &[(&str, &str)]| spare_for(&head(503, fields).headers);
        assert_eq!(
            asked(&[("retry-after", " 7 ")]),
            Some(Duration::from_secs(7))
        );
        let both = [("retry-after", "7"), ("grpc-retry-pushback-ms", "20")];
        assert_eq!(asked(&both), Some(Duration::from_millis(20)));
        for nonsense in ["-1", "soon", "1e9", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(asked(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }
}
