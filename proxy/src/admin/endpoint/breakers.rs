//! The part of `/clusters` that tells how the limits of a cluster stand.

use std::fmt::Display;

use serde_json::Value;
use serde_json::json;

use crate::admin::state::LimitView;

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
