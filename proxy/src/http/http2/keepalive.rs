//! PING on a connection whose peer may be gone without a word.

use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use h2::Ping;
use h2::PingPong;
use tokio::time::Instant;

use crate::config::cluster::Http2Options;
use crate::timer::LazyTimer;

/// Asks every interval whether the peer is there, with requests or without, as Envoy does.
#[derive(Debug)]
pub(super) struct Keepalive {
    /// None if nothing is asked.
    pings: Option<PingPong>,
    interval: Duration,
    patience: Duration,
    timer: LazyTimer,
    /// Of the next question, or of the answer to the last.
    deadline: Instant,
    is_asked: bool,
}

impl Keepalive {
    /// `pings` is asked for only if the options want a keepalive.
    pub(super) fn new(options: &Http2Options, pings: impl FnOnce() -> Option<PingPong>) -> Self {
        let interval = options.keepalive_interval.unwrap_or(Duration::MAX);
        Self {
            pings: options.keepalive_interval.and_then(|_| pings()),
            interval,
            patience: options.keepalive_timeout,
            timer: LazyTimer::default(),
            deadline: options
                .keepalive_interval
                .map_or_else(Instant::now, |interval| Instant::now() + interval),
            is_asked: false,
        }
    }

    /// Ready if the peer has not answered in time, or cannot be asked any more.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        loop {
            if self.is_asked {
                match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.is_asked = false;
                        self.deadline = Instant::now() + self.interval;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll_until(self.deadline, cx),
                }
            }
            std::task::ready!(self.timer.poll_until(self.deadline, cx));
            if pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.is_asked = true;
            self.deadline = Instant::now() + self.patience;
        }
    }
}
