//! How long each phase of an exchange may take.
//!
//! One lazy timer serves them all: whoever waits polls it with the nearest deadline.

use std::cell::Cell;
use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::config::listener::HttpConnectionManager;
use crate::config::overload::Timeout;
use crate::config::retry::RetryPolicy;
use crate::config::route::Forward;
use crate::config::route::StreamDuration;
use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::Progress;
use crate::http::exchange::grpc_timeout;
use crate::http::exchange::hedge::Plan;
use crate::http::exchange::retry::Timeouts;
use crate::http::headers;
use crate::overload::Loads;
use crate::overload::held::Account;
use crate::overload::held::Direction;
use crate::overload::held::OfConnection;
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
    /// What reduces both, if anything ever does.
    reducing: Option<Arc<Loads>>,
    further: Option<FurtherLimits>,
    /// How far the request body has come; none if there is none.
    pub(super) progress: Option<Rc<Progress>>,
    /// What the stream holds, if it has no request body.
    account: OnceCell<Rc<Account>>,
    /// Of the host of the attempt, should it leave, and of the certificate its connection stands on.
    pub(super) departure: Option<DrainGuard>,
    timer: LazyTimer,
}

/// Why an attempt is cut that this asks to end.
pub(super) fn left(departure: &DrainGuard) -> Reason {
    match departure.deadline() {
        Some(_) => Reason::CertificateEnded,
        None => Reason::HostLeft,
    }
}

/// Limits that most requests have none of.
#[derive(Debug, Default)]
struct FurtherLimits {
    /// Of all of it, since its first byte.
    all: Option<Duration>,
    /// Of an attempt, to the head of its response.
    head: Option<Duration>,
    /// The same, as upstreams are told.
    told: Option<Duration>,
    /// An attempt that reaches it goes on beside another one.
    hedges: bool,
    /// Of an attempt, without anything that moves.
    idle: Option<Duration>,
    /// The next server is told in `grpc-timeout`, too.
    tells_grpc: bool,
    /// When the attempt had a connection; none while there is no attempt.
    began: Option<Instant>,
}

/// The end that comes first, and what it is the end of; of those that come together the first that was said.
#[derive(Debug, Default)]
struct Nearest(Option<(Instant, Limit)>);

impl Nearest {
    #[inline]
    fn or(&mut self, end: Instant, limit: Limit) {
        if self.0.is_none_or(|(nearest, _)| end < nearest) {
            self.0 = Some((end, limit));
        }
    }
}

/// What may end. A reason is larger, and is wanted only of the one that did.
#[derive(Clone, Copy, Debug)]
enum Limit {
    All,
    Attempt,
    AttemptIdle,
    Request,
    RequestIdle,
    Route,
    StreamIdle,
}

impl Limit {
    fn reason(self) -> Reason {
        match self {
            Self::All => Reason::DurationTimeout,
            Self::Attempt => Reason::PerTryTimeout,
            Self::AttemptIdle => Reason::PerTryIdleTimeout,
            Self::Request => Reason::DownstreamTimeout,
            Self::RequestIdle => Reason::RequestIdle,
            Self::Route => Reason::UpstreamTimeout,
            Self::StreamIdle => Reason::StreamIdle,
        }
    }
}

impl FurtherLimits {
    /// Says their ends. `request_end` is that of the request, `moved` when a byte of the response did.
    fn say(
        &self,
        (started, request_end): (Instant, Option<Instant>),
        (moved, is_answered): (Instant, bool),
        nearest: &mut Nearest,
    ) {
        if let Some(max) = self.all {
            nearest.or(started + max, Limit::All);
        }
        let (Some(began), Some(end)) = (self.began, request_end) else {
            return;
        };
        let began = began.max(end);
        if let Some(max) = self.head.filter(|_| !is_answered) {
            nearest.or(began + max, Limit::Attempt);
        }
        if let Some(max) = self.idle {
            nearest.or(began.max(moved) + max, Limit::AttemptIdle);
        }
    }
}

impl Deadlines {
    /// Those of the connection manager; a route may add its own.
    pub(super) fn new(
        (config, reducing): (&HttpConnectionManager, Option<Arc<Loads>>),
        progress: Option<Rc<Progress>>,
        now: Instant,
    ) -> Self {
        let all = config.max_stream_duration;
        Self {
            started: now,
            answered: Cell::new(None),
            moved: Cell::new(now),
            request: config.request_timeout,
            route: None,
            idle: config.stream_idle_timeout,
            reducing,
            further: all.map(|_| FurtherLimits {
                all,
                ..FurtherLimits::default()
            }),
            progress,
            account: OnceCell::new(),
            departure: None,
            timer: LazyTimer::default(),
        }
    }

