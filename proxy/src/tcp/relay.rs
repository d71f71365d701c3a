//! Both directions of a connection, with their deadlines.

use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::limits;
use crate::drain::DrainGuard;
use crate::net::NetStream;
use crate::tcp::direction::Broken;
use crate::tcp::direction::Direction;
use crate::tcp::measure::FirstByte;
use crate::timer::LazyTimer;
use crate::worker::ConnectionGuard;

/// Why a relay stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides have sent their end.
    Both,
    /// The connection to the upstream would outlive a certificate.
    CertificateOver,
    /// The client's connection is broken.
    DownstreamBroken,
    /// It was asked to go, and has had its time.
    Drained,
    /// The host has left, and its drain time is over.
    HostLeft,
    /// The host was found unfit, and its cluster closes connections then.
    HostUnfit,
    /// No byte moved for too long.
    Idle,
    /// An entry of the log is due; it goes on.
    LogDue,
    /// It is too old.
    TooOld,
    /// The upstream's connection is broken.
    UpstreamBroken,
}

/// How long a relay may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) idle: Option<Duration>,
    pub(super) end: Option<Instant>,
    pub(super) log_interval: Option<Duration>,
    /// Once it is asked to go.
    pub(super) drain: Duration,
}

/// What can end a relay on the side of its host.
#[derive(Debug)]
pub(super) struct Ties {
    /// The host has left, or a certificate has ended.
    departure: DrainGuard,
    /// Apart, as most hosts are plain, and of few clusters connections are closed for health.
    rare: Option<Box<RareTies>>,
}

#[derive(Debug)]
struct RareTies {
    /// The upstream is to be used no more.
    asked: Option<DrainGuard>,
    /// The host was found unfit.
    unfit: Option<DrainGuard>,
}

impl Ties {
    /// `asked` says that the upstream is to be used no more, `unfit` that its host was found unfit.
    pub(super) fn new(
        departure: DrainGuard,
        asked: Option<DrainGuard>,
        unfit: Option<DrainGuard>,
    ) -> Self {
        let is_plain = asked.is_none() && unfit.is_none();
        let rare = (!is_plain).then(|| Box::new(RareTies { asked, unfit }));
        Self { departure, rare }
    }

    fn is_asked(&mut self, cx: &Context<'_>) -> bool {
        let asked = self.rare.as_mut().and_then(|rare| rare.asked.as_mut());
        asked.is_some_and(|asked| asked.poll_draining(cx).is_ready())
    }

    fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<Ended> {
        if self.departure.poll_draining(cx).is_ready() {
            return Poll::Ready(match self.departure.deadline() {
                Some(_) => Ended::CertificateOver,
                None => Ended::HostLeft,
            });
        }
        let unfit = self.rare.as_mut().and_then(|rare| rare.unfit.as_mut());
        match unfit {
            Some(unfit) => unfit.poll_draining(cx).map(|()| Ended::HostUnfit),
            None => Poll::Pending,
        }
    }
}

/// Two streams and the bytes between them.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) downstream: NetStream,
    pub(super) upstream: NetStream,
    pub(super) received: Direction,
    pub(super) sent: Direction,
    patience: Patience,
    moved_at: Instant,
    log_at: Option<Instant>,
    /// When it is cut, once it is asked to go.
    cut_at: Option<Instant>,
    ties: Ties,
    timer: LazyTimer,
}

impl Relay {
    /// `early` was read from `downstream` before. No more than `buffer_bytes` are held, each way.
    pub(super) fn new(
        (downstream, early): (NetStream, Vec<u8>),
        (upstream, ties): (NetStream, Ties),
        patience: Patience,
        buffer_bytes: usize,
    ) -> Self {
        let now = Instant::now();
        Self {
            downstream,
            upstream,
            received: Direction::new(early, buffer_bytes),
            sent: Direction::new(Vec::new(), buffer_bytes),
            patience,
            moved_at: now,
            log_at: patience.log_interval.map(|interval| now + interval),
            cut_at: None,
            ties,
            timer: LazyTimer::default(),
        }
    }

    /// Passes bytes on until something ends it.
    ///
    /// # Cancel safety
    /// Nothing is lost; after `LogDue` it is called again.
    pub(super) async fn run(
        &mut self,
        first_byte: &mut FirstByte,
        drain: &mut ConnectionGuard,
    ) -> Ended {
        std::future::poll_fn(|cx| self.poll(first_byte, drain, cx)).await
    }

    fn poll(
        &mut self,
        first_byte: &mut FirstByte,
        drain: &mut ConnectionGuard,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let before = self.received.received + self.sent.received;
        let moved = self.poll_directions(cx);
        first_byte.look(self.received.received, self.sent.received);
        if let Poll::Ready(ended) = moved {
            return Poll::Ready(ended);
        }
        if self.received.received + self.sent.received != before {
            self.moved_at = Instant::now();
        }
        if self.cut_at.is_none() && self.is_asked_to_go(drain, cx) {
            self.cut_at = Some(Instant::now() + self.patience.drain);
        }
        // It may be told while it goes for another reason.
        if let Some(cut_at) = &mut self.cut_at
            && let Some(told) = drain.chain.deadline()
        {
            *cut_at = told.min(*cut_at);
        }
        if let Poll::Ready(ended) = self.ties.poll_ended(cx) {
            return Poll::Ready(ended);
        }
        self.poll_deadlines(cx)
    }

    fn is_asked_to_go(&mut self, drain: &mut ConnectionGuard, cx: &Context<'_>) -> bool {
        self.ties.is_asked(cx) || drain.chain.poll_draining(cx).is_ready()
    }

    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let up = self
            .received
            .poll(&mut self.downstream, &mut self.upstream, cx);
        match up {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::DownstreamBroken),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::UpstreamBroken),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let down = self.sent.poll(&mut self.upstream, &mut self.downstream, cx);
        match down {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::UpstreamBroken),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::DownstreamBroken),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if self.received.has_ended() && self.sent.has_ended() {
            return Poll::Ready(Ended::Both);
        }
        Poll::Pending
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let idle = self
            .patience
            .idle
            .map(|idle| (self.moved_at + idle, Ended::Idle));
        let end = self.patience.end.map(|end| (end, Ended::TooOld));
        let log = self.log_at.map(|at| (at, Ended::LogDue));
        let cut = self.cut_at.map(|at| (at, Ended::Drained));
        let next = [idle, end, log, cut]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at);
        let Some((deadline, ended)) = next else {
            return Poll::Pending;
        };
        std::task::ready!(self.timer.poll_until(deadline, cx));
        if ended == Ended::LogDue {
            let interval = self
                .patience
                .log_interval
                .unwrap_or(limits::CONNECTION_IDLE_TIMEOUT);
            self.log_at = Some(deadline + interval);
        }
        Poll::Ready(ended)
    }
}
