//! The entry a listener's own access logs get of each connection, however far it came and however it
//! ended. Of a stream of TCP it says what the stream's entry says, and is written with that.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::downstream::Downstream;
use crate::http::connection_manager::Carried;
use crate::telemetry::ResponseFlag;
use crate::telemetry::ResponseFlags;
use crate::telemetry::access_log::ExchangeRecord;
use crate::telemetry::access_log::Logger;
use crate::tls::Failure;
use crate::tls::failure::Kind;

/// Written when it is dropped; of a listener without logs it is nothing.
#[derive(Debug)]
pub(super) struct Entry(Option<Box<Known>>);

/// What is known of the connection.
#[derive(Debug)]
struct Known {
    loggers: Arc<Vec<Logger>>,
    start: SystemTime,
    born: Instant,
    downstream: Downstream,
    flags: ResponseFlags,
    details: Option<&'static str>,
    termination_details: Option<&'static str>,
    transport_failure: Option<Box<str>>,
    carried: Carried,
}

impl Entry {
    /// Of a connection that was accepted just now.
    pub(super) fn new(loggers: &Arc<Vec<Logger>>, downstream: &Downstream) -> Self {
        if loggers.is_empty() {
            return Self(None);
        }
        Self(Some(Box::new(Known {
            loggers: Arc::clone(loggers),
            #[expect(clippy::disallowed_methods, reason = "for the access log")]
            start: SystemTime::now(),
            born: Instant::now(),
            downstream: downstream.clone(),
            flags: ResponseFlags::NONE,
            details: None,
            termination_details: None,
            transport_failure: None,
            carried: Carried::default(),
        })))
    }

    /// More was found out of the client.
    pub(super) fn learn(&mut self, downstream: &Downstream) {
        if let Some(known) = &mut self.0 {
            known.downstream = downstream.clone();
        }
    }

    /// No filter chain is for it.
    pub(super) fn has_no_chain(&mut self) {
        if let Some(known) = &mut self.0 {
            known.flags.insert(ResponseFlag::NoRouteFound);
            known.details = Some("filter_chain_not_found");
        }
    }

    /// The client's transport failed.
    pub(super) fn failed(&mut self, failure: &Failure) {
        if let Some(known) = &mut self.0 {
            known.transport_failure = failure.reason();
            known.termination_details = termination_details(failure);
        }
    }

    /// What its connection manager carried.
    pub(super) fn carried(&mut self, carried: Carried) {
        if let Some(known) = &mut self.0 {
            known.carried = carried;
        }
    }

    /// Somebody else writes it.
    pub(super) fn hand_over(&mut self) -> Option<Arc<Vec<Logger>>> {
        self.0
            .take()
            .map(|mut known| std::mem::take(&mut known.loggers))
    }
}

/// Why this side ended a connection whose transport failed, in Envoy's words.
pub(super) fn termination_details(failure: &Failure) -> Option<&'static str> {
    (failure.kind == Kind::Timeout).then_some("transport socket timeout was reached")
}

impl Drop for Known {
    fn drop(&mut self) {
        if self.loggers.is_empty() {
            return; // it was handed over
        }
        let Carried {
            received,
            sent,
            protocol,
            is_broken,
        } = self.carried;
        if is_broken {
            self.flags.insert(ResponseFlag::DownstreamProtocolError);
        }
        let downstream = &self.downstream;
        let record = ExchangeRecord {
            duration: Some(self.born.elapsed()),
            protocol,
            response_code_details: self.details,
            flags: self.flags,
            connection_termination_details: self.termination_details,
            bytes_received: received,
            bytes_sent: sent,
            connection_id: downstream.connection_id,
            downstream_direct_remote_address: downstream.direct_peer,
            downstream_remote_address: downstream.peer,
            downstream_local_address: downstream.local,
            requested_server_name: downstream.found().server_name.as_deref(),
            downstream_transport_failure_reason: self.transport_failure.as_deref(),
            metadata: &downstream.found().metadata,
            state: &downstream.found().metadata,
            downstream_tls: downstream.tls.as_deref(),
            ..ExchangeRecord::new(self.start)
        };
        for logger in self.loggers.iter() {
            logger.log(&record);
        }
    }
}
