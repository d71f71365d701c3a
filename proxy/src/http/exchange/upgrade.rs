//! Requests that go on as another protocol (RFC 9110 section 7.8), from the question to the last byte.
//!
//! Nothing the client sends after its head goes upstream before the 101; whatever else is answered, neither
//! connection is used again.

use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use http::HeaderMap;
use http::header::UPGRADE;
use http::request::Parts;
use tokio::time::Instant;

use crate::config::route::Action;
use crate::config::upgrade;
use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::AsksUpgrade;
use crate::http::codec::Client;
use crate::http::codec::Progress;
use crate::http::codec::Protocol;
use crate::http::exchange::Exchange;
use crate::http::router::Match;
use crate::http::tunnel::Ended;
use crate::http::tunnel::Tunnel;
use crate::telemetry::ResponseFlag;
use crate::upstream::ClusterHandle;
use crate::upstream::pool::Lease;

/// What nobody is given: the request is answered as if it had not asked (as Envoy).
const NEVER: &[u8] = b"h2c";

const WEBSOCKET: &[u8] = b"websocket";

/// `%RESPONSE_CODE_DETAILS%` of one that its upstream ended: Envoy's.
const UPSTREAM_ENDED: &str = "upstream_reset_after_response_started{connection_termination}";

/// The same of a stream of HTTP/2 that its client ended.
const CLIENT_RESET: &str = "http2.remote_reset";

/// The same of one that had to go because the proxy drains.
const DRAINED: &str = "weir_drained";

/// A request that asks for another protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upgrading {
    is_websocket: bool,
    /// It may, and is counted.
    pub(super) is_allowed: bool,
}

/// The bytes that follow.
#[derive(Debug)]
pub(super) struct Switched {
    tunnel: Tunnel,
    /// Bytes from the client and to it that the cluster's statistics know of.
    told: (u64, u64),
    /// Asks all to say goodbye before the proxy ends.
    last_word: DrainGuard,
    /// The server's certificate has ended, or is trusted no more.
    distrust: Option<DrainGuard>,
}

impl Upgrading {
    /// What the codec has found in a head.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        parts.extensions.get::<AsksUpgrade>()?;
        let kind = parts.headers.get(UPGRADE)?.as_bytes();
        (!kind.eq_ignore_ascii_case(NEVER)).then(|| Self {
            is_websocket: kind.eq_ignore_ascii_case(WEBSOCKET),
            is_allowed: false,
        })
    }
}

impl Exchange {
    /// Whether it asks for another protocol.
    pub(super) fn is_upgrade(&self) -> bool {
        self.upgrading.is_some()
    }

    /// Lets it go on as another protocol if it may. A request with a body may not: the other protocol would
    /// begin somewhere behind it.
    pub(super) fn allow_upgrade(
        &mut self,
        found: Option<&Match<'_, ClusterHandle>>,
        headers: &HeaderMap,
    ) -> Result<(), Reason> {
        let manager = &self.connection.manager;
        let Some(upgrading) = &mut self.upgrading else {
            return Ok(());
        };
        let kind = headers.get(UPGRADE).map_or(&[][..], |kind| kind.as_bytes());
        let of_route = match found.map(|found| &found.route.action) {
            Some(Action::Forward(forward)) => &*forward.upgrades,
            _ => &[],
        };
        if !upgrade::is_allowed(of_route, &manager.config.upgrades, kind)
            || self.deadlines.progress.is_some()
        {
            manager.stats.downstream_rq_ws_on_non_ws_route().inc();
            return Err(Reason::UpgradeRefused);
        }
        upgrading.is_allowed = true;
        manager.stats.downstream_cx_upgrades_total().inc();
        manager.stats.downstream_cx_upgrades_active().inc();
        Ok(())
    }