    /// Those of a route, or what `headers`, of gRPC or not, say instead. The next server is told.
    pub(super) fn set_route(
        &mut self,
        forward: &Forward,
        headers: &mut HeaderMap,
        (is_grpc, asked): (bool, Option<Timeouts>),
    ) {
        self.route = forward.timeout;
        if let Some(idle) = forward.idle_timeout {
            self.idle = idle;
        }
        if let Some(duration) = &forward.stream_duration {
            self.route = None; // as with Envoy, there is but one of them
            self.set_duration(duration, headers, is_grpc);
        } else if let Some(grpc) = forward.grpc_timeout.filter(|_| is_grpc) {
            self.route = grpc_timeout::of_route(grpc, headers);
            self.further.get_or_insert_default().tells_grpc = true;
        }
        let asked = asked.unwrap_or_default();
        if let Some(route) = asked.route {
            self.route = Some(route).filter(|route| !route.is_zero());
        }
        let policy = forward.retries.policy.as_deref();
        if policy.is_some() || asked.per_try.is_some() {
            self.set_attempt(policy, asked.per_try);
        }
        let hedges = forward.retries.hedges_on_per_try_timeout;
        if asked.hedges.unwrap_or(hedges)
            && let Some(further) = &mut self.further
        {
            further.hedges = further.head.is_some();
            further.told = None; // it may take longer
        }
    }

    fn set_duration(&mut self, of_route: &StreamDuration, headers: &mut HeaderMap, is_grpc: bool) {
        let of_manager = self.further.as_ref().and_then(|further| further.all);
        let all = grpc_timeout::of_stream(of_route, of_manager, headers);
        if let Some(all) = all.filter(|_| is_grpc) {
            grpc_timeout::write(headers, all);
        }
        if all.is_some() || self.further.is_some() {
            self.further.get_or_insert_default().all = all;
        }
    }

    /// A limit that the route's own makes needless is none.
    fn set_attempt(&mut self, policy: Option<&RetryPolicy>, asked: Option<Duration>) {
        let head = asked.or_else(|| policy.and_then(|policy| policy.per_try_timeout));
        let head = head.filter(|head| !head.is_zero());
        let head = head.filter(|head| self.route.is_none_or(|route| *head < route));
        let idle = policy.and_then(|policy| policy.per_try_idle_timeout);
        if head.is_some() || idle.is_some() {
            let further = self.further.get_or_insert_default();
            (further.head, further.told, further.idle) = (head, head, idle);
        }
    }

    /// Whether attempts may be beside each other for how long one takes.
    pub(super) fn has_plan(&self) -> bool {
        self.further.as_ref().is_some_and(|further| further.hedges)
    }

    /// Attempts that may be beside each other have their own limits, which are taken from here.
    pub(super) fn take_plan(&mut self) -> Option<Plan> {
        let further = self.further.as_mut().filter(|further| further.hedges)?;
        let limits = (further.head.take(), further.idle.take());
        Some(Plan::new(true, limits))
    }

    /// The same where an attempt that has taken its time is over.
    pub(super) fn plan_without_beside(&mut self) -> Plan {
        let further = self.further.as_mut();
        let limits = further.map(|further| (further.head.take(), further.idle.take()));
        Plan::new(false, limits.unwrap_or_default())
    }

    /// One of them goes on alone.
    pub(super) fn resume_attempt(&mut self, idle: Option<Duration>, began: Option<Instant>) {
        if let Some(further) = &mut self.further {
            (further.idle, further.began) = (idle, began);
        }
    }

    /// It ends when nothing moves for too long, and has no other end: one that goes on as another protocol.
    pub(super) fn end_with_silence(&mut self) {
        self.route = None;
    }

    /// No attempts are made beside each other: there is one connection to go on with as another protocol.
    pub(super) fn forbid_hedges(&mut self) {
        if let Some(further) = &mut self.further {
            further.hedges = false;
        }
    }

    /// An attempt has its connection since then.
    pub(super) fn begin_attempt(&mut self, began: Instant) {
        if let Some(further) = &mut self.further {
            further.began = Some(began);
        }
    }

    /// It is over, and another one may follow.
    pub(super) fn end_attempt(&mut self) {
        self.departure = None;
        if let Some(further) = &mut self.further {
            further.began = None;
        }
    }

    /// Tells an upstream how long it has: what is left of the route's timeout, since the end of the
    /// request, but no more than one attempt may take, unless it may go on after that. `suppress`: not
    /// in headers of Envoy's.
    pub(super) fn tell(&self, headers: &mut HeaderMap, passed: Duration, suppress: bool) {
        let of_attempt = self.further.as_ref().and_then(|further| further.told);
        let left = |route: Duration| route.saturating_sub(passed).max(Duration::from_millis(1));
        let left = self.route.map(left); // 0 would be no limit
        let told = match (of_attempt, left) {
            (Some(of_attempt), Some(left)) => Some(of_attempt.min(left)),
            (of_attempt, left) => of_attempt.or(left),
        };
        let Some(told) = told else { return };
        if !suppress {
            headers::set_expected_timeout(headers, told);
        }
        if self
            .further
            .as_ref()
            .is_some_and(|further| further.tells_grpc)
        {
            grpc_timeout::write(headers, told);
        }
    }

