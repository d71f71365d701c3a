//! Guards the response side of one upstream HTTP/1 connection (security case S12).
//!
//! The same rules as for requests, with a status line, bodies that depend on the request, and bodies
//! that last until the connection closes. It does not see the request; [`ResponseGuard::expect`] says
//! what matters of it. A violation means 502 and a connection that is never used again.

use crate::http::guard::Fault;
use crate::http::guard::GuardLimits;
use crate::http::guard::Inspect;
use crate::http::guard::Step;
use crate::http::guard::TRAILER_BYTES_MAX;
use crate::http::guard::Violation;
use crate::http::guard::ViolationKind;
use crate::http::guard::body::Body;
use crate::http::guard::fields::Fields;
use crate::http::guard::status_line::StatusLine;

/// What a request means for the framing of its response (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// CONNECT: a 2xx begins a tunnel.
    Connect,
    /// HEAD: never a body.
    Head,
    /// Anything else.
    #[default]
    Other,
}

/// Guards the response side of one HTTP/1 connection.
#[derive(Clone, Debug)]
pub struct ResponseGuard {
    limits: GuardLimits,
    phase: Phase,
    expect: Expect,
    /// Bytes of this head, or of this trailer section, so far.
    section_bytes: usize,
    line: StatusLine,
    fields: Fields,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No response is due.
    Idle,
    Line,
    Fields,
    Body,
    Trailers,
    /// Until the connection closes, or another protocol from here on.
    Rest,
    Dead(ViolationKind),
}

impl ResponseGuard {
    /// A guard at the start of a connection.
    #[must_use]
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            phase: Phase::Idle,
            expect: Expect::Other,
            section_bytes: 0,
            line: StatusLine::default(),
            fields: Fields::default(),
            body: Body::default(),
        }
    }

    /// A request is about to be written, after the response to the one before is complete.
    pub fn expect(&mut self, expect: Expect) {
        if self.phase == Phase::Idle {
            self.expect = expect;
            self.start_head();
        }
    }

    /// True if no response is due: every byte would be surplus.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// True if the connection may end here without cutting a message short.
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Rest)
    }

    /// Judges the next chunk. After a violation every further chunk is one, with `keep` 0.
    pub fn inspect(&mut self, chunk: &mut [u8]) -> Inspect {
        let mut at = 0;
        while at < chunk.len() {
            let rest = chunk.get(at..).unwrap_or_default();
            let in_head = matches!(self.phase, Phase::Idle | Phase::Line | Phase::Fields);
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

    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.phase {
            Phase::Idle => Err(Fault {
                at: 0,
                kind: ViolationKind::Surplus,
            }),
            Phase::Line | Phase::Fields => self.section(bytes, self.limits.head_bytes_max),
            Phase::Trailers => self.section(bytes, TRAILER_BYTES_MAX),
            Phase::Body => {
                let step = self.body.advance(bytes, self.limits.extension_bytes_max)?;
                let Step::Done(used) = step else {
                    return Ok(bytes.len());
                };
                self.phase = Phase::Idle;
                if self.body.has_trailers() {
                    self.section_bytes = 0;
                    self.fields.start_trailers();
                    self.phase = Phase::Trailers;
                }
                Ok(used)
            }
            Phase::Rest => Ok(bytes.len()),
            Phase::Dead(kind) => Err(Fault { at: 0, kind }),
        }
    }

    /// Runs on no more bytes than the section may still have.
    fn section(&mut self, bytes: &[u8], bytes_max: usize) -> Result<usize, Fault> {
        let left = bytes_max.saturating_sub(self.section_bytes);
        if left == 0 {
            let kind = ViolationKind::HeadTooLarge;
            return Err(Fault { at: 0, kind });
        }
        let allowed = bytes.get(..left).unwrap_or(bytes);
        let step = if self.phase == Phase::Line {
            self.line.advance(allowed)?
        } else {
            self.fields.advance(allowed, self.limits.fields_max)?
        };
        let Step::Done(used) = step else {
            self.section_bytes += allowed.len();
            return Ok(allowed.len());
        };
        self.section_bytes += used;
        match self.phase {
            Phase::Line => {
                self.fields.start_response(self.line.is_http_10());
                self.phase = Phase::Fields;
            }
            Phase::Fields => self
                .end_head()
                .map_err(|kind| Fault { at: used - 1, kind })?,
            _ => self.phase = Phase::Idle,
        }
        Ok(used)
    }

    /// What follows a head, in the order of RFC 9112 section 6.3.
    fn end_head(&mut self) -> Result<(), ViolationKind> {
        let framing = self.fields.framing();
        let status = self.line.status();
        if matches!(status, 100..=199 | 204) && framing.has_body() {
            return Err(ViolationKind::BodyDisallowed);
        }
        match (status, self.expect) {
            (101, _) | (200..=299, Expect::Connect) => self.phase = Phase::Rest,
            // Not the last one: the answer proper follows.
            (100..=199, _) => self.start_head(),
            (204 | 304, _) | (_, Expect::Head) => self.phase = Phase::Idle,
            _ if framing.has_body() => {
                self.body = Body::new(framing);
                self.phase = Phase::Body;
            }
            _ if framing.content_length.is_some() => self.phase = Phase::Idle,
            _ => self.phase = Phase::Rest,
        }
        Ok(())
    }

    fn start_head(&mut self) {
        self.phase = Phase::Line;
        self.section_bytes = 0;
        self.line = StatusLine::default();
        self.body = Body::default();
    }
}