    /// The upstream has agreed: what its connection carries from now on.
    pub(super) fn switch(&mut self) -> Option<Switched> {
        let upgrading = self.upgrading?;
        let Some(Lease::Http1(lease)) = &self.lease else {
            return None;
        };
        let early = lease.take_early();
        let of_client = self.connection.manager.allowance.buffer_bytes;
        let cluster = self.cluster.as_ref();
        let of_cluster = cluster.map_or(of_client, |cluster| cluster.load().config.buffer_bytes);
        let bytes_max = of_client.min(of_cluster);
        let distrust = lease.distrust();
        let progress = Progress::new(Instant::now(), &self.connection.held);
        progress.complete.set(true);
        self.deadlines.progress = Some(Rc::new(progress));
        Some(Switched {
            tunnel: Tunnel::new(upgrading.is_websocket, early, bytes_max),
            told: (0, 0),
            last_word: self.connection.worker.last_word(),
            distrust,
        })
    }
}

impl Switched {
    /// What the client sent after its request.
    pub(super) fn begin(&mut self, early: Vec<u8>) {
        self.tunnel.add_early(early);
    }

    /// Bytes from the client and to it.
    pub(super) fn moved(&self) -> (u64, u64) {
        self.tunnel.moved()
    }

    /// Passes bytes on; ready at the end of all. `is_last_word`: the client's connection is to be cut.
    pub(super) fn poll(
        &mut self,
        exchange: &mut Exchange,
        client: &mut Client<'_>,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let before = self.tunnel.moved();
        let polled = self.poll_bytes(exchange, client, cx);
        let (received, sent) = self.tunnel.moved();
        self.tell(exchange.cluster.as_ref());
        exchange.sent = sent;
        if let Some(progress) = &exchange.deadlines.progress {
            progress.bytes.set(received);
        }
        if (received, sent) != before {
            exchange.deadlines.touch(Instant::now());
        }
        if let Poll::Ready(ended) = polled {
            exchange.end_switched(ended);
            return Poll::Ready(());
        }
        if self.tunnel.is_leaving() {
            return Poll::Pending; // which takes no longer than it may
        }
        let reason = match exchange.deadlines.poll_passed(cx) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending if is_last_word || self.is_asked_to_go(cx) => None,
            Poll::Pending => return Poll::Pending,
        };
        exchange.complete = true; // nobody failed
        match reason {
            Some(reason) => exchange.note_cut(reason),
            None => exchange.details = DRAINED,
        }
        let can_be_told = matches!(
            reason,
            Some(Reason::CertificateEnded | Reason::HostLeft) | None
        );
        if can_be_told && self.tunnel.leave(fastrand::u32(..).to_ne_bytes()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Tells the cluster's statistics what has moved since the last time.
    fn tell(&mut self, cluster: Option<&ClusterHandle>) {
        let Some(cluster) = cluster else { return };
        let (received, sent) = self.tunnel.moved();
        let told = std::mem::replace(&mut self.told, (received, sent));
        let stats = cluster.stats();
        stats.upstream_cx_tx_bytes_total().add(received - told.0);
        stats.upstream_cx_rx_bytes_total().add(sent - told.1);
    }

    fn poll_bytes(
        &mut self,
        exchange: &Exchange,
        client: &mut Client<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        match &exchange.lease {
            Some(Lease::Http1(lease)) => self.tunnel.poll(client, &mut *lease.stream(), cx),
            Some(Lease::Http2(_)) | None => Poll::Ready(Ended::Upstream),
        }
    }

    fn is_asked_to_go(&mut self, cx: &Context<'_>) -> bool {
        let distrust = self.distrust.as_mut();
        distrust.is_some_and(|asked| asked.poll_draining(cx).is_ready())
            || self.last_word.poll_draining(cx).is_ready()
    }
}

impl Exchange {
    fn end_switched(&mut self, ended: Ended) {
        let (flag, details) = match ended {
            Ended::Told => return, // it is known why
            Ended::Client if self.connection.protocol == Protocol::Http2 => {
                (ResponseFlag::DownstreamRemoteReset, CLIENT_RESET)
            }
            Ended::Client => (
                ResponseFlag::DownstreamConnectionTermination,
                Reason::DownstreamGone.telling().details,
            ),
            Ended::Upstream => (ResponseFlag::UpstreamConnectionTermination, UPSTREAM_ENDED),
        };
        self.flags.insert(flag);
        self.details = details;
        self.complete = true; // both ends were served
    }

    fn note_cut(&mut self, reason: Reason) {
        if let Some(flag) = reason.telling().flag {
            self.flags.insert(flag);
        }
        self.details = reason.telling().details;
    }
}
