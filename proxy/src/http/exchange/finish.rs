//! The end of an exchange: counted and logged once, whichever way it came.

use std::rc::Rc;
use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::HeaderName;
use http::Method;
use http::Request;
use http::Version;
use http::request::Parts;
use http::uri::PathAndQuery;
use http_body::Body;
use tokio::time::Instant;

use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::circuit_breakers::Priority;
use crate::config::filter_state::StateValue;
use crate::error::Reason;
use crate::given_state::GivenState;
use crate::http::codec::Incoming;
use crate::http::codec::Progress;
use crate::http::codec::Protocol;
use crate::http::connection_manager::Connection;
use crate::http::exchange::Exchange;
use crate::http::exchange::deadlines::Deadlines;
use crate::http::exchange::measure::Measured;
use crate::http::exchange::prepare::Authority;
use crate::http::exchange::upgrade;
use crate::http::hash::Hashed;
use crate::http::headers::Values;
use crate::http::http1::decode::Violation;
use crate::telemetry::ResponseFlag;
use crate::telemetry::ResponseFlags;
use crate::telemetry::access_log;
use crate::telemetry::access_log::ExchangeRecord;
use crate::telemetry::access_log::Occasion;
use crate::telemetry::access_log::RequestFacts;
use crate::telemetry::stats::ClusterStats;

/// What a log entry needs and the exchange itself does not keep. Headers are only those the
/// configured formats name.
#[derive(Debug)]
pub(super) struct LogFacts {
    start: SystemTime,
    version: Version,
    method: Method,
    path: Option<PathAndQuery>,
    authority: Option<Authority>,
    request: HeaderMap,
    response: HeaderMap,
    trailers: Option<HeaderMap>,
    head_bytes: u64,
}

impl Exchange {
    pub(super) fn start(connection: Rc<Connection>, request: &Request<Incoming>) -> Self {
        let now = Instant::now();
        connection.enter();
        let stats = &connection.manager.stats;
        stats.downstream_rq_total().inc();
        stats.downstream_rq_active().inc();
        match connection.protocol {
            Protocol::Http1 => stats.downstream_rq_http1_total().inc(),
            Protocol::Http2 => stats.downstream_rq_http2_total().inc(),
        }
        let progress = (!request.body().is_end_stream())
            .then(|| Rc::new(Progress::new(now, &connection.held)));
        let log =
            (!connection.manager.loggers.is_empty()).then(|| Box::new(LogFacts::new(request)));
        let reducing = connection.reducing.clone();
        let limits = (&*connection.manager.config, reducing);
        Self {
            deadlines: Deadlines::new(limits, progress, now),
            connection,
            route: None,
            cluster: None,
            hashed: Hashed::default(),
            criteria: None,
            session: None,
            host: None,
            request: None,
            lease: None,
            kept_head: None,
            retrying: None,
            response_tells_attempts: false,
            counts: None,
            measured: Measured::No,
            state: GivenState::default(),
            reports_to: None,
            judged: None,
            watch: None,
            upgrading: None,
            others: 0,
            fell_back: false,
            upstream_local: None,
            upstream_tls: None,
            upstream_failure: None,
            attempts: 0,
            connections: 0,
            priority: Priority::default(),
            was_sent: false,
            is_grpc: false,
            is_head: request.method() == Method::HEAD,
            scheme: "http",
            request_id: None,
            client: None,
            is_internal: false,
            may_have_id: false,
            status: 0,
            flags: ResponseFlags::NONE,
            details: "",
            sent: 0,
            complete: false,
            log,
        }
    }

