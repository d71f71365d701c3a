//! When a connection has to go: it is asked to, grows old, is silent, or is too much.

use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use tokio::time::Instant;

use super::Connection;
use super::head_patience;
use crate::config::limits;
use crate::config::overload::Timeout;
use crate::http::codec::Protocol;
use crate::http::codec::Stop;
use crate::timer::LazyTimer;
use crate::worker::ConnectionGuard;

/// Decides when a connection has to go.
pub(super) struct Control {
    connection: Rc<Connection>,
    drain: ConnectionGuard,
    /// When it was asked to go.
    asked: Option<Instant>,
    timer: LazyTimer,
    /// Since when it is closing.
    closing_since: Option<Instant>,
}

impl Control {
    /// Of a connection that nobody has asked to go.
    pub(super) fn new(connection: &Rc<Connection>, drain: ConnectionGuard) -> Self {
        Self {
            connection: Rc::clone(connection),
            drain,
            asked: None,
            timer: LazyTimer::default(),
            closing_since: None,
        }
    }

    /// What it is to do now, if it is to end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if self.connection.facts.is_switched.get() {
            self.connection.tell_bytes(); // it may be there for days
        }
        if self.connection.is_cut_off_now() {
            return Poll::Ready(Stop::Now);
        }
        if !self.connection.closing.get()
            && let Some(asked) = self.asked(cx)
        {
            let is_http1 = self.connection.protocol == Protocol::Http1;
            let until = asked + limits::DRAIN_IDLE;
            if is_http1 && self.timer.poll_until(until, cx).is_pending() {
                return Poll::Ready(Stop::AfterAnswer);
            }
            self.connection.closing.set(true);
        }
        if self.connection.closing.get() {
            let since = *self.closing_since.get_or_insert_with(Instant::now);
            let cut = self.cut(since);
            let stop = if self.is_unheard(since, cx) {
                Stop::Now
            } else if self.timer.poll_until(cut, cx).is_pending() {
                Stop::Gracefully
            } else if self.has_last_word(cut, cx) {
                Stop::LastWord
            } else {
                Stop::Now
            };
            return Poll::Ready(stop);
        }
        if self.connection.reducing.is_some() {
            self.timer.heed_changes(cx);
        }
        let Some((deadline, cause)) = self.deadline() else {
            return Poll::Pending;
        };
        std::task::ready!(self.timer.poll_until(deadline, cx));
        let stats = &self.connection.manager.stats;
        match cause {
            Cause::Age => stats.downstream_cx_max_duration_reached().inc(),
            Cause::Head => stats.downstream_rq_header_timeout().inc(),
            Cause::Blocked => stats.downstream_rq_idle_timeout().inc(),
            Cause::Idle => stats.downstream_cx_idle_timeout().inc(),
        }
        self.connection.closing.set(true);
        Poll::Ready(if matches!(cause, Cause::Blocked | Cause::Head) {
            Stop::Now
        } else {
            Stop::Gracefully
        })
    }

    /// When it is cut: after the drain time, but before a certificate ends it stands on.
    fn cut(&self, since: Instant) -> Instant {
        let drained = since + self.connection.worker.drain_time();
        // It may be told while it goes for another reason.
        let told = self.drain.chain.deadline();
        told.map_or(drained, |told| told.min(drained))
    }

    /// Whether it has been closing for long without a stream or a byte, and its client has not answered
    /// that it knows: else it would be closed.
    fn is_unheard(&mut self, since: Instant, cx: &mut Context<'_>) -> bool {
        let connection = &self.connection;
        if connection.protocol == Protocol::Http1 || connection.active.get() > 0 {
            return false;
        }
        let moved = connection.facts.received.get() + connection.facts.sent.get();
        if connection.moved.replace(moved) != moved {
            connection.idle_since.set(Instant::now());
        }
        let patience = connection
            .manager
            .config
            .drain_timeout
            .of(connection.part());
        let until = connection.idle_since.get().max(since) + patience;
        self.timer.poll_until(until, cx).is_ready()
    }

    /// Whether it may still say goodbye.
    fn has_last_word(&mut self, cut: Instant, cx: &mut Context<'_>) -> bool {
        let is_switched = self.connection.facts.is_switched.get();
        let until = cut + limits::LAST_WORD;
        is_switched && self.timer.poll_until(until, cx).is_pending()
    }

    /// When it was asked to go, if it was.
    fn asked(&mut self, cx: &Context<'_>) -> Option<Instant> {
        if self.asked.is_none() && self.drain.chain.poll_draining(cx).is_ready() {
            let stats = &self.connection.manager.stats;
            stats.downstream_cx_drain_close().inc();
            self.asked = Some(Instant::now());
        }
        self.asked
    }

    /// The next deadline of the connection itself; exchanges have their own.
    fn deadline(&self) -> Option<(Instant, Cause)> {
        let connection = &self.connection;
        let config = &connection.manager.config;
        // The first head is waited for since the connection stands; clients of HTTP/2 are expected to
        // have connections in reserve.
        let is_first = connection.served.get() == 0 && connection.protocol == Protocol::Http1;
        let since = connection.facts.head_since.get();
        let since = if is_first {
            Some(connection.born)
        } else {
            since
        };
        let head = since.map(|since| (since + head_patience(config), Cause::Head));
        let idle = (connection.active.get() == 0)
            .then_some(config.idle_timeout)
            .flatten();
        let idle = idle.map(|max| {
            let max = connection.reduced(Timeout::ConnectionIdle, max);
            (connection.idle_since.get() + max, Cause::Idle)
        });
        let age = config.max_connection_duration.map(|max| {
            let max = max.of(connection.part());
            let max = connection.reduced(Timeout::ConnectionMax, max);
            (connection.born + max, Cause::Age)
        });
        let blocked = connection.facts.blocked_since.get();
        let blocked = blocked.filter(|_| !connection.is_watched.get());
        let blocked = blocked
            .zip(config.stream_idle_timeout)
            .map(|(since, max)| (since + max, Cause::Blocked));
        [head, blocked, idle, age]
            .into_iter()
            .flatten()
            .min_by_key(|(deadline, _)| *deadline)
    }
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Age,
    /// The client takes nothing of what is written to it.
    Blocked,
    Head,
    Idle,
}
