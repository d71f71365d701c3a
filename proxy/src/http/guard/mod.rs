//! The byte guard: reads HTTP/1 before the codec does and lets nothing doubtful pass.
//!
//! The codec's parser is lenient in places (bare LF for one). Any leniency is a chance for two
//! readers of the same bytes to see different messages, so the guard follows the framing itself
//! (RFC 9112) and stops at the first byte that is not plainly right. It is sans-IO and incremental,
//! keeps a few dozen bytes of state and allocates nothing. It does not interpret targets, hosts or
//! trailers beyond what framing needs; `headers::validate_request` and the trailer filter do.
//!
//! How a reader uses it:
//!
//! 1. pass every freshly read chunk to [`Guard::inspect`], in order, before anything else sees it;
//! 2. on [`Inspect::Clean`] hand the whole chunk on;
//! 3. on [`Inspect::Violation`] hand on the first `keep` bytes, then end of stream, and never read
//!    again. The last kept byte is poison the parser cannot take for part of a message;
//! 4. when an upgrade or CONNECT was accepted, stop calling it. Bytes sent before that are judged as
//!    a next request, so early tunnel bytes are a violation (security case S14).
//!
//! Invariants: the verdict, and the offset of a violation, do not depend on how the stream was cut
//! into chunks (S16); a violation in a head is found before the last byte of that head is handed on;
//! work is linear in bytes.
//!
//! | file | holds |
//! |---|---|
//! | `body` | lengths and chunks |
//! | `fields` | header and trailer fields |
//! | `line` | the request line |
//! | `response` | the other direction |
//! | `scan` | finding the next byte that matters, eight at a time |
//! | `status_line` | the status line |
//! | `violation` | what can be wrong and how it is answered |

mod body;
mod fields;
mod line;
mod response;
mod scan;
mod status_line;
mod violation;

use crate::config::limits;
use body::Body;
use fields::Fields;
use line::Line;
pub use response::Expect;
pub use response::ResponseGuard;
pub use violation::Violation;
pub use violation::ViolationKind;

/// Bytes of the trailer section of one message; the codec has the same bound.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Bounds of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Bytes of a head, with its line ends and empty lines before it.
    pub head_bytes_max: usize,
    /// Fields of a head and its trailers together.
    pub fields_max: usize,
    /// Sum of the bytes of all chunk extensions.
    pub extension_bytes_max: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::REQUEST_HEADERS_BYTES_MAX,
            fields_max: limits::HEADER_COUNT_MAX,
            extension_bytes_max: limits::CHUNK_EXTENSION_BYTES_MAX,
        }
    }
}

/// The verdict on one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inspect {
    /// All of it may be handed on.
    Clean,
    /// Only its beginning may; nothing after it.
    Violation(Violation),
}

/// Guards the request side of one HTTP/1 connection.
#[derive(Clone, Debug)]
pub struct Guard {
    limits: GuardLimits,
    phase: Phase,
    /// Bytes of this head, or of this trailer section, so far.
    section_bytes: usize,
    line: Line,
    fields: Fields,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Line,
    Fields,
    Body,
    Trailers,
    Dead(ViolationKind),
}

/// How far a part of the machine came.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// To here; this part of the message is complete.
    Done(usize),
    /// To the end of what there was.
    More,
}

/// Where and what is wrong.
#[derive(Clone, Copy, Debug)]
struct Fault {
    at: usize,
    kind: ViolationKind,
}