    fn record<'a>(&'a self, log: &'a LogFacts) -> ExchangeRecord<'a> {
        let deadlines = &self.deadlines;
        let found = self
            .route
            .as_ref()
            .and_then(|(table, place)| table.at(*place));
        let since = |end: Instant| end.saturating_duration_since(deadlines.started);
        let answered = deadlines.answered.get();
        let duration = deadlines.started.elapsed();
        ExchangeRecord {
            duration: Some(duration),
            request_duration: Some(
                deadlines
                    .progress
                    .as_ref()
                    .map_or(Duration::ZERO, |p| since(p.last.get())),
            ),
            response_duration: answered.map(since),
            response_tx_duration: answered.map(|at| duration.saturating_sub(since(at))),
            protocol: Some(log.version),
            request: Some(log.request_facts(self.scheme)),
            response_code: Some(self.status),
            response_code_details: Some(self.details),
            response_headers: Some(&log.response),
            response_trailers: log.trailers.as_ref(),
            flags: self.flags,
            bytes_received: deadlines
                .progress
                .as_ref()
                .map_or(0, |progress| progress.bytes.get()),
            bytes_sent: self.sent,
            upstream_host: self.host.as_ref().map(|host| &host.address),
            upstream_local_address: self.upstream_local,
            upstream_cluster: self.cluster.as_ref().map(|cluster| &**cluster.name()),
            upstream_transport_failure_reason: self.upstream_failure.as_deref(),
            attempts: self.attempts,
            route_name: found.as_ref().map(|found| &*found.route.name),
            virtual_host_name: found.as_ref().map(|found| &*found.virtual_host.name),
            connection_id: self.connection.downstream.connection_id,
            downstream_direct_remote_address: self.connection.downstream.direct_peer,
            downstream_remote_address: self.client.or(self.connection.downstream.peer),
            downstream_local_address: self.connection.downstream.local,
            requested_server_name: self.connection.downstream.found().server_name.as_deref(),
            downstream_tls: self.connection.downstream.tls.as_deref(),
            state: &self.connection.downstream.found().metadata,
            upstream_tls: self.upstream_tls.as_deref(),
            ..ExchangeRecord::new(log.start)
        }
    }

    fn count(&self, took: Duration) {
        let stats = &self.connection.manager.stats;
        stats.downstream_rq_active().dec();
        if self.upgrading.is_some_and(|upgrading| upgrading.is_allowed) {
            stats.downstream_cx_upgrades_active().dec();
        }
        if self.status != 0 {
            stats.record_response(self.status);
        }
        stats.downstream_rq_time().record(took);
        if self
            .flags
            .contains(ResponseFlag::DownstreamConnectionTermination)
        {
            stats.downstream_rq_rx_reset().inc();
        }
        if self.flags.contains(ResponseFlag::NoRouteFound) {
            stats.no_route().inc();
        }
        if self.flags.contains(ResponseFlag::StreamIdleTimeout) {
            stats.downstream_rq_idle_timeout().inc();
        }
        if !self.flags.is_empty() {
            stats.downstream_rq_flag().record(self.flags);
        }
        if self.attempts > 0 {
            self.count_upstream(took);
        }
    }

    /// Counts the end of an attempt at its host.
    pub(super) fn end_attempt(&mut self, failed: bool) {
        let left = ResponseFlag::DownstreamConnectionTermination;
        self.sample_end(failed && !self.flags.contains(left));
        self.report_end(failed);
        let Some(counts) = self.counts.take() else {
            return;
        };
        counts.end_request();
        if failed {
            counts.rq_error.inc();
        } else {
            counts.rq_success.inc();
        }
        if self.flags.contains(ResponseFlag::UpstreamRequestTimeout) {
            counts.rq_timeout.inc();
        }
    }

    fn count_upstream(&self, took: Duration) {
        let Some(stats) = self.cluster.as_ref().map(|cluster| cluster.stats()) else {
            return;
        };
        if self.was_sent {
            stats.upstream_rq_active().dec();
            stats.upstream_rq_time().record(took);
        }
        if self.deadlines.answered.get().is_some() {
            stats.record_response(self.status);
        }
        if self.flags.contains(ResponseFlag::UpstreamRequestTimeout) {
            self.count_timeout(stats);
        }
        if self.details == Reason::HostLeft.telling().details {
            stats.upstream_rq_drain_cut().inc();
        }
        if self.flags.contains(ResponseFlag::UpstreamRemoteReset)
            && upgrade::is_counted_reset(self.details)
        {
            stats.upstream_rq_rx_reset().inc();
        }
        if self.flags.contains(ResponseFlag::NoHealthyUpstream) {
            stats.upstream_cx_none_healthy().inc();
        }
        if !self.complete
            && self
                .flags
                .contains(ResponseFlag::DownstreamConnectionTermination)
        {
            stats.upstream_rq_tx_reset().inc();
        }
    }
}

