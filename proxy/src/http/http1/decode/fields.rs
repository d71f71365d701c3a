//! Header and trailer fields: `name ":" OWS value OWS CRLF` (RFC 9112 section 5).
//!
//! It reads the values of `Content-Length`, `Transfer-Encoding` and `Host` byte by byte, so that none
//! has to be kept; trailers of those names have no effect. No space may follow the first two
//! values: readers disagree on it.

use crate::http::http1::decode::BodyLength;
use crate::http::http1::decode::Fault;
use crate::http::http1::decode::Step;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::decode::line::expect_lf;
use crate::http::http1::decode::scan;

/// Longest name that means something here.
const WORD_BYTES: usize = "transfer-encoding".len();

/// Most digits of a content length, so that none overflows; more would only be leading zeros.
const LENGTH_DIGITS_MAX: u8 = 19;

const CHUNKED: &[u8; 7] = b"chunked";

/// The beginning of a name or method that may come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; WORD_BYTES],
    /// May exceed the array, then it equals nothing.
    len: usize,
}

impl Word {
    pub(super) fn extend(&mut self, more: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.len);
        for (to, from) in room.zip(more) {
            *to = *from;
        }
        self.len = self.len.saturating_add(more.len());
    }

    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(text)
    }
}

/// What the fields of a head say about framing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) content_length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) has_host: bool,
}

impl Framing {
    pub(super) fn length(&self) -> BodyLength {
        if self.is_chunked {
            BodyLength::Chunked
        } else {
            BodyLength::Known(self.content_length.unwrap_or(0))
        }
    }

    pub(super) fn has_body(&self) -> bool {
        self.is_chunked || self.content_length.is_some_and(|length| length > 0)
    }
}

/// The part of the machine for one section of fields.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    state: State,
    field: Field,
    name: Word,
    count: usize,
    /// Digits of the length, or bytes of the coding, of the current value.
    seen: u8,
    length: u64,
    framing: Framing,
    http_10: bool,
    /// Of a response: `Host` means nothing.
    response: bool,
    trailers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Name,
    /// White space before the value.
    Gap,
    Value,
    ValueLf,
    EndLf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    ContentLength,
    Host,
    #[default]
    Other,
    TransferEncoding,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => Self::Host,
            14 if name.eq_ignore_ascii_case(b"content-length") => Self::ContentLength,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }
}

impl Fields {
    pub(super) fn start_head(&mut self, http_10: bool) {
        *self = Self {
            http_10,
            ..Self::default()
        };
    }

    pub(super) fn start_response(&mut self, http_10: bool) {
        *self = Self {
            http_10,
            response: true,
            ..Self::default()
        };
    }

