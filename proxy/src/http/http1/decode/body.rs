//! Lengths and chunks (RFC 9112 section 7.1).
//!
//! It looks at no byte of content. Trailers are `fields`'.

use crate::http::http1::decode::Fault;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::decode::fields::Framing;
use crate::http::http1::decode::line::expect_lf;

/// Most digits of a chunk size: all a u64 has. More would only be leading zeros (security case S6).
const SIZE_DIGITS_MAX: u8 = 16;

/// The part of the machine for one body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body {
    state: State,
    /// Bytes of content until the next thing to read.
    left: u64,
    digits: u8,
    /// Of all chunk extensions of this message.
    extension_bytes: usize,
    quote: Quote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Length,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// Where in a quoted extension value we are. A line may not end inside one: readers disagree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quote {
    Escape,
    Inside,
    #[default]
    Outside,
}

/// How far a body came.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyStep {
    /// The last `len` of `used` bytes are content.
    Content { used: usize, len: usize },
    /// The last chunk ended here; trailers follow.
    LastChunk(usize),
    /// All bytes were taken.
    More,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        let (state, left) = match framing.content_length {
            _ if framing.is_chunked => (State::Size, 0),
            length => (State::Length, length.unwrap_or(0)),
        };
        Self {
            state,
            left,
            ..Self::default()
        }
    }

    /// True once a body whose length was known is complete; chunks end by the last of them.
    pub(super) fn is_complete(self) -> bool {
        self.state == State::Length && self.left == 0
    }

    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        extension_max: usize,
    ) -> Result<BodyStep, Fault> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let fault = |kind| Fault { at, kind };
            match self.state {
                State::Length | State::Data => {
                    let there = bytes.len() - at;
                    let len = usize::try_from(self.left).map_or(there, |left| left.min(there));
                    // `len` is at most `left`.
                    self.left -= len as u64;
                    if self.left == 0 && self.state == State::Data {
                        self.state = State::DataCr;
                    }
                    return Ok(BodyStep::Content {
                        used: at + len,
                        len,
                    });
                }
                State::Size => self.size(*byte).map_err(fault)?,
                State::Extension => self.extension(*byte, extension_max).map_err(fault)?,
                State::SizeLf => {
                    expect_lf(*byte).map_err(fault)?;
                    if self.left == 0 {
                        return Ok(BodyStep::LastChunk(at + 1));
                    }
                    self.state = State::Data;
                }
                State::DataCr => {
                    if *byte != b'\r' {
                        let invalid = ViolationKind::InvalidChunk;
                        return Err(fault(ViolationKind::of(*byte, invalid)));
                    }
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect_lf(*byte).map_err(fault)?;
                    self.digits = 0;
                    self.state = State::Size;
                }
            }
            at += 1;
        }
        Ok(BodyStep::More)
    }

    fn size(&mut self, byte: u8) -> Result<(), ViolationKind> {
        let invalid = ViolationKind::InvalidChunk;
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.digits == SIZE_DIGITS_MAX {
                return Err(invalid);
            }
            let size = self.left << 4 | u64::from(digit);
            self.left = size;
            self.digits += 1;
            return i64::try_from(size).map(|_| ()).map_err(|_overflow| invalid);
        }
        match byte {
            b'\r' if self.digits > 0 => self.state = State::SizeLf,
            b';' if self.digits > 0 => {
                self.state = State::Extension;
                self.quote = Quote::Outside;
            }
            b'\r' => return Err(invalid),
            byte => return Err(ViolationKind::of(byte, invalid)),
        }
        Ok(())
    }

    fn extension(&mut self, byte: u8, extension_max: usize) -> Result<(), ViolationKind> {
        if byte == b'\r' {
            if self.quote != Quote::Outside {
                return Err(ViolationKind::InvalidChunk);
            }
            self.state = State::SizeLf;
            return Ok(());
        }
        self.extension_bytes += 1;
        if self.extension_bytes > extension_max {
            return Err(ViolationKind::ExtensionsTooLarge);
        }
        if (byte < 0x20 && byte != b'\t') || byte == 0x7f {
            return Err(ViolationKind::of(byte, ViolationKind::InvalidChunk));
        }
        self.quote = match (self.quote, byte) {
            (Quote::Outside, b'"') | (Quote::Escape, _) => Quote::Inside,
            (Quote::Inside, b'"') | (Quote::Outside, _) => Quote::Outside,
            (Quote::Inside, b'\\') => Quote::Escape,
            (Quote::Inside, _) => Quote::Inside,
        };
        Ok(())
    }
}
