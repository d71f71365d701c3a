//! How long each phase of an exchange may take.
//!
//! One lazy timer serves them all: whoever waits polls it with the nearest deadline.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::listener::HttpConnectionManager;
use crate::config::route::Forward;
use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::Progress;
use crate::timer::LazyTimer;

/// The deadlines of one exchange.
#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) started: Instant,
    /// When the head of the response came.
    pub(super) answered: Cell<Option<Instant>>,
    /// When the last byte of the response moved.
    moved: Cell<Instant>,
    request: Option<Duration>,
    route: Option<Duration>,
    idle: Option<Duration>,
    /// How far the request body has come; none if there is none.
    pub(super) progress: Option<Rc<Progress>>,
    /// Of the host of the attempt, should it leave.
    pub(super) departure: Option<DrainGuard>,
    timer: LazyTimer,
}

impl Deadlines {
    /// Those of the connection manager; a route may add its own.
    pub(super) fn new(
        config: &HttpConnectionManager,
        progress: Option<Rc<Progress>>,
        now: Instant,
    ) -> Self {
        Self {
            started: now,
            answered: Cell::new(None),
            moved: Cell::new(now),
            request: config.request_timeout,
            route: None,
            idle: config.stream_idle_timeout,
            progress,
            departure: None,
            timer: LazyTimer::default(),
        }
    }

    pub(super) fn set_route(&mut self, forward: &Forward) {
        self.route = forward.timeout;
        if let Some(idle) = forward.idle_timeout {
            self.idle = idle;
        }
    }

    /// A byte of the response moved.
    pub(super) fn touch(&self, now: Instant) {
        self.moved.set(now);
    }

    /// Waits for `future`, but not beyond the nearest deadline. The future stays where its caller
    /// pinned it: taken by value it would be stored twice, as argument and as local.
    ///
    /// # Errors
    /// The reason that goes with the deadline that passed.
    pub(super) fn bound<F: Future>(
        &mut self,
        mut future: Pin<&mut F>,
    ) -> impl Future<Output = Result<F::Output, Reason>> {
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.poll_passed(cx).map(Err)
        })
    }

    /// Ready when a deadline has passed, or that of the host.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(departure) = &mut self.departure
            && departure.poll_draining(cx).is_ready()
        {
            return Poll::Ready(Reason::HostLeft);
        }
        loop {
            let Some((deadline, reason)) = self.nearest() else {
                return Poll::Pending;
            };
            if let Some(progress) = &self.progress
                && !progress.complete.get()
            {
                progress.wake_at_end(cx.waker()); // the route's timeout begins then
            }
            std::task::ready!(self.timer.poll_until(deadline, cx));
            // The other task may have moved bytes meanwhile.
            if self
                .nearest()
                .is_some_and(|(deadline, _)| deadline <= Instant::now())
            {
                return Poll::Ready(reason);
            }
        }
    }

    fn nearest(&self) -> Option<(Instant, Reason)> {
        let (request_end, request_moved) = match &self.progress {
            None => (Some(self.started), self.started),
            Some(progress) => (
                progress.complete.get().then(|| progress.last.get()),
                progress.last.get(),
            ),
        };
        let request = self.request.filter(|_| request_end.is_none());
        let request = request.map(|max| (self.started + max, Reason::DownstreamTimeout));
        let route = self
            .route
            .zip(request_end)
            .map(|(max, since)| (since + max, Reason::UpstreamTimeout));
        let silent = if request_end.is_some() {
            Reason::StreamIdle
        } else {
            Reason::RequestIdle
        };
        let idle = self
            .idle
            .map(|max| (self.moved.get().max(request_moved) + max, silent));
        [request, route, idle]
            .into_iter()
            .flatten()
            .min_by_key(|(deadline, _)| *deadline)
    }
}
