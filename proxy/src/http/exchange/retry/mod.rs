//! Sending a request again: what is kept for it, and when it is done.
//!
//! A request that no policy is for has none of this. The rest keeps its head, as it goes out, and what
//! was read of its body, until the head of a response is sent on, or it is clear that there will be no
//! other attempt. HTTP/1 hands the head back that it has written, so that nothing is copied; of what goes
//! to a connection of HTTP/2 a copy is kept as bytes.
//!
//! | file | holds |
//! |---|---|
//! | `asked` | what a request says of its retries itself |
//! | `begin` | which requests may be sent again |
//! | `head_copy` | a head as bytes, for connections that take heads away |
//! | `peek` | the first message of a gRPC response, or its status |
//! | `state` | the decision, without I/O |

mod asked;
mod begin;
mod head_copy;
mod peek;
mod state;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::request::Parts;

use crate::config::circuit_breakers::Priority;
use crate::config::retry::RetryPolicy;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::http::codec;
use crate::http::codec::Incoming;
use crate::http::codec::Replay;
use crate::http::codec::RequestBody;
use crate::http::exchange::Exchange;
use crate::http::exchange::hedge::Plan;
use crate::http::exchange::prepare;
use crate::telemetry::ResponseFlag;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::Picked;
use crate::upstream::breaker::RetryPermit;
use crate::upstream::load_balancer::Tried;
pub(super) use asked::Timeouts;
pub(super) use begin::begin;
use head_copy::HeadCopy;
pub(super) use peek::poll_first_frame;
use state::State;
use state::Wait;
pub(super) use state::is_of_attempt;

/// Which attempt it is, told upstreams and clients that want to know.
pub(super) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Picks for an attempt beside the first: among two members the other one is found by one of four almost
/// always.
const OTHERS_LEAST: u32 = 4;

const IS_TIMEOUT_RETRY: HeaderName = HeaderName::from_static("x-envoy-is-timeout-retry");

/// What a request keeps that may be sent again.
#[derive(Debug)]
pub(super) struct Retrying {
    state: State,
    /// An attempt needs a head of its own: there may be another beside it, or it is written for a member.
    copies_head: bool,
    /// Of the attempt that was made over HTTP/2.
    head: HeadCopy,
    body: Option<Rc<Replay>>,
    /// The member tried last, if the policy avoids it, and those before: mostly there are none.
    latest: Option<u64>,
    tried: Vec<u64>,
    /// The same, if the policy avoids their priorities.
    priorities: Option<Box<Tried>>,
    /// For the attempt that is made.
    pub(super) permit: Option<RetryPermit>,
    /// Something of the request reached an upstream.
    was_sent: bool,
    priority: Priority,
    request_tells_attempts: bool,
    request_tells_timeouts: bool,
    /// Only if several attempts may be on their way at once.
    plan: Option<Box<Plan>>,
    /// Another attempt is beside the first, which may be slow because of its member.
    avoids_first: bool,
}

/// What came of an attempt.
type Outcome = Result<Response<Incoming>, ProxyError>;

impl Retrying {
    fn policy(&self) -> &RetryPolicy {
        self.state.policy()
    }

    /// Whether several attempts may be on their way at once.
    pub(super) fn has_plan(&self) -> bool {
        self.plan.is_some()
    }

    /// When they are made; none if they never are.
    pub(super) fn take_plan(&mut self) -> Option<Plan> {
        self.plan.take().map(|plan| *plan)
    }

    /// Whose limits it counts against, if its body can be read once more.
    pub(super) fn priority_if_whole(&self) -> Option<Priority> {
        let body = self.body.as_ref();
        let is_whole = body.is_none_or(|body| body.is_complete() && !body.overflowed());
        is_whole.then_some(self.priority)
    }

    /// An attempt is made at a member.
    pub(super) fn note_host(&mut self, host: &Host) {
        if self.policy().avoid.previous_hosts || self.avoids_first {
            self.tried.extend(self.latest.replace(host.id));
        }
        if let Some(priorities) = &self.priorities {
            priorities.note(host.id);
        }
    }

    /// What another attempt avoids, if the policy says so.
    pub(super) fn tried_priorities(&self) -> Option<&Tried> {
        self.priorities.as_deref()
    }

    /// Something of the request may have reached an upstream.
    pub(super) fn note_sent(&mut self) {
        self.was_sent = true;
    }

    /// A member for an attempt; for another one it is one that is not to be avoided, if such is found
    /// soon enough.
    pub(super) fn choose(
        &self,
        (cluster, is_first): (&ClusterHandle, bool),
        mut pick: impl FnMut() -> Picked,
    ) -> Picked {
        let mut picked = pick();
        if is_first {
            return picked;
        }
        let avoid = &self.policy().avoid;
        let least = if self.avoids_first { OTHERS_LEAST } else { 1 };
        for _ in 0..self.policy().host_attempts.max(least) {
            let is_avoided = |host: &Arc<Host>| {
                self.latest == Some(host.id)
                    || self.tried.contains(&host.id)
                    || (avoid.minds_traits() && avoid.has(cluster.traits_of(host).as_deref()))
            };
            if !picked.host.as_ref().is_some_and(is_avoided) {
                break;
            }
            picked = pick();
        }
        picked
    }

