//! Lengths and chunks (RFC 9112 section 7.1).
//!
//! It looks at no byte of content. Trailers are `fields`'.

use crate::http::guard::Fault;
use crate::http::guard::Step;
use crate::http::guard::ViolationKind;
use crate::http::guard::fields::Framing;
use crate::http::guard::line::expect_lf;

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

    /// True if trailers follow a complete body.
    pub(super) fn has_trailers(self) -> bool {
        self.state != State::Length
    }

    /// A byte the codec refuses here: in an extension it takes anything but a line feed.
    pub(super) fn poison(self) -> u8 {
        if self.state == State::Extension {
            b'\n'
        } else {
            0
        }
    }

    pub(super) fn advance(&mut self, bytes: &[u8], extension_max: usize) -> Result<Step, Fault> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let fault = |kind| Fault { at, kind };
            match self.state {
                State::Length | State::Data => {
                    let there = bytes.len() - at;
                    let take = usize::try_from(self.left).map_or(there, |left| left.min(there));
                    // `take` is at most `left`.
                    self.left -= take as u64;
                    at += take;
                    if self.left > 0 {
                        return Ok(Step::More);
                    }
                    if self.state == State::Length {
                        return Ok(Step::Done(at));
                    }
                    self.state = State::DataCr;
                    continue;
                }
                State::Size => self.size(*byte).map_err(fault)?,
                State::Extension => self.extension(*byte, extension_max).map_err(fault)?,
                State::SizeLf => {
                    expect_lf(*byte).map_err(fault)?;
                    if self.left == 0 {
                        return Ok(Step::Done(at + 1));
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
        Ok(Step::More)
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