    /// Counts on from the head.
    pub(super) fn start_trailers(&mut self) {
        *self = Self {
            count: self.count,
            trailers: true,
            ..Self::default()
        };
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn advance(&mut self, bytes: &[u8], fields_max: usize) -> Result<Step, Fault> {
        let mut at = 0;
        loop {
            if self.state == State::Start {
                at = self.plain_lines(bytes, at, fields_max);
            }
            let Some(byte) = bytes.get(at) else {
                return Ok(Step::More);
            };
            match self.state {
                State::Start => match *byte {
                    b'\r' => {
                        self.state = State::EndLf;
                        at += 1;
                    }
                    byte if scan::is_token(byte) => {
                        self.state = State::Name;
                        self.name.len = 0;
                    }
                    byte => {
                        let kind = first_fault(byte);
                        return Err(Fault { at, kind });
                    }
                },
                State::Name => at = self.name(bytes, at, fields_max)?,
                State::Gap => match *byte {
                    b' ' | b'\t' => at += 1,
                    _ => self.state = State::Value,
                },
                State::Value => at = self.value(bytes, at)?,
                State::ValueLf => {
                    expect_lf(*byte).map_err(|kind| Fault { at, kind })?;
                    self.state = State::Start;
                    at += 1;
                }
                State::EndLf => {
                    expect_lf(*byte).map_err(|kind| Fault { at, kind })?;
                    return Ok(Step::Done(at + 1));
                }
            }
        }
    }

    /// Skips whole lines that are plainly right and need no more than a look at their value, which
    /// most are. It accepts nothing the states would not.
    fn plain_lines(&mut self, bytes: &[u8], start: usize, fields_max: usize) -> usize {
        let mut at = start;
        while self.count < fields_max {
            let colon = scan::token_end(bytes, at);
            let name = bytes.get(at..colon).unwrap_or_default();
            if name.is_empty() || bytes.get(colon) != Some(&b':') {
                return at;
            }
            let end = scan::value_end(bytes, colon + 1);
            if bytes.get(end..end + 2) != Some(b"\r\n") {
                return at;
            }
            let value = bytes.get(colon + 1..end).unwrap_or_default();
            if !self.is_plain(name, value) {
                return at;
            }
            self.count += 1;
            at = end + 2;
        }
        at
    }

    fn is_plain(&mut self, name: &[u8], value: &[u8]) -> bool {
        match Field::of(name) {
            Field::Other => true,
            _ if self.trailers => true,
            Field::Host if self.response => true,
            Field::Host if !self.framing.has_host => {
                let host = value.strip_prefix(b" ").unwrap_or(value);
                self.framing.has_host = host.iter().all(|byte| host_byte(*byte).is_ok());
                self.framing.has_host
            }
            Field::ContentLength | Field::Host | Field::TransferEncoding => false,
        }
    }

    fn name(&mut self, bytes: &[u8], at: usize, fields_max: usize) -> Result<usize, Fault> {
        let end = scan::token_end(bytes, at);
        let part = bytes.get(at..end).unwrap_or_default();
        let Some(byte) = bytes.get(end) else {
            self.name.extend(part);
            return Ok(end);
        };
        let fault = |kind| Fault { at: end, kind };
        if *byte != b':' {
            return Err(fault(match byte {
                b' ' | b'\t' => ViolationKind::SpaceInName,
                byte => ViolationKind::of(*byte, ViolationKind::InvalidName),
            }));
        }
        let field = if self.name.len == 0 {
            Field::of(part)
        } else {
            self.name.extend(part);
            Field::of(self.name.bytes.get(..self.name.len).unwrap_or_default())
        };
        self.start_value(field, fields_max).map_err(fault)?;
        Ok(end + 1)
    }

    fn start_value(&mut self, field: Field, fields_max: usize) -> Result<(), ViolationKind> {
        self.count += 1;
        if self.count > fields_max {
            return Err(ViolationKind::TooManyFields);
        }
        self.field = match field {
            _ if self.trailers => Field::Other,
            Field::Host if self.response => Field::Other,
            field => field,
        };
        self.seen = 0;
        self.length = 0;
        self.state = State::Gap;
        match self.field {
            Field::ContentLength if self.framing.is_chunked => Err(ViolationKind::TwoFramings),
            Field::Host if self.framing.has_host => Err(ViolationKind::DuplicateHost),
            Field::Host => {
                self.framing.has_host = true;
                Ok(())
            }
            Field::TransferEncoding => self.start_transfer_encoding(),
            Field::ContentLength | Field::Other => Ok(()),
        }
    }

    fn start_transfer_encoding(&self) -> Result<(), ViolationKind> {
        if self.framing.content_length.is_some() {
            Err(ViolationKind::TwoFramings)
        } else if self.http_10 || self.framing.is_chunked {
            Err(ViolationKind::InvalidTransferEncoding)
        } else {
            Ok(())
        }
    }

    fn value(&mut self, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let mut at = at;
        if self.field == Field::Other {
            at = scan::value_end(bytes, at);
        }
        while let Some(byte) = bytes.get(at) {
            let fault = |kind| Fault { at, kind };
            if *byte == b'\r' {
                self.end_value().map_err(fault)?;
                self.state = State::ValueLf;
                return Ok(at + 1);
            }
            match self.field {
                Field::ContentLength => self.length_byte(*byte),
                Field::Host => host_byte(*byte),
                Field::Other => Err(ViolationKind::of(*byte, ViolationKind::InvalidValue)),
                Field::TransferEncoding => self.coding_byte(*byte),
            }
            .map_err(fault)?;
            at += 1;
        }
        Ok(at)
    }

    fn length_byte(&mut self, byte: u8) -> Result<(), ViolationKind> {
        let invalid = ViolationKind::InvalidContentLength;
        if !byte.is_ascii_digit() || self.seen == LENGTH_DIGITS_MAX {
            return Err(ViolationKind::of(byte, invalid));
        }
        self.seen += 1;
        let length = self.length.checked_mul(10);
        let length = length.and_then(|length| length.checked_add(u64::from(byte - b'0')));
        self.length = length
            .filter(|length| i64::try_from(*length).is_ok())
            .ok_or(invalid)?;
        Ok(())
    }

    fn coding_byte(&mut self, byte: u8) -> Result<(), ViolationKind> {
        let wanted = CHUNKED.get(usize::from(self.seen));
        if wanted != Some(&byte.to_ascii_lowercase()) {
            let invalid = ViolationKind::InvalidTransferEncoding;
            return Err(ViolationKind::of(byte, invalid));
        }
        self.seen += 1;
        Ok(())
    }

    fn end_value(&mut self) -> Result<(), ViolationKind> {
        match self.field {
            Field::Host | Field::Other => {}
            Field::ContentLength => {
                if self.seen == 0 {
                    return Err(ViolationKind::InvalidContentLength);
                }
                // The codec makes one of several that are equal (security case S2).
                let first = self.framing.content_length.get_or_insert(self.length);
                if *first != self.length {
                    return Err(ViolationKind::InvalidContentLength);
                }
            }
            Field::TransferEncoding => {
                if usize::from(self.seen) != CHUNKED.len() {
                    return Err(ViolationKind::InvalidTransferEncoding);
                }
                self.framing.is_chunked = true;
            }
        }
        Ok(())
    }
}

/// Why a field line cannot begin with `byte`.
fn first_fault(byte: u8) -> ViolationKind {
    match byte {
        b' ' | b'\t' => ViolationKind::ObsFold,
        b':' => ViolationKind::InvalidName,
        byte => ViolationKind::of(byte, ViolationKind::InvalidName),
    }
}

/// No list, no user information, no path: what one reader takes for a separator and another does not.
fn host_byte(byte: u8) -> Result<(), ViolationKind> {
    match byte {
        b',' | b' ' | b'\t' | b'@' | b'/' | b'?' | b'#' | b'\\' => Err(ViolationKind::InvalidHost),
        0x21..=0x7e => Ok(()),
        byte => Err(ViolationKind::of(byte, ViolationKind::InvalidHost)),
    }
}