    /// Whether the head is taken back of an attempt that was on its way.
    pub(super) const fn reuses_head(&self) -> bool {
        !self.copies_head
    }

    /// Copies the head of an attempt that a connection takes away. In `kept` if it must be.
    pub(super) fn copy_head(&mut self, request: &Request<RequestBody>, kept: &mut Option<Parts>) {
        if self.reuses_head() && !self.head.take_from(request) {
            let mut copy = Request::new(());
            *copy.method_mut() = request.method().clone();
            *copy.uri_mut() = request.uri().clone();
            *copy.headers_mut() = request.headers().clone();
            *copy.extensions_mut() = request.extensions().clone();
            *kept = Some(copy.into_parts().0);
        }
    }

    /// The request, once more; `unsent` is what is left of an attempt that did not come to be sent.
    fn request(
        &mut self,
        kept: &mut Option<Parts>,
        unsent: Option<Request<RequestBody>>,
        (attempts, after_timeout): (u32, bool),
    ) -> Option<Request<RequestBody>> {
        let head = if self.copies_head {
            kept.clone()
        } else {
            let unsent = unsent.map(|request| request.into_parts().0);
            let kept = kept.take().or_else(|| self.head.take());
            kept.or(unsent)
        };
        let body = self.body.as_ref();
        let body = body.map_or_else(RequestBody::empty, |body| body.read().into());
        let mut request = Request::from_parts(head?, body);
        let headers = request.headers_mut();
        if self.request_tells_attempts {
            headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempts));
        }
        if self.request_tells_timeouts {
            let text = if after_timeout { "true" } else { "false" };
            headers.insert(IS_TIMEOUT_RETRY, HeaderValue::from_static(text));
        }
        Some(request)
    }
}

/// Goes on after an attempt: with its outcome, or with another attempt after a wait.
pub(super) async fn settle(
    exchange: &mut Exchange,
    cluster: &ClusterHandle,
    outcome: Outcome,
) -> ControlFlow<Outcome> {
    if exchange.gives_up(cluster) {
        return ControlFlow::Break(outcome);
    }
    let outcome = peek::peek(exchange, outcome).await;
    let minds = exchange.minds(&outcome);
    if !minds {
        exchange.accept(cluster, outcome.is_ok());
        return ControlFlow::Break(outcome);
    }
    if !exchange.takes_retry(cluster) {
        return ControlFlow::Break(outcome);
    }
    let wait = exchange.leave_attempt(cluster, outcome);
    if let Err(reason) = pause(exchange, wait.duration).await {
        return ControlFlow::Break(Err(reason.into()));
    }
    exchange.begin_again(wait.after_timeout);
    ControlFlow::Continue(())
}

/// Waits, but not beyond a deadline of the request.
async fn pause(exchange: &mut Exchange, wait: Duration) -> Result<(), Reason> {
    let sleep = std::pin::pin!(tokio::time::sleep(wait));
    exchange.deadlines.bound(sleep).await
}

/// What the next attempt waits for.
pub(super) struct Pause {
    pub(super) duration: Duration,
    pub(super) after_timeout: bool,
}

impl Exchange {
    /// Whether a response is plainly good enough, and nothing is kept any more. Mostly it is, and then
    /// this is all.
    pub(super) fn accepts(&mut self, cluster: &ClusterHandle, outcome: &Outcome) -> bool {
        let (Ok(response), Some(retrying)) = (outcome, &self.retrying) else {
            return false;
        };
        let overflowed = retrying.body.as_ref().is_some_and(|body| body.overflowed());
        let is_plain = !self.is_grpc && !overflowed;
        let state = &retrying.state;
        if !is_plain || state.minds_head(response.status(), response.headers()) {
            return false;
        }
        self.accept(cluster, true);
        true
    }

    /// There is no other attempt for a request whose body is too large to be kept.
    pub(super) fn gives_up(&mut self, cluster: &ClusterHandle) -> bool {
        let body = self
            .retrying
            .as_ref()
            .and_then(|retrying| retrying.body.as_ref());
        let overflowed = body.is_some_and(|body| body.overflowed());
        if overflowed {
            cluster.stats().retry_or_shadow_abandoned().inc();
            (self.kept_head, self.retrying) = (None, None);
        }
        overflowed || self.retrying.is_none()
    }

    /// Whether an outcome is not good enough.
    pub(super) fn minds(&self, outcome: &Outcome) -> bool {
        let Some(retrying) = &self.retrying else {
            return false;
        };
        match outcome {
            Err(error) => retrying
                .state
                .minds_failure(error.reason, retrying.was_sent),
            Ok(response) => {
                let headers = response.headers();
                retrying.state.minds_head(response.status(), headers)
                    || retrying.minds_trailers(response)
            }
        }
    }

