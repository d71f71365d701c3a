//! Decodes the response side of one upstream HTTP/1 connection (security case S12).
//!
//! The same rules as for requests, with a status line, bodies that depend on the request, and bodies
//! that last until the connection closes. It does not see the request; [`ResponseDecoder::expect`]
//! says what matters of it. A violation means 502 and a connection that is never used again.

use crate::http::http1::decode::BodyLength;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::decode::Event;
use crate::http::http1::decode::Fault;
use crate::http::http1::decode::Step;
use crate::http::http1::decode::TRAILER_BYTES_MAX;
use crate::http::http1::decode::Violation;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::decode::body::Body;
use crate::http::http1::decode::body::BodyStep;
use crate::http::http1::decode::fields::Fields;
use crate::http::http1::decode::status_line::StatusLine;

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

/// Decodes the response side of one HTTP/1 connection.
#[derive(Clone, Debug)]
pub struct ResponseDecoder {
    limits: DecodeLimits,
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

impl ResponseDecoder {
    /// At the start of a connection.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
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

    /// Takes bytes up to the next event; returns how many.
    ///
    /// # Errors
    /// The first byte that is wrong. After that every further byte is.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Violation> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let in_head = matches!(self.phase, Phase::Idle | Phase::Line | Phase::Fields);
            match self.step(rest) {
                Ok((used, None)) => at += used,
                Ok((used, Some(event))) => return Ok((at + used, event)),
                Err(Fault { at: offset, kind }) => {
                    self.phase = Phase::Dead(kind);
                    return Err(Violation {
                        kind,
                        at: at + offset,
                        in_head,
                    });
                }
            }
        }
        Ok((at, Event::More))
    }

    fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Fault> {
        match self.phase {
            Phase::Idle => Err(Fault {
                at: 0,
                kind: ViolationKind::Surplus,
            }),
            Phase::Line | Phase::Fields => self.section(bytes, self.limits.head_bytes_max),
            Phase::Trailers => self.section(bytes, TRAILER_BYTES_MAX),
            Phase::Body => match self.body.advance(bytes, self.limits.extension_bytes_max)? {
                BodyStep::Content { used, len } => {
                    if self.body.is_complete() {
                        self.phase = Phase::Idle;
                    }
                    Ok((used, Some(Event::Content(len))))
                }
                BodyStep::LastChunk(used) => {
                    self.section_bytes = 0;
                    self.fields.start_trailers();
                    self.phase = Phase::Trailers;
                    Ok((used, Some(Event::Trailers)))
                }
                BodyStep::More => Ok((bytes.len(), None)),
            },
            Phase::Rest => Ok((bytes.len(), Some(Event::Content(bytes.len())))),
            Phase::Dead(kind) => Err(Fault { at: 0, kind }),
        }
    }

    /// Runs on no more bytes than the section may still have.
    fn section(&mut self, bytes: &[u8], bytes_max: usize) -> Result<(usize, Option<Event>), Fault> {
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
            return Ok((allowed.len(), None));
        };
        self.section_bytes += used;
        let event = match self.phase {
            Phase::Line => {
                self.fields.start_response(self.line.is_http_10());
                self.phase = Phase::Fields;
                None
            }
            Phase::Fields => Some(
                self.end_head()
                    .map_err(|kind| Fault { at: used - 1, kind })?,
            ),
            _ => {
                self.phase = Phase::Idle;
                Some(Event::End)
            }
        };
        Ok((used, event))
    }

    /// What follows a head, in the order of RFC 9112 section 6.3.
    fn end_head(&mut self) -> Result<Event, ViolationKind> {
        let framing = self.fields.framing();
        let status = self.line.status();
        if matches!(status, 100..=199 | 204) && framing.has_body() {
            return Err(ViolationKind::BodyDisallowed);
        }
        let (phase, length) = match (status, self.expect) {
            (101, _) | (200..=299, Expect::Connect) => (Phase::Rest, BodyLength::Close),
            (100..=199, _) => {
                self.start_head();
                return Ok(Event::Interim);
            }
            (204 | 304, _) | (_, Expect::Head) => (Phase::Idle, BodyLength::Known(0)),
            _ if framing.has_body() => {
                self.body = Body::new(framing);
                (Phase::Body, framing.length())
            }
            _ if framing.content_length.is_some() => (Phase::Idle, BodyLength::Known(0)),
            _ => (Phase::Rest, BodyLength::Close),
        };
        self.phase = phase;
        Ok(Event::Head(length))
    }

    fn start_head(&mut self) {
        self.phase = Phase::Line;
        self.section_bytes = 0;
        self.line = StatusLine::default();
        self.body = Body::default();
    }
}