    /// Time since the whole request had come.
    pub(super) fn passed(&self) -> Duration {
        self.request_end()
            .map_or(Duration::ZERO, |end| end.elapsed())
    }

    /// Whether the whole request has come.
    pub(super) fn is_request_complete(&self) -> bool {
        self.request_end().is_some()
    }

    /// When the whole request had come.
    pub(super) fn request_end(&self) -> Option<Instant> {
        match &self.progress {
            None => Some(self.started),
            Some(progress) => progress.complete.get().then(|| progress.last.get()),
        }
    }

    /// When the last byte of the request moved, as far as it has come.
    pub(super) fn request_moved(&self) -> Instant {
        match &self.progress {
            None => self.started,
            Some(progress) => progress.last.get(),
        }
    }

    /// Wakes a task once when the whole request has come.
    pub(super) fn wake_when_complete(&self, waker: &Waker) {
        if let Some(progress) = &self.progress
            && !progress.complete.get()
        {
            progress.wake_at_end(waker);
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

    /// What the stream holds, if it holds anything.
    pub(super) fn account(&self) -> Option<&Rc<Account>> {
        match &self.progress {
            Some(progress) => progress.account(),
            None => self.account.get(),
        }
    }

    /// What the stream holds from now on.
    pub(super) fn open_account(&self, connection: &Rc<OfConnection>) -> &Rc<Account> {
        match &self.progress {
            Some(progress) => progress.open_account(),
            None => self.account.get_or_init(|| Account::open(connection)),
        }
    }

    /// Whether it is given up because it held much.
    pub(super) fn is_given_up(&self) -> bool {
        self.account().is_some_and(|account| account.is_given_up())
    }

    /// Ready when a deadline has passed, or that of the host, or when the stream is given up.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.poll_untaken(None, cx)
    }

    /// Ready when a client of HTTP/2 has taken nothing for so long of a response that is complete.
    pub(super) fn poll_unflushed(
        &mut self,
        max: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<Reason> {
        let Some(max) = max else {
            return Poll::Pending;
        };
        if self.reducing.is_some() {
            self.timer.heed_changes(cx);
        }
        let max = self.reduced(Timeout::StreamFlush, max);
        let passed = self.timer.poll_until(self.moved.get() + max, cx);
        passed.map(|()| Reason::StreamIdle)
    }

    /// The same while a client takes nothing of a response, of which there is more. `flush` is how long it may,
    /// if that is another time than the stream may be silent.
    pub(super) fn poll_untaken(
        &mut self,
        flush: Option<Option<Duration>>,
        cx: &mut Context<'_>,
    ) -> Poll<Reason> {
        if let Some(account) = self.account()
            && account.poll_given_up(Direction::Response, cx).is_ready()
        {
            return Poll::Ready(Reason::HeldTooMuch);
        }
        if let Some(departure) = &mut self.departure
            && departure.poll_draining(cx).is_ready()
        {
            return Poll::Ready(left(departure));
        }
        if self.reducing.is_some() {
            self.timer.heed_changes(cx);
        }
        loop {
            let Some((deadline, limit)) = self.nearest(flush) else {
                return Poll::Pending;
            };
            self.wake_when_complete(cx.waker()); // the route's timeout begins then
            std::task::ready!(self.timer.poll_until(deadline, cx));
            // The other task may have moved bytes meanwhile.
            if self
                .nearest(flush)
                .is_some_and(|(deadline, _)| deadline <= Instant::now())
            {
                return Poll::Ready(limit.reason());
            }
        }
    }

    fn reduced(&self, timeout: Timeout, max: Duration) -> Duration {
        match &self.reducing {
            Some(loads) => loads.reduced(timeout, max),
            None => max,
        }
    }

    fn nearest(&self, flush: Option<Option<Duration>>) -> Option<(Instant, Limit)> {
        let mut nearest = Nearest::default();
        let request_end = self.request_end();
        let moved = self.moved.get();
        if let Some(further) = &self.further {
            let response = (moved, self.answered.get().is_some());
            further.say((self.started, request_end), response, &mut nearest);
        }
        let (of_request, silent) = match request_end {
            None => {
                let request = self.request.map(|max| self.started + max);
                (request.zip(Some(Limit::Request)), Limit::RequestIdle)
            }
            Some(since) => {
                let route = self.route.map(|max| since + max);
                (route.zip(Some(Limit::Route)), Limit::StreamIdle)
            }
        };
        if let Some((end, limit)) = of_request {
            nearest.or(end, limit);
        }
        let idle = match flush {
            Some(flush) => (flush, Timeout::StreamFlush),
            None => (self.idle, Timeout::StreamIdle),
        };
        if let (Some(max), timeout) = idle {
            let max = self.reduced(timeout, max);
            nearest.or(moved.max(self.request_moved()) + max, silent);
        }
        nearest.0
    }
}
