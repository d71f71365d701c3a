//! The audit log: one JSON line per issue, refusal, rotation, revocation and token, appended and
//! never changed.
//!
//! A line is written before its effect leaves the process. Texts of others are cut. Refusals
//! beyond a rate are counted and told with the next line, so that nobody fills the disk by asking.

use serde::Serialize;

use crate::ca::refusal::Refusal;
use crate::limits::AUDIT_REFUSALS_PER_SECOND;
use crate::limits::AUDIT_TEXT_BYTES_MAX;

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The authority was made.
    Init { domain: &'a str, root: &'a str },
    /// A leaf was signed.
    Issue {
        name: &'a str,
        serial: String,
        issuer: &'a str,
        until: u64,
        key: &'static str,
    },
    /// Somebody did not get what they asked for.
    Refuse {
        wanted: &'a str,
        reason: &'static str,
        text: &'a str,
    },
    /// A leaf was revoked.
    Revoke { name: &'a str, serial: &'a str },
    /// An authority came or went.
    Rotate { what: &'static str, id: &'a str },
    /// Another trust domain is believed, or no more.
    Trust {
        what: &'static str,
        domain: &'a str,
        roots: usize,
    },
    /// A join token was made or used up.
    Token {
        what: &'static str,
        id: &'a str,
        name: &'a str,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    at: u64,
    actor: &'a str,
    /// Refusals that were not written since the line before.
    #[serde(skip_serializing_if = "is_zero")]
    unwritten: u64,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Decides what is written.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: u64,
    written: u64,
    unwritten: u64,
}

impl Budget {
    /// The line for `event`, unless there were too many of its kind.
    pub(super) fn line(
        &mut self,
        now: u64,
        actor: &str,
        event: &Event<'_>,
    ) -> Result<Option<String>, serde_json::Error> {
        if matches!(event, Event::Refuse { .. }) && !self.allows(now) {
            self.unwritten += 1;
            return Ok(None);
        }
        let line = Line {
            at: now,
            actor: cut(actor),
            unwritten: std::mem::take(&mut self.unwritten),
            event,
        };
        Ok(Some(format!("{}\n", serde_json::to_string(&line)?)))
    }

    fn allows(&mut self, now: u64) -> bool {
        if self.second != now {
            (self.second, self.written) = (now, 0);
        }
        self.written += 1;
        self.written <= AUDIT_REFUSALS_PER_SECOND
    }
}

/// A refusal as an event; `text` is the refusal told in words.
pub(super) fn refusal<'a>(wanted: &'a str, refusal: &Refusal, text: &'a str) -> Event<'a> {
    Event::Refuse {
        wanted: cut(wanted),
        reason: refusal.label(),
        text: cut(text),
    }
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default()
}
