//! What follows a 101: the bytes, what is counted and logged of them, and why they end.

use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use tokio::time::Instant;

use crate::config::limits;
use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::Fate;
use crate::http::codec::Http2Stream;
use crate::http::codec::Incoming;
use crate::http::codec::Peer;
use crate::http::codec::Progress;
use crate::http::exchange::Exchange;
use crate::http::exchange::respond::Content;
use crate::http::tunnel::Ended;
use crate::http::tunnel::Tunnel;
use crate::telemetry::ResponseFlag;
use crate::timer::LazyTimer;
use crate::upstream::ClusterHandle;
use crate::upstream::pool::Lease;

/// `%RESPONSE_CODE_DETAILS%` of one whose upstream connection has ended: Envoy's.
const UPSTREAM_LOST: &str = "upstream_reset_after_response_started{connection_termination}";

/// The same of a stream to an upstream, where something was not well-formed.
const UPSTREAM_MALFORMED: &str = "upstream_reset_after_response_started{protocol_error}";

/// The same of one that was refused after all.
const UPSTREAM_REFUSED: &str = "upstream_reset_after_response_started{remote_refused_stream_reset}";

/// The same of one that was reset.
const UPSTREAM_RESET: &str = "upstream_reset_after_response_started{remote_reset}";

/// The same of one that lost what was behind it.
const UPSTREAM_SEVERED: &str =
    "upstream_reset_after_response_started{remote_error_with_CONNECT_request}";

/// The same of a stream of HTTP/2 that its client ended.
const CLIENT_RESET: &str = "http2.remote_reset";

/// The same of one that had to go because the proxy drains.
const DRAINED: &str = "weir_drained";

/// The bytes that follow.
#[derive(Debug)]
pub(in crate::http::exchange) struct Switched {
    tunnel: Tunnel,
    /// Where they go, if that is a stream of the lease and not all of it.
    upstream: Option<Box<Http2Stream>>,
    /// Bytes from the client and to it that the cluster's statistics know of.
    told: (u64, u64),
    /// Asks all to say goodbye before the proxy ends.
    last_word: DrainGuard,
    /// The server's certificate has ended, or is trusted no more.
    distrust: Option<DrainGuard>,
    /// It is over; how long the last bytes may take to be sent.
    ended: Option<Instant>,
    timer: LazyTimer,
}

impl Exchange {
    /// The upstream has agreed: what its connection, or the stream behind the head, carries from now on.
    pub(in crate::http::exchange) fn switch(&mut self, body: Incoming) -> Content {
        let (Some(upgrading), Some(lease)) = (self.upgrading, &self.lease) else {
            return Content::Relayed(body);
        };
        self.deadlines.end_with_silence();
        let early = match lease {
            Lease::Http1(lease) => lease.take_early(),
            Lease::Http2(_) => Vec::new(),
        };
        let of_client = self.connection.manager.allowance.buffer_bytes;
        let cluster = self.cluster.as_ref();
        let of_cluster = cluster.map_or(of_client, |cluster| cluster.load().config.buffer_bytes);
        let bytes_max = of_client.min(of_cluster);
        let distrust = lease.distrust();
        let progress = Progress::new(Instant::now(), &self.connection.held);
        progress.complete.set(true);
        self.deadlines.progress = Some(Rc::new(progress));
        Content::Switched(Box::new(Switched {
            tunnel: Tunnel::new(upgrading.is_websocket, early, bytes_max),
            upstream: body.into_switched(),
            told: (0, 0),
            last_word: self.connection.worker.last_word(),
            distrust,
            ended: None,
            timer: LazyTimer::default(),
        }))
    }
}

impl Switched {
    /// What the client sent after its request.
    pub(in crate::http::exchange) fn begin(&mut self, early: Vec<u8>) {
        self.tunnel.add_early(early);
    }

    /// Bytes from the client and to it.
    pub(in crate::http::exchange) fn moved(&self) -> (u64, u64) {
        self.tunnel.moved()
    }

