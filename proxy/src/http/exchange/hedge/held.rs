//! What an exchange holds of one attempt.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;

use crate::drain::DrainGuard;
use crate::http::codec::RequestBody;
use crate::http::exchange::Exchange;
use crate::http::exchange::health::Judged;
use crate::http::exchange::measure::Measured;
use crate::http::exchange::watch::Watch;
use crate::net::tls::Facts;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::pool::Lease;

/// It is lent to the exchange while something is done with the attempt.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) host: Option<Arc<Host>>,
    pub(super) request: Option<Request<RequestBody>>,
    pub(super) lease: Option<Lease>,
    pub(super) departure: Option<DrainGuard>,
    counts: Option<Arc<HostCounts>>,
    measured: Measured,
    judged: Option<Judged>,
    watch: Option<Watch>,
    upstream_local: Option<SocketAddr>,
    upstream_tls: Option<Arc<Facts>>,
    upstream_failure: Option<Box<str>>,
    connections: u32,
}

impl Held {
    /// Changes places with what the exchange holds.
    pub(super) fn swap(&mut self, exchange: &mut Exchange) {
        use std::mem::swap;
        swap(&mut self.host, &mut exchange.host);
        swap(&mut self.request, &mut exchange.request);
        swap(&mut self.lease, &mut exchange.lease);
        swap(&mut self.departure, &mut exchange.deadlines.departure);
        swap(&mut self.counts, &mut exchange.counts);
        swap(&mut self.measured, &mut exchange.measured);
        swap(&mut self.judged, &mut exchange.judged);
        swap(&mut self.watch, &mut exchange.watch);
        swap(&mut self.upstream_local, &mut exchange.upstream_local);
        swap(&mut self.upstream_tls, &mut exchange.upstream_tls);
        swap(&mut self.upstream_failure, &mut exchange.upstream_failure);
        swap(&mut self.connections, &mut exchange.connections);
    }

    /// Lets the exchange do something with the attempt.
    pub(super) fn lend<T>(
        &mut self,
        exchange: &mut Exchange,
        act: impl FnOnce(&mut Exchange) -> T,
    ) -> T {
        self.swap(exchange);
        let result = act(exchange);
        self.swap(exchange);
        result
    }

    /// Another attempt was better: nobody learns anything from this one.
    pub(super) fn abandon(&mut self, cluster: &ClusterHandle) {
        if self.lease.take().is_some() {
            cluster.stats().upstream_rq_tx_reset().inc();
        }
    }
}

impl Drop for Held {
    /// However the exchange ends, what is counted as on its way is so no more.
    fn drop(&mut self) {
        let Some(counts) = self.counts.take() else {
            return;
        };
        if matches!(self.measured, Measured::From(_)) {
            counts.end_sample(None);
        }
        counts.end_request();
    }
}