impl Exchange {
    /// Counts what took too long: all of it, or one attempt.
    fn count_timeout(&self, stats: &ClusterStats) {
        if self.details == Reason::PerTryTimeout.telling().details {
            stats.upstream_rq_per_try_timeout().inc();
        } else if self.details == Reason::PerTryIdleTimeout.telling().details {
            stats.upstream_rq_per_try_idle_timeout().inc();
        } else {
            stats.upstream_rq_timeout().inc();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_too_long = || self.details == Reason::DurationTimeout.telling().details;
        if !self.complete && self.flags.is_empty() && !is_too_long() {
            self.flags
                .insert(ResponseFlag::DownstreamConnectionTermination);
            self.details = Reason::DownstreamGone.telling().details;
        }
        self.end_attempt(
            !self.complete || self.status >= 500 || self.deadlines.answered.get().is_none(),
        );
        let now = Instant::now();
        self.count(now - self.deadlines.started);
        self.connection.leave(now);
        if let Some(log) = self.log.take() {
            let record = ExchangeRecord {
                occasion: Occasion::DownstreamEnd,
                ..self.record(&log)
            };
            for logger in &self.connection.manager.loggers {
                logger.log(&record);
            }
        }
    }
}

impl LogFacts {
    fn new(request: &Request<Incoming>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the access log tells the time of day"
        )]
        let start = SystemTime::now();
        let fields: usize = request
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let target = request.uri().path_and_query().cloned();
        let line =
            request.method().as_str().len() + target.as_ref().map_or(1, |t| t.as_str().len()) + 12;
        Self {
            start,
            version: request.version(),
            method: request.method().clone(),
            path: target,
            authority: None,
            request: HeaderMap::new(),
            response: HeaderMap::new(),
            trailers: None,
            head_bytes: (fields + line) as u64,
        }
    }

    /// For edits of headers, which no log sees.
    fn of_parts(start: SystemTime, parts: &Parts, authority: &Authority) -> Self {
        Self {
            start,
            version: parts.version,
            method: parts.method.clone(),
            path: parts.uri.path_and_query().cloned(),
            authority: Some(authority.clone()),
            request: parts.headers.clone(),
            response: HeaderMap::new(),
            trailers: None,
            head_bytes: 0,
        }
    }

    fn request_facts(&self, scheme: &'static str) -> RequestFacts<'_> {
        RequestFacts {
            method: self.method.as_str(),
            path: self.path.as_ref().map_or("", PathAndQuery::as_str),
            authority: self.authority.as_ref().map_or("", Authority::as_str),
            scheme,
            headers: &self.request,
            headers_bytes: self.head_bytes,
        }
    }
}

/// Keeps what the log names of a request.
pub(super) fn remember_request(exchange: &mut Exchange, parts: &Parts, authority: &Authority) {
    let Some(log) = &mut exchange.log else { return };
    log.authority = Some(authority.clone());
    copy(
        &exchange.connection.manager.logged.request,
        &parts.headers,
        &mut log.request,
    );
}

/// Keeps what edits of the response may name of the request. Allocates; a request whose answer is
/// not edited does not come here.
pub(super) fn remember_for_edits(exchange: &mut Exchange, parts: &Parts, authority: &Authority) {
    if let Some(log) = &mut exchange.log {
        log.request = parts.headers.clone();
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "%START_TIME% is the time of day")]
    let start = SystemTime::now();
    exchange.log = Some(Box::new(LogFacts::of_parts(start, parts, authority)));
}

