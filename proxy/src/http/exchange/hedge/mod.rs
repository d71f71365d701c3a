//! Attempts beside each other: one that takes its time goes on while another is made, and the first good
//! answer counts (`HedgePolicy`).
//!
//! Requests whose policy does not ask for it never come here. What an exchange holds of one attempt is
//! held by each lane, and lent to the exchange whenever something is done with it. As with Envoy, an
//! attempt that another one follows already is not followed by a third when it fails, and what fails
//! while others are on their way is told to nobody.
//!
//! | file | holds |
//! |---|---|
//! | `held` | what an exchange holds of one attempt |
//! | `lane` | one attempt, from the choice of its member to the head of its response |
//! | `plan` | when another attempt is made beside one |

mod held;
mod lane;
mod plan;

use std::ops::ControlFlow;
use std::task::Context;
use std::task::Poll;

use http::Response;
use tokio::time::Instant;

use crate::config::limits;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::http::codec::Incoming;
use crate::http::exchange::Exchange;
use crate::http::exchange::prepare::Authority;
use crate::timer::LazyTimer;
use crate::upstream::ClusterHandle;
use crate::upstream::breaker::RetryPermit;
use held::Held;
use lane::Lane;
pub(super) use plan::Plan;

/// What came of an attempt, or of all of them.
type Outcome = Result<Response<Incoming>, ProxyError>;

/// An attempt that waits for its time.
#[derive(Debug)]
struct Pending {
    due: Instant,
    after_timeout: bool,
    permit: RetryPermit,
}

/// The attempts of one exchange.
#[derive(Debug)]
struct Race {
    cluster: ClusterHandle,
    authority: Authority,
    plan: Plan,
    /// On their way, the oldest first.
    lanes: Vec<Lane>,
    pending: Vec<Pending>,
    timer: LazyTimer,
}

/// What happens next.
enum Event {
    /// Time has passed for one of the attempts.
    Due,
    /// An attempt has an outcome.
    Lane(usize, Outcome),
    /// The time of the request is over.
    Over(Reason),
}

/// Sends the request kept in the exchange, perhaps several times at once, and returns the head of the
/// response.
pub(super) async fn forward(
    exchange: &mut Exchange,
    cluster: ClusterHandle,
    authority: Authority,
) -> Outcome {
    let mut race = Race::new(exchange, cluster, authority);
    race.begin(exchange, None);
    loop {
        let event = std::future::poll_fn(|cx| race.poll(exchange, cx)).await;
        let ended = match event {
            Event::Due => race.look_at_time(exchange),
            Event::Lane(place, outcome) => race.settle(exchange, place, outcome),
            Event::Over(reason) => ControlFlow::Break(race.give_up(exchange, reason)),
        };
        if let ControlFlow::Break(outcome) = ended {
            return outcome;
        }
    }
}

impl Race {
    fn new(exchange: &mut Exchange, cluster: ClusterHandle, authority: Authority) -> Self {
        let plan = exchange.retrying.as_mut().and_then(|kept| kept.take_plan());
        Self {
            cluster,
            authority,
            plan: plan.unwrap_or_default(),
            lanes: Vec::new(),
            pending: Vec::new(),
            timer: LazyTimer::default(),
        }
    }

    /// Another attempt; the first has no permit. If it fails at once that is its outcome.
    fn begin(&mut self, exchange: &mut Exchange, again: Option<Pending>) {
        let (after_timeout, permit) = match again {
            Some(Pending {
                after_timeout,
                permit,
                ..
            }) => (after_timeout, Some(permit)),
            None => (false, None),
        };
        let mut lane = Lane::new(self.cluster.clone(), permit);
        if lane.is_retry() {
            exchange.begin_again(after_timeout);
        }
        lane.held.request = exchange.request.take();
        lane.connect(exchange, &self.authority);
        self.cluster = lane.cluster.clone(); // the next one goes there, too
        self.lanes.push(lane);
    }

