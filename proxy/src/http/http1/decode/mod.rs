//! The decoder of HTTP/1: framing by the letter of RFC 9112, and nothing else passes.
//!
//! Any leniency is a chance for two readers of the same bytes to see different messages, so it stops
//! at the first byte that is not plainly right. It is sans-IO and incremental, keeps a few dozen
//! bytes of state and allocates nothing. It does not interpret targets, hosts or trailers beyond what
//! framing needs; `head` cuts a checked head into fields, `headers::validate_request` and the trailer
//! filter judge them.
//!
//! How a reader uses it: pass what was read to [`RequestDecoder::next`] again and again, without what
//! was taken before, until all is taken or the message [is complete](RequestDecoder::is_idle). Bytes
//! taken with [`Event::More`] belong to the head or the trailer section the next event ends. When an
//! upgrade or CONNECT was accepted, stop calling it: bytes sent before that are judged as a next
//! request, so early tunnel bytes are a violation (security case S14).
//!
//! Invariants: the verdict, and the offset of a violation, do not depend on how the stream was cut
//! into chunks (S16); work is linear in bytes.
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
use body::BodyStep;
use fields::Fields;
use line::Line;
pub use response::Expect;
pub use response::ResponseDecoder;
pub use violation::Violation;
pub use violation::ViolationKind;

/// Bytes of the trailer section of one message: as much as gRPC and Envoy send at most.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Bounds of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of a head, with its line ends and empty lines before it.
    pub head_bytes_max: usize,
    /// Fields of a head and its trailers together.
    pub fields_max: usize,
    /// Sum of the bytes of all chunk extensions.
    pub extension_bytes_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::REQUEST_HEADERS_BYTES_MAX,
            fields_max: limits::HEADER_COUNT_MAX,
            extension_bytes_max: limits::CHUNK_EXTENSION_BYTES_MAX,
        }
    }
}

/// How long a body is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Said by chunks.
    Chunked,
    /// Until the connection closes; only of responses.
    Close,
    /// So many bytes; 0 is no body.
    Known(u64),
}

impl BodyLength {
    /// The length, if it is known before the body.
    #[must_use]
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Known(length) => Some(length),
            Self::Chunked | Self::Close => None,
        }
    }
}

/// What the decoder came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The last so many of the bytes taken are content. If the message is complete now, it was the
    /// last.
    Content(usize),
    /// The message is complete; a trailer section, perhaps empty, ended here.
    End,
    /// A head ended here.
    Head(BodyLength),
    /// The head of an interim response (1xx) ended here; another follows.
    Interim,
    /// All bytes were taken.
    More,
    /// The last chunk ended here, and a trailer section begins, perhaps empty.
    Trailers,
}

/// Decodes the request side of one HTTP/1 connection.
#[derive(Clone, Debug)]
pub struct RequestDecoder {
    limits: DecodeLimits,
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

impl RequestDecoder {
    /// At the start of a connection.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
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

    /// Takes bytes up to the next event; returns how many.
    ///
    /// # Errors
    /// The first byte that is wrong. After that every further byte is.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Violation> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let in_head = matches!(self.phase, Phase::Line | Phase::Fields);
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

    /// Takes some bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Fault> {
        match self.phase {
            Phase::Line => {
                let bytes = self.allowed(bytes, self.limits.head_bytes_max)?;
                let step = self.line.advance(bytes)?;
                let used = self.spend(step, bytes);
                if let Step::Done(_) = step {
                    self.fields.start_head(self.line.is_http_10());
                    self.phase = Phase::Fields;
                }
                Ok((used, None))
            }
            Phase::Fields => {
                let bytes = self.allowed(bytes, self.limits.head_bytes_max)?;
                let step = self.fields.advance(bytes, self.limits.fields_max)?;
                let used = self.spend(step, bytes);
                if let Step::More = step {
                    return Ok((used, None));
                }
                let length = self
                    .end_head()
                    .map_err(|kind| Fault { at: used - 1, kind })?;
                Ok((used, Some(Event::Head(length))))
            }
            Phase::Body => self.content(bytes),
            Phase::Trailers => {
                let bytes = self.allowed(bytes, TRAILER_BYTES_MAX)?;
                let step = self.fields.advance(bytes, self.limits.fields_max)?;
                let used = self.spend(step, bytes);
                if let Step::More = step {
                    return Ok((used, None));
                }
                self.end_message();
                Ok((used, Some(Event::End)))
            }
            Phase::Dead(kind) => Err(Fault { at: 0, kind }),
        }
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Fault> {
        match self.body.advance(bytes, self.limits.extension_bytes_max)? {
            BodyStep::Content { used, len } => {
                if self.body.is_complete() {
                    self.end_message();
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
        }
    }

    /// No more bytes than the section may still have. The byte that exceeds it is the fault,
    /// wherever the chunk ends.
    fn allowed<'b>(&self, bytes: &'b [u8], bytes_max: usize) -> Result<&'b [u8], Fault> {
        let left = bytes_max.saturating_sub(self.section_bytes);
        if left == 0 {
            let kind = if self.phase == Phase::Line && self.line.is_in_target() {
                ViolationKind::TargetTooLong
            } else {
                ViolationKind::HeadTooLarge
            };
            return Err(Fault { at: 0, kind });
        }
        Ok(bytes.get(..left).unwrap_or(bytes))
    }

    fn spend(&mut self, step: Step, bytes: &[u8]) -> usize {
        let used = match step {
            Step::Done(used) => used,
            Step::More => bytes.len(),
        };
        self.section_bytes += used;
        used
    }

    /// Checks that need the whole head, and what follows it.
    fn end_head(&mut self) -> Result<BodyLength, ViolationKind> {
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
        Ok(framing.length())
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