    /// The outcome is good enough, or cannot be helped.
    pub(super) fn accept(&mut self, cluster: &ClusterHandle, is_answer: bool) {
        let Some(retrying) = &mut self.retrying else {
            return;
        };
        if retrying.permit.is_some() && is_answer {
            cluster.stats().upstream_rq_retry_success().inc();
        }
        if let Some(body) = &retrying.body {
            body.release();
        }
        if let Some(head) = &mut self.kept_head {
            codec::give_back(std::mem::take(&mut head.headers));
        }
        self.kept_head = None; // in its place: it is large
        self.retrying = None;
    }

    /// Takes one of the retries left for the attempt after the one that ended; without one there is
    /// no other.
    fn takes_retry(&mut self, cluster: &ClusterHandle) -> bool {
        if let Some(retrying) = &mut self.retrying {
            retrying.permit = None; // of the one that ended
        }
        let permit = self.take_retry(cluster);
        if permit.is_none() {
            self.accept(cluster, false);
        } else if let Some(retrying) = &mut self.retrying {
            retrying.permit = permit;
        }
        self.retrying.is_some()
    }

    /// Takes one of the retries left, of the request and of the cluster.
    pub(super) fn take_retry(&mut self, cluster: &ClusterHandle) -> Option<RetryPermit> {
        let retrying = self.retrying.as_mut()?;
        let flag = if !retrying.state.take() {
            cluster.stats().upstream_rq_retry_limit_exceeded().inc();
            ResponseFlag::UpstreamRetryLimitExceeded
        } else if let Some(permit) = cluster.breakers().try_retry(retrying.priority) {
            cluster.stats().upstream_rq_retry().inc();
            return Some(permit);
        } else {
            ResponseFlag::UpstreamOverflow
        };
        self.flags.insert(flag);
        None
    }

    /// The attempt is over, and what came of it goes no further.
    pub(super) fn leave_attempt(&mut self, cluster: &ClusterHandle, outcome: Outcome) -> Pause {
        let mut head = None;
        let mut after_timeout = false;
        match outcome {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                self.sample_dropped(&parts, &body);
                let status = parts.status.as_u16();
                cluster.stats().retry_upstream_rq().record(status);
                if body.has_come()
                    && !self.is_upgrade()
                    && let Some(lease) = self.lease.take()
                {
                    lease.finish();
                }
                head = Some(parts.headers);
            }
            Err(error) => {
                self.watch_failure(error.reason);
                after_timeout = count_timeout(cluster.stats(), error.reason);
            }
        }
        self.lease = None;
        if after_timeout {
            self.report_slow();
            if let Some(counts) = &self.counts {
                counts.rq_timeout.inc();
            }
        }
        self.end_attempt(true);
        self.deadlines.end_attempt();
        Pause {
            duration: self.wait(cluster, head.as_ref()),
            after_timeout,
        }
    }

    pub(super) fn wait(&mut self, cluster: &ClusterHandle, head: Option<&HeaderMap>) -> Duration {
        let Some(retrying) = &mut self.retrying else {
            return Duration::ZERO;
        };
        let stats = cluster.stats();
        match retrying
            .state
            .wait(head, prepare::since_1970(), fastrand::u64(..))
        {
            Wait::Exponential(wait) => {
                stats.upstream_rq_retry_backoff_exponential().inc();
                wait
            }
            Wait::RateLimited(wait) => {
                stats.upstream_rq_retry_backoff_ratelimited().inc();
                wait
            }
        }
    }

    /// Another attempt begins.
    pub(super) fn begin_again(&mut self, after_timeout: bool) {
        if let Some(retrying) = &mut self.retrying {
            let attempt = (self.attempts + 1, after_timeout);
            let unsent = self.request.take();
            self.request = retrying.request(&mut self.kept_head, unsent, attempt);
        }
        if let Some(request) = &mut self.request {
            let suppress = self.connection.manager.suppress_envoy_headers;
            let passed = self.deadlines.passed();
            self.deadlines.tell(request.headers_mut(), passed, suppress);
        }
        self.upstream_failure = None;
    }
}

impl Retrying {
    /// Whether the whole response is its status, and that is not good enough.
    fn minds_trailers(&self, response: &Response<Incoming>) -> bool {
        let trailers = response.body().peeked_trailers();
        trailers.is_some_and(|trailers| self.state.minds_grpc(trailers))
    }
}

/// Whether an attempt took too long, which is counted.
fn count_timeout(stats: &ClusterStats, reason: Reason) -> bool {
    match reason {
        Reason::PerTryIdleTimeout => stats.upstream_rq_per_try_idle_timeout().inc(),
        Reason::PerTryTimeout => stats.upstream_rq_per_try_timeout().inc(),
        _ => return false,
    }
    true
}

/// The text of an error after more than one attempt.
pub(super) fn text_of_latest(text: &str) -> String {
    const BEFORE: &str = "before headers. ";
    text.replacen(BEFORE, &format!("{BEFORE}retried and the latest "), 1)
}

#[cfg(test)]
mod tests;
