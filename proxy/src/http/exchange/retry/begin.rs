//! Which requests may be sent again, and what is kept of them.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;

use crate::config::retry::HedgeAfter;
use crate::config::retry::RetryPolicy;
use crate::config::route::Forward;
use crate::config::route::HostRewrite;
use crate::http::codec::Incoming;
use crate::http::codec::Replay;
use crate::http::codec::RequestBody;
use crate::http::exchange::Exchange;
use crate::http::exchange::hedge::Plan;
use crate::http::exchange::prepare;
use crate::http::exchange::prepare::Authority;
use crate::http::exchange::retry::Retrying;
use crate::http::exchange::retry::asked::Asked;
use crate::http::exchange::retry::head_copy::HeadCopy;
use crate::http::exchange::retry::state::State;
use crate::http::router;
use crate::upstream::load_balancer::Tried;

/// What is left of the policy for this request; none if it is sent once. `may_ask`: its headers may
/// say something of it.
pub(in crate::http::exchange) fn begin(
    exchange: &Exchange,
    (forward, authority): (&Forward, &Authority),
    may_ask: bool,
    parts: &mut Parts,
) -> Option<State> {
    let policy = forward.retries.policy.as_ref();
    let hedges = hedge_after(forward, parts).is_some();
    if policy.is_none() && !may_ask && !hedges {
        return None;
    }
    let asked = if may_ask {
        Asked::take(&mut parts.headers)
    } else {
        Asked::default()
    };
    let none;
    let policy = match policy {
        Some(policy) => policy,
        None if asked.on.is_nothing() && !hedges => return None,
        None => {
            none = Arc::new(RetryPolicy::default());
            &none
        }
    };
    let fits = policy.request_headers.is_empty() || {
        let view = prepare::view_of(exchange, parts, authority);
        let mut wanted = policy.request_headers.iter();
        wanted.any(|header| router::request_header_fits(header, &view))
    };
    let state = State::new(policy, asked, fits);
    state.or_else(|| hedges.then(|| State::nothing(policy)))
}

/// The policy for a second attempt beside a slow one, if the request is one to be sent twice.
fn hedge_after<'f>(forward: &'f Forward, parts: &Parts) -> Option<&'f Arc<HedgeAfter>> {
    let after = forward.retries.hedge_after.as_ref();
    after.filter(|after| after.any_method || parts.method.is_safe())
}

impl Exchange {
    /// What is kept of a request as long as it may be sent again; its body as it is sent first.
    pub(in crate::http::exchange) fn keep_for_retries(
        &mut self,
        state: State,
        forward: &Forward,
        parts: &Parts,
        body: Incoming,
    ) -> RequestBody {
        let retries = &forward.retries;
        let after = hedge_after(forward, parts);
        let avoids_first = after.is_some();
        let plan = match after.is_some() || self.deadlines.has_plan() {
            true => self.plan(after).map(Box::new),
            false => None,
        };
        let buffered = self.connection.manager.allowance.buffer_bytes;
        let bytes_max = retries.body_bytes_max.bytes(buffered);
        let progress = self.deadlines.progress.as_ref();
        let replay = progress.map(|progress| Replay::new(body, Rc::clone(progress), bytes_max));
        let body = replay.as_ref();
        let body = body.map_or_else(RequestBody::empty, |body| body.read().into());
        let is_for_member = forward.host_rewrite == HostRewrite::Auto;
        let copies_head = plan.is_some() || is_for_member;
        if copies_head {
            self.kept_head = Some(parts.clone());
        }
        let every = state.policy().priority_update_frequency;
        self.retrying = Some(Retrying {
            state,
            copies_head,
            head: HeadCopy::default(),
            body: replay,
            latest: None,
            tried: Vec::new(),
            priorities: every.map(|every| Box::new(Tried::new(every))),
            permit: None,
            was_sent: false,
            priority: forward.priority,
            request_tells_attempts: retries.request_tells_attempts,
            request_tells_timeouts: retries.request_tells_timeouts,
            plan,
            avoids_first,
        });
        body
    }

    /// When attempts are made beside each other; none if they never are.
    fn plan(&mut self, after: Option<&Arc<HedgeAfter>>) -> Option<Plan> {
        let plan = self.deadlines.take_plan();
        let after = after.filter(|_| !self.is_upgrade()); // there is one connection to go on with
        match after.zip(self.cluster.as_ref()) {
            None => plan,
            Some((after, cluster)) => {
                let plan = plan.unwrap_or_else(|| self.deadlines.plan_without_beside());
                Some(plan.after(after, cluster))
            }
        }
    }
}