impl Guard {
    /// A guard at the start of a connection.
    #[must_use]
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            phase: Phase::Line,
            section_bytes: 0,
            line: Line::default(),
            fields: Fields::default(),
            body: Body::default(),
        }
    }

    /// True between two messages: no byte of the next one has come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Line && self.section_bytes == 0
    }

    /// True in the middle of a head: some of it has come, and not all.
    #[must_use]
    pub fn is_inside_head(&self) -> bool {
        matches!(self.phase, Phase::Line | Phase::Fields) && self.section_bytes > 0
    }

    /// Judges the next chunk. After a violation every further chunk is one, with `keep` 0.
    pub fn inspect(&mut self, chunk: &mut [u8]) -> Inspect {
        let mut at = 0;
        while at < chunk.len() {
            let rest = chunk.get(at..).unwrap_or_default();
            let in_head = matches!(self.phase, Phase::Line | Phase::Fields);
            match self.step(rest) {
                Ok(used) => at += used,
                Err(fault) => return self.violate(chunk, at + fault.at, fault.kind, in_head),
            }
        }
        Inspect::Clean
    }

    fn violate(
        &mut self,
        chunk: &mut [u8],
        at: usize,
        kind: ViolationKind,
        in_head: bool,
    ) -> Inspect {
        let was_dead = matches!(self.phase, Phase::Dead(_));
        self.phase = Phase::Dead(kind);
        if let Some(byte) = chunk.get_mut(at) {
            *byte = self.body.poison();
        }
        let keep = if was_dead { 0 } else { at + 1 };
        Inspect::Violation(Violation {
            kind,
            keep,
            in_head,
        })
    }

    /// Takes some bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.phase {
            Phase::Line => self.within(self.limits.head_bytes_max, bytes, |guard, bytes| {
                let step = guard.line.advance(bytes)?;
                if let Step::Done(_) = step {
                    guard.fields.start_head(guard.line.is_http_10());
                    guard.phase = Phase::Fields;
                }
                Ok(step)
            }),
            Phase::Fields => self.within(self.limits.head_bytes_max, bytes, |guard, bytes| {
                let step = guard.fields.advance(bytes, guard.limits.fields_max)?;
                if let Step::Done(used) = step {
                    guard
                        .end_head()
                        .map_err(|kind| Fault { at: used - 1, kind })?;
                }
                Ok(step)
            }),
            Phase::Body => {
                let step = self.body.advance(bytes, self.limits.extension_bytes_max)?;
                let Step::Done(used) = step else {
                    return Ok(bytes.len());
                };
                if self.body.has_trailers() {
                    self.section_bytes = 0;
                    self.fields.start_trailers();
                    self.phase = Phase::Trailers;
                } else {
                    self.end_message();
                }
                Ok(used)
            }
            Phase::Trailers => self.within(TRAILER_BYTES_MAX, bytes, |guard, bytes| {
                let step = guard.fields.advance(bytes, guard.limits.fields_max)?;
                if let Step::Done(_) = step {
                    guard.end_message();
                }
                Ok(step)
            }),
            Phase::Dead(kind) => Err(Fault { at: 0, kind }),
        }
    }

    /// Runs `part` on no more bytes than the section may still have. The byte that exceeds it is the
    /// fault, wherever the chunk ends.
    fn within(
        &mut self,
        bytes_max: usize,
        bytes: &[u8],
        part: impl FnOnce(&mut Self, &[u8]) -> Result<Step, Fault>,
    ) -> Result<usize, Fault> {
        let left = bytes_max.saturating_sub(self.section_bytes);
        if left == 0 {
            let kind = if self.phase == Phase::Line && self.line.is_in_target() {
                ViolationKind::TargetTooLong
            } else {
                ViolationKind::HeadTooLarge
            };
            return Err(Fault { at: 0, kind });
        }
        let allowed = bytes.get(..left).unwrap_or(bytes);
        // Counted before `part`, which may start the next section at 0.
        let before = self.section_bytes;
        self.section_bytes += allowed.len();
        match part(self, allowed)? {
            Step::More => Ok(allowed.len()),
            Step::Done(used) => {
                if self.section_bytes != 0 {
                    self.section_bytes = before + used;
                }
                Ok(used)
            }
        }
    }

    /// Checks that need the whole head, and what follows it.
    fn end_head(&mut self) -> Result<(), ViolationKind> {
        let framing = self.fields.framing();
        if !framing.has_host && !self.line.is_http_10() {
            return Err(ViolationKind::MissingHost);
        }
        if self.line.is_connect() && framing.has_body() {
            return Err(ViolationKind::BodyDisallowed);
        }
        if framing.has_body() {
            self.body = Body::new(framing);
            self.phase = Phase::Body;
        } else {
            self.end_message();
        }
        Ok(())
    }

    fn end_message(&mut self) {
        self.phase = Phase::Line;
        self.section_bytes = 0;
        self.line = Line::default();
        self.body = Body::default();
    }
}

#[cfg(test)]
mod tests;
