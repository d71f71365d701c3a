//! The status line: `version SP status [SP reason] CRLF` (RFC 9112 section 4).
//!
//! The space before an absent reason may be absent too: many servers leave it out.

use crate::http::http1::decode::Fault;
use crate::http::http1::decode::Step;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::decode::line::expect_lf;
use crate::http::http1::decode::scan;

const VERSION: &[u8; 7] = b"HTTP/1.";

/// The part of the machine for one status line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StatusLine {
    state: State,
    http_10: bool,
    status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes of version, space and status seen.
    Fixed(u8),
    AfterStatus,
    Reason,
    Lf,
}

impl Default for State {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl StatusLine {
    pub(super) fn is_http_10(self) -> bool {
        self.http_10
    }

    pub(super) fn status(self) -> u16 {
        self.status
    }

    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let mut at = self.plain_beginning(bytes);
        while let Some(byte) = bytes.get(at) {
            let fault = |kind| Fault { at, kind };
            let wrong = ViolationKind::of(*byte, ViolationKind::InvalidStatusLine);
            match self.state {
                State::Fixed(seen) => self.fixed(seen, *byte).map_err(fault)?,
                State::AfterStatus => match *byte {
                    b' ' => self.state = State::Reason,
                    b'\r' => self.state = State::Lf,
                    _ => return Err(fault(wrong)),
                },
                State::Reason => {
                    at = scan::value_end(bytes, at);
                    match bytes.get(at) {
                        None => return Ok(Step::More),
                        Some(b'\r') => self.state = State::Lf,
                        Some(byte) => {
                            let kind = ViolationKind::of(*byte, ViolationKind::InvalidStatusLine);
                            return Err(Fault { at, kind });
                        }
                    }
                }
                State::Lf => {
                    expect_lf(*byte).map_err(fault)?;
                    return Ok(Step::Done(at + 1));
                }
            }
            at += 1;
        }
        Ok(Step::More)
    }

    /// Skips what most lines begin with. It accepts nothing the states would not.
    fn plain_beginning(&mut self, bytes: &[u8]) -> usize {
        if self.state != State::default() {
            return 0;
        }
        let Some((b"HTTP/1.1 ", rest)) = bytes.split_first_chunk() else {
            return 0;
        };
        let Some(
            [
                hundreds @ b'1'..=b'9',
                tens @ b'0'..=b'9',
                ones @ b'0'..=b'9',
                b' ',
                ..,
            ],
        ) = rest.get(..4)
        else {
            return 0;
        };
        let digit = |byte: &u8| u16::from(byte - b'0');
        self.status = 100 * digit(hundreds) + 10 * digit(tens) + digit(ones);
        self.state = State::Reason;
        b"HTTP/1.1 200 ".len()
    }

    fn fixed(&mut self, seen: u8, byte: u8) -> Result<(), ViolationKind> {
        let is_right = match seen {
            7 => {
                self.http_10 = byte == b'0';
                matches!(byte, b'0' | b'1')
            }
            8 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            10 | 11 => byte.is_ascii_digit(),
            _ => VERSION.get(usize::from(seen)) == Some(&byte),
        };
        if !is_right {
            return Err(ViolationKind::of(byte, ViolationKind::InvalidStatusLine));
        }
        if seen >= 9 {
            self.status = self.status * 10 + u16::from(byte - b'0');
        }
        self.state = if seen == 11 {
            State::AfterStatus
        } else {
            State::Fixed(seen + 1)
        };
        Ok(())
    }
}