    /// Passes bytes on; ready at the end of all. `is_last_word`: the client's connection is to be cut.
    pub(in crate::http::exchange) fn poll(
        &mut self,
        exchange: &mut Exchange,
        client: &mut dyn Peer,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let until = match self.ended {
            Some(until) => until,
            None => {
                std::task::ready!(self.poll_end(exchange, client, is_last_word, cx));
                self.count_reset(exchange.cluster.as_ref());
                *self.ended.insert(Instant::now() + limits::LAST_WORD)
            }
        };
        let upstream = self.upstream.as_mut();
        let is_up = upstream.is_none_or(|stream| stream.poll_sent(cx).is_ready());
        if client.poll_sent(cx).is_ready() && is_up {
            return Poll::Ready(());
        }
        self.timer.poll_until(until, cx)
    }

    /// Counts that the upstream is told to give its stream up.
    fn count_reset(&self, cluster: Option<&ClusterHandle>) {
        let stream = self.upstream.as_ref();
        if let Some(cluster) = cluster
            && stream.is_some_and(|stream| stream.is_to_be_reset())
        {
            cluster.stats().upstream_rq_tx_reset().inc();
        }
    }

    fn poll_end(
        &mut self,
        exchange: &mut Exchange,
        client: &mut dyn Peer,
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
            exchange.end_switched(ended, (client.fate(), self.upstream_fate()));
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
        client: &mut dyn Peer,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        match (&mut self.upstream, &exchange.lease) {
            (Some(stream), _) => self.tunnel.poll(client, &mut **stream, cx),
            (None, Some(Lease::Http1(lease))) => self.tunnel.poll(client, &mut *lease.stream(), cx),
            (None, Some(Lease::Http2(_)) | None) => Poll::Ready(Ended::Upstream),
        }
    }

    fn upstream_fate(&self) -> Fate {
        let stream = self.upstream.as_deref();
        stream.map_or(Fate::Lost, Peer::fate)
    }

    fn is_asked_to_go(&mut self, cx: &Context<'_>) -> bool {
        let distrust = self.distrust.as_mut();
        distrust.is_some_and(|asked| asked.poll_draining(cx).is_ready())
            || self.last_word.poll_draining(cx).is_ready()
    }
}

/// Whether one that an upstream has reset with these details is counted as such: as by Envoy, not if it was
/// refused, or lost what was behind it.
pub(in crate::http::exchange) fn is_counted_reset(details: &str) -> bool {
    !matches!(details, UPSTREAM_REFUSED | UPSTREAM_SEVERED)
}

impl Exchange {
    fn end_switched(&mut self, ended: Ended, (client, upstream): (Fate, Fate)) {
        let left = Reason::DownstreamGone.telling().details;
        let (flag, details) = match (ended, client, upstream) {
            (Ended::Told, ..) => return, // it is known why
            (Ended::Client, Fate::Ended | Fate::Lost, _) => {
                (ResponseFlag::DownstreamConnectionTermination, left)
            }
            (Ended::Client, ..) => (ResponseFlag::DownstreamRemoteReset, CLIENT_RESET),
            (Ended::Upstream, _, Fate::Ended) => {
                self.complete = true;
                return; // as any response does
            }
            (Ended::Upstream, _, Fate::Lost) => {
                (ResponseFlag::UpstreamConnectionTermination, UPSTREAM_LOST)
            }
            (Ended::Upstream, _, Fate::Malformed) => {
                (ResponseFlag::UpstreamProtocolError, UPSTREAM_MALFORMED)
            }
            (Ended::Upstream, _, Fate::Refused) => {
                (ResponseFlag::UpstreamRemoteReset, UPSTREAM_REFUSED)
            }
            (Ended::Upstream, _, Fate::Reset) => {
                (ResponseFlag::UpstreamRemoteReset, UPSTREAM_RESET)
            }
            (Ended::Upstream, _, Fate::Severed) => {
                (ResponseFlag::UpstreamRemoteReset, UPSTREAM_SEVERED)
            }
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