    fn poll(&mut self, exchange: &mut Exchange, cx: &mut Context<'_>) -> Poll<Event> {
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = lane.poll(exchange, &self.authority, cx) {
                return Poll::Ready(Event::Lane(place, outcome));
            }
        }
        if let Poll::Ready(reason) = exchange.deadlines.poll_passed(cx) {
            return Poll::Ready(Event::Over(reason));
        }
        exchange.deadlines.wake_when_complete(cx.waker()); // the time of attempts begins then
        let due = self.next_due(exchange);
        match due {
            None => Poll::Pending,
            Some(due) => self.timer.poll_until(due, cx).map(|()| Event::Due),
        }
    }

    fn next_due(&self, exchange: &Exchange) -> Option<Instant> {
        let complete = exchange.deadlines.request_end();
        let lanes = self.lanes.iter();
        let lanes = lanes.filter_map(|lane| self.plan.next_due(lane.since(complete)?));
        let pending = self.pending.iter().map(|pending| pending.due);
        lanes.map(|(due, _)| due).chain(pending).min()
    }

    /// Makes the attempts whose time has come, and sees which have taken theirs.
    fn look_at_time(&mut self, exchange: &mut Exchange) -> ControlFlow<Outcome> {
        let now = Instant::now();
        let is_due = |pending: &mut Pending| pending.due <= now;
        let due: Vec<Pending> = self.pending.extract_if(.., is_due).collect();
        for pending in due {
            self.begin(exchange, Some(pending));
        }
        let complete = exchange.deadlines.request_end();
        for place in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(place) else {
                break;
            };
            let due = lane
                .since(complete)
                .and_then(|since| self.plan.next_due(since));
            match due.filter(|(due, _)| *due <= now) {
                None => {}
                Some((_, plan::Limit::Beside)) => self.hedge(exchange),
                Some((_, plan::Limit::Idle)) => {
                    return self.settle(exchange, place, Err(Reason::PerTryIdleTimeout.into()));
                }
                Some((_, plan::Limit::PerTry)) => {
                    if !self.plan.on_per_try_timeout || self.lanes.len() >= limits::ATTEMPTS_AT_ONCE
                    {
                        return self.settle(exchange, place, Err(Reason::PerTryTimeout.into()));
                    }
                    self.follow(exchange, place);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// An attempt has taken its time: it goes on, and another one follows if one is left.
    fn follow(&mut self, exchange: &mut Exchange, place: usize) {
        let Some(lane) = self.lanes.get_mut(place) else {
            return;
        };
        lane.is_timed = true;
        lane.held.lend(exchange, Exchange::report_slow);
        if let Some(permit) = exchange.take_retry(&self.cluster) {
            lane.is_followed = true;
            let due = Instant::now() + exchange.wait(&self.cluster, None);
            self.pending.push(Pending {
                due,
                after_timeout: true,
                permit,
            });
        }
    }

    /// The first attempt is slower than most: another one is made at once, if there may be one more.
    fn hedge(&mut self, exchange: &mut Exchange) {
        self.plan.beside = None; // once is enough
        let is_alone = self.lanes.len() == 1 && self.pending.is_empty();
        let kept = exchange.retrying.as_ref().filter(|_| is_alone);
        let Some(priority) = kept.and_then(|kept| kept.priority_if_whole()) else {
            return;
        };
        if let Some(permit) = self.plan.take_hedge(&self.cluster, priority) {
            let again = Pending {
                due: Instant::now(),
                after_timeout: false,
                permit,
            };
            self.begin(exchange, Some(again));
        }
    }

    /// An attempt has ended: its outcome is that of all, or another one is made, or others are waited
    /// for.
    fn settle(
        &mut self,
        exchange: &mut Exchange,
        place: usize,
        outcome: Outcome,
    ) -> ControlFlow<Outcome> {
        let mut lane = self.lanes.remove(place);
        let has_others = !self.lanes.is_empty() || !self.pending.is_empty();
        lane.held.swap(exchange); // for good
        if outcome.is_err() {
            exchange.lease = None;
            let was_sent = exchange.request.is_none();
            if let Some(kept) = exchange.retrying.as_mut().filter(|_| was_sent) {
                kept.note_sent();
            }
        }
        let is_last = exchange.gives_up(&self.cluster);
        let minds = !is_last && exchange.minds(&outcome);
        if !minds && (outcome.is_ok() || !has_others) {
            return ControlFlow::Break(self.end(exchange, lane, outcome));
        }
        let permit = match minds && !lane.is_followed {
            true => exchange.take_retry(&self.cluster),
            false => None,
        };
        if let Some(permit) = permit {
            let pause = exchange.leave_attempt(&self.cluster, outcome);
            self.pending.push(Pending {
                due: Instant::now() + pause.duration,
                after_timeout: pause.after_timeout,
                permit,
            });
            return ControlFlow::Continue(());
        }
        if !has_others {
            return ControlFlow::Break(self.end(exchange, lane, outcome));
        }
        match outcome {
            Ok(response) => {
                let (head, body) = response.into_parts();
                exchange.sample_dropped(&head, &body);
            }
            Err(error) => exchange.watch_failure(error.reason),
        }
        exchange.lease = None;
        exchange.end_attempt(true);
        ControlFlow::Continue(())
    }

    /// That outcome is the one that counts; what else is on its way ends here. What the exchange holds
    /// is of this attempt.
    fn end(&mut self, exchange: &mut Exchange, lane: Lane, outcome: Outcome) -> Outcome {
        for mut other in self.lanes.drain(..) {
            self.plan.note(&other);
            other.held.abandon(&other.cluster);
        }
        if outcome.is_ok() {
            self.plan.note(&lane);
        }
        self.pending.clear();
        exchange
            .deadlines
            .resume_attempt(self.plan.idle, lane.began);
        if let Some(kept) = &mut exchange.retrying {
            kept.permit = lane.permit;
        }
        exchange.accept(&self.cluster, outcome.is_ok());
        outcome
    }

    /// The time of the request is over; what it waited for latest is told.
    fn give_up(&mut self, exchange: &mut Exchange, reason: Reason) -> Outcome {
        if let Some(flag) = reason.telling().flag {
            exchange.flags.insert(flag); // it is counted for each of them
        }
        let latest = self.lanes.pop();
        for mut other in self.lanes.drain(..) {
            other.held.lend(exchange, |exchange| {
                exchange.watch_failure(reason);
                exchange.lease = None;
                exchange.end_attempt(true);
            });
        }
        if let Some(mut lane) = latest {
            lane.held.swap(exchange);
            exchange.lease = None;
        }
        Err(reason.into())
    }
}

impl Exchange {
    /// Whether several attempts may be on their way at once.
    pub(super) fn hedges(&self) -> bool {
        (self.retrying.as_ref()).is_some_and(|kept| kept.has_plan())
    }
}
