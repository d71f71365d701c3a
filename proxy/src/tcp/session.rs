//! What is known of a connection. However it ends, [`Session`] is dropped, and that is where it is
//! counted and logged, once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::config::subset::Criteria;
use crate::downstream::Downstream;
use crate::net::tls::Facts;
use crate::tcp::TcpManager;
use crate::tcp::announce::announce;
use crate::tcp::proxy::Counted;
use crate::tcp::relay::Relay;
use crate::telemetry::ResponseFlag;
use crate::telemetry::ResponseFlags;
use crate::telemetry::access_log::ExchangeRecord;
use crate::telemetry::access_log::Logger;
use crate::telemetry::access_log::Occasion;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;

/// Why the transport of a client failed.
#[derive(Debug)]
pub struct Refused {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub reason: Option<Box<str>>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub details: Option<&'static str>,
    /// How long it was tried.
    pub after: Duration,
}

/// One connection, from its filter chain to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) manager: Arc<TcpManager>,
    pub(super) downstream: Downstream,
    pub(super) cluster: Option<ClusterHandle>,
    /// What is asked of the cluster's member.
    pub(super) criteria: Option<Arc<Criteria>>,
    pub(super) host: Option<Arc<Host>>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) upstream_tls: Option<Arc<Facts>>,
    pub(super) attempts: u32,
    pub(super) flags: ResponseFlags,
    pub(super) failure: Option<Box<str>>,
    /// Those of its listener, which are written with the last entry.
    listener_loggers: Option<Arc<Vec<Logger>>>,
    /// Why the client's transport failed, and why this side ended it then.
    refused: Option<Box<Refused>>,
    /// What was read of the client before both sides stand.
    pub(super) early: Vec<u8>,
    /// Once both sides stand, with the count of the upstream's.
    pub(super) relay: Option<(Relay, Counted)>,
    start: SystemTime,
    pub(super) born: Instant,
    /// Bytes counted already: received, sent, and of both those spliced.
    counted: [u64; 3],
}

impl Session {
    pub(super) fn new(
        (manager, listener_loggers): (Arc<TcpManager>, Option<Arc<Vec<Logger>>>),
        downstream: Downstream,
    ) -> Self {
        manager.stats.downstream_cx_total().inc();
        manager.stats.downstream_cx_active().inc();
        Self {
            manager,
            downstream,
            cluster: None,
            criteria: None,
            host: None,
            upstream_local: None,
            upstream_tls: None,
            attempts: 0,
            flags: ResponseFlags::NONE,
            failure: None,
            listener_loggers,
            refused: None,
            early: Vec::new(),
            relay: None,
            #[expect(clippy::disallowed_methods, reason = "for the access log")]
            start: SystemTime::now(),
            born: Instant::now(),
            counted: [0; 3],
        }
    }

    pub(super) fn flag(&mut self, flag: ResponseFlag) {
        self.flags.insert(flag);
    }

    /// Adds what upstreams are to be told of the client beside what it told itself.
    pub(super) fn announce(&mut self) {
        let (config, start) = (&self.manager.config, self.start);
        announce(config, &mut self.downstream, |downstream| {
            of_client(downstream, start)
        });
    }

    /// Ends one whose client's transport failed.
    pub(super) fn refuse(mut self, refused: Refused) {
        let after = refused.after;
        self.start = self.start.checked_sub(after).unwrap_or(self.start);
        self.born = self.born.checked_sub(after).unwrap_or(self.born);
        self.refused = Some(Box::new(refused));
    }

    /// Writes an entry of what is known now.
    pub(super) fn log(&self, occasion: Occasion) {
        self.log_to(&self.manager.loggers, occasion);
    }

    fn log_to(&self, loggers: &[Logger], occasion: Occasion) {
        if loggers.is_empty() {
            return;
        }
        let [received, sent, _] = self.moved();
        let refused = self.refused.as_ref();
        let record = ExchangeRecord {
            occasion,
            duration: Some(self.born.elapsed()),
            flags: self.flags,
            bytes_received: received,
            bytes_sent: sent,
            upstream_host: self.host.as_ref().map(|host| &host.address),
            upstream_local_address: self.upstream_local,
            upstream_cluster: self.cluster.as_ref().map(|cluster| &**cluster.name()),
            upstream_transport_failure_reason: self.failure.as_deref(),
            attempts: self.attempts,
            upstream_tls: self.upstream_tls.as_deref(),
            connection_termination_details: refused.and_then(|refused| refused.details),
            downstream_transport_failure_reason: refused
                .and_then(|refused| refused.reason.as_deref()),
            ..of_client(&self.downstream, self.start)
        };
        for logger in loggers {
            logger.log(&record);
        }
    }

    /// Brings the bytes moved since the last time to the statistics, so that those of a long
    /// connection are not all counted at its end.
    pub(super) fn count(&mut self) {
        let now = self.moved();
        let [received, sent, spliced] =
            [0, 1, 2].map(|place: usize| now[place] - self.counted[place]);
        self.counted = now;
        let stats = &self.manager.stats;
        stats.downstream_cx_rx_bytes_total().add(received);
        stats.downstream_cx_tx_bytes_total().add(sent);
        stats.spliced_bytes_total().add(spliced);
        stats.copied_bytes_total().add(received + sent - spliced);
        if let Some(cluster) = &self.cluster {
            cluster.stats().upstream_cx_tx_bytes_total().add(received);
            cluster.stats().upstream_cx_rx_bytes_total().add(sent);
        }
    }

    fn moved(&self) -> [u64; 3] {
        let early = self.early.len() as u64;
        self.relay.as_ref().map_or([early, 0, 0], |(relay, _)| {
            let (received, sent) = (&relay.received, &relay.sent);
            let spliced = received.spliced + sent.spliced;
            [received.received, sent.received, spliced]
        })
    }
}

/// What is known of a client alone.
pub(crate) fn of_client(downstream: &Downstream, start: SystemTime) -> ExchangeRecord<'_> {
    let found = downstream.found();
    ExchangeRecord {
        connection_id: downstream.connection_id,
        downstream_direct_remote_address: downstream.direct_peer,
        downstream_remote_address: downstream.peer,
        downstream_local_address: downstream.local,
        requested_server_name: found.server_name.as_deref(),
        downstream_tls: downstream.tls.as_deref(),
        metadata: &found.metadata,
        state: &found.metadata,
        ..ExchangeRecord::new(start)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count();
        self.manager.stats.downstream_cx_active().dec();
        self.log(Occasion::TcpConnectionEnd);
        if let Some(loggers) = self.listener_loggers.take() {
            self.log_to(&loggers, Occasion::NotSet);
        }
    }
}
