//! The part of `/clusters` that tells how the limits and breakers of a cluster stand, and why.

use std::fmt::Display;

use serde_json::Value;
use serde_json::json;

use crate::admin::state::LimitView;
use crate::admin::state::OutcomeView;
use crate::upstream::breaker::outcome::Report;
use crate::upstream::breaker::outcome::State;

/// One line for each.
pub(super) fn text(limits: &[LimitView], line: &mut dyn FnMut(&str, &dyn Display)) {
    for limit in limits {
        let name = format!("weir_limit::{}.{}", limit.priority, limit.resource);
        line(&name, &format!("{}: {}", state(limit), why(limit)));
    }
}

/// An object for each, with the same words.
pub(super) fn json(limits: &[LimitView]) -> Value {
    let one = |limit: &LimitView| {
        json!({
            "priority": limit.priority,
            "resource": limit.resource,
            "state": state(limit),
            "inside": limit.standing.inside,
            "max": limit.standing.max,
            "why": why(limit),
        })
    };
    limits.iter().map(one).collect()
}

const fn state(limit: &LimitView) -> &'static str {
    if limit.standing.is_open() {
        "open"
    } else {
        "closed"
    }
}

fn why(limit: &LimitView) -> String {
    let standing = limit.standing;
    format!("{} of {}", standing.inside, standing.max)
}

/// The same of breakers that look at outcomes.
pub(super) fn outcomes_text(breakers: &[OutcomeView], line: &mut dyn FnMut(&str, &dyn Display)) {
    for breaker in breakers {
        let name = format!("weir_breaker::{}", name_of(breaker));
        line(
            &name,
            &format!("{}: {}", state_of(&breaker.report), reason(breaker)),
        );
    }
}

/// An object for each, with the same words.
pub(super) fn outcomes_json(breakers: &[OutcomeView]) -> Value {
    let one = |breaker: &OutcomeView| {
        let report = &breaker.report;
        json!({
            "name": name_of(breaker),
            "state": state_of(report),
            "cause": report.cause.map(|cause| cause.as_str()),
            "opened": report.opened,
            "refused": report.refused,
            "window": {
                "requests": report.counts.requests,
                "failed": report.counts.failed,
                "slow": report.counts.slow,
            },
            "why": reason(breaker),
        })
    };
    breakers.iter().map(one).collect()
}

fn name_of(breaker: &OutcomeView) -> String {
    match &breaker.host {
        None => "outcome".to_owned(),
        Some(host) => format!("outcome {host}"),
    }
}

const fn state_of(report: &Report) -> &'static str {
    match report.state {
        State::Closed => "closed",
        State::HalfOpen { .. } => "half-open",
        State::Open { .. } => "open",
    }
}

fn reason(breaker: &OutcomeView) -> String {
    let report = &breaker.report;
    let counts = report.counts;
    let now = format!(
        "{} requests in the window, {} failed, {} slow",
        counts.requests, counts.failed, counts.slow
    );
    let Some(cause) = report.cause else {
        return now;
    };
    let tries = match report.state {
        State::HalfOpen { sent, good, .. } => format!("{sent} may try, {good} went well; "),
        State::Closed | State::Open { .. } => String::new(),
    };
    let seen = report.seen;
    format!(
        "{tries}opened {} times, last by {}, before that with {} requests in the window, {} failed, {} slow; \
         {} refused; now {now}",
        report.opened,
        cause.as_str(),
        seen.requests,
        seen.failed,
        seen.slow,
        report.refused,
    )
}