/// Keeps the status, and what the log names of a response.
pub(super) fn remember_response(exchange: &mut Exchange, parts: &http::response::Parts) {
    exchange.status = parts.status.as_u16();
    let Some(log) = &mut exchange.log else { return };
    copy(
        &exchange.connection.manager.logged.response,
        &parts.headers,
        &mut log.response,
    );
}

/// Keeps what the log names of the trailers.
pub(super) fn remember_trailers(exchange: &mut Exchange, trailers: &HeaderMap) {
    let Some(log) = &mut exchange.log else { return };
    let wanted = &exchange.connection.manager.logged.trailers;
    if !wanted.is_empty() {
        copy(wanted, trailers, log.trailers.get_or_insert_default());
    }
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        if let Some(value) = from.get(name) {
            to.insert(name.clone(), value.clone());
        }
    }
}

/// Logs a request that was refused before it became an exchange.
pub fn log_refused(connection: &Connection, violation: Violation) {
    let stats = &connection.manager.stats;
    stats.downstream_rq_total().inc();
    let status = violation.status().as_u16();
    stats.record_response(status);
    let mut flags = ResponseFlags::NONE;
    flags.insert(ResponseFlag::DownstreamProtocolError);
    stats.downstream_rq_flag().record(flags);
    if connection.manager.loggers.is_empty() {
        return;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the access log tells the time of day"
    )]
    let start = SystemTime::now();
    let record = ExchangeRecord {
        occasion: Occasion::DownstreamEnd,
        flags,
        response_code: Some(status),
        response_code_details: Some(violation.details()),
        connection_id: connection.downstream.connection_id,
        downstream_direct_remote_address: connection.downstream.direct_peer,
        downstream_remote_address: connection.downstream.peer,
        downstream_local_address: connection.downstream.local,
        requested_server_name: connection.downstream.found().server_name.as_deref(),
        downstream_tls: connection.downstream.tls.as_deref(),
        state: &connection.downstream.found().metadata,
        ..ExchangeRecord::new(start)
    };
    for logger in &connection.manager.loggers {
        logger.log(&record);
    }
}

/// The facts of an exchange in progress, for `%COMMAND%` in header edits.
pub(super) struct Facts<'a> {
    exchange: &'a Exchange,
    log: LogFacts,
}

impl<'a> Facts<'a> {
    pub(super) fn of_request(exchange: &'a Exchange, parts: &Parts, authority: &Authority) -> Self {
        #[expect(clippy::disallowed_methods, reason = "%START_TIME% is the time of day")]
        let start = SystemTime::now();
        Self {
            exchange,
            log: LogFacts::of_parts(start, parts, authority),
        }
    }

    pub(super) fn of_response(exchange: &'a Exchange, parts: &http::response::Parts) -> Self {
        #[expect(clippy::disallowed_methods, reason = "%START_TIME% is the time of day")]
        let now = SystemTime::now();
        let log = LogFacts {
            start: exchange.log.as_ref().map_or(now, |log| log.start),
            version: exchange
                .log
                .as_ref()
                .map_or(parts.version, |log| log.version),
            method: exchange
                .log
                .as_ref()
                .map_or(Method::GET, |log| log.method.clone()),
            path: exchange.log.as_ref().and_then(|log| log.path.clone()),
            authority: exchange.log.as_ref().and_then(|log| log.authority.clone()),
            request: exchange
                .log
                .as_ref()
                .map(|log| log.request.clone())
                .unwrap_or_default(),
            response: parts.headers.clone(),
            trailers: None,
            head_bytes: 0,
        };
        Self { exchange, log }
    }
}

impl Facts<'_> {
    /// What these make of the request.
    pub(super) fn give(&self, values: &[StateValue], state: &mut GivenState) {
        state.give(values, &self.exchange.record(&self.log));
    }
}

impl Values for Facts<'_> {
    fn value(&self, command: &Command, out: &mut Vec<u8>) {
        let template = Template {
            parts: vec![TemplatePart::Command(command.clone(), None)],
        };
        access_log::eval(&template, &self.exchange.record(&self.log), out);
    }
}
