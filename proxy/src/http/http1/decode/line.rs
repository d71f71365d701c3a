//! The request line: `method SP target SP version CRLF`, one space each (RFC 9112 section 3).
//!
//! Empty lines before it are allowed, as section 2.2 asks. It does not judge the form of a target.

use crate::http::http1::decode::Fault;
use crate::http::http1::decode::Step;
use crate::http::http1::decode::ViolationKind;
use crate::http::http1::decode::fields::Word;
use crate::http::http1::decode::scan;

const VERSION: &[u8; 5] = b"HTTP/";
const VERSION_11: &[u8] = b" HTTP/1.1\r\n";

/// The part of the machine for one request line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    state: State,
    /// The method; only compared with `CONNECT`, so its case matters.
    method: Word,
    http_10: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    EmptyLf,
    Method,
    TargetFirst,
    Target,
    /// Bytes of the version seen.
    Version(u8),
    Lf,
}

impl Line {
    pub(super) fn is_http_10(self) -> bool {
        self.http_10
    }

    pub(super) fn is_connect(self) -> bool {
        self.method.is(b"CONNECT")
    }

    pub(super) fn is_in_target(self) -> bool {
        matches!(self.state, State::Target | State::TargetFirst)
    }

    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        if self.state == State::Start
            && let Some(end) = plain_line(bytes)
        {
            return Ok(Step::Done(end));
        }
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self.state {
                State::Start => self.start(*byte).map_err(|kind| Fault { at, kind })?,
                State::EmptyLf => {
                    expect_lf(*byte).map_err(|kind| Fault { at, kind })?;
                    self.state = State::Start;
                }
                State::Method => {
                    let end = scan::token_end(bytes, at);
                    self.method.extend(bytes.get(at..end).unwrap_or_default());
                    at = end;
                    match bytes.get(at) {
                        None => return Ok(Step::More),
                        Some(b' ') => self.state = State::TargetFirst,
                        Some(byte) => {
                            let kind = ViolationKind::of(*byte, ViolationKind::InvalidMethod);
                            return Err(Fault { at, kind });
                        }
                    }
                }
                State::TargetFirst => {
                    if *byte == b' ' {
                        let kind = ViolationKind::ExtraSpace;
                        return Err(Fault { at, kind });
                    }
                    self.state = State::Target;
                    continue;
                }
                State::Target => {
                    at = scan::target_end(bytes, at);
                    match bytes.get(at) {
                        None => return Ok(Step::More),
                        Some(b' ') => self.state = State::Version(0),
                        Some(byte) => {
                            let kind = target_fault(*byte);
                            return Err(Fault { at, kind });
                        }
                    }
                }
                State::Version(seen) => self
                    .version(seen, *byte)
                    .map_err(|kind| Fault { at, kind })?,
                State::Lf => {
                    expect_lf(*byte).map_err(|kind| Fault { at, kind })?;
                    return Ok(Step::Done(at + 1));
                }
            }
            at += 1;
        }
        Ok(Step::More)
    }

    fn start(&mut self, byte: u8) -> Result<(), ViolationKind> {
        match byte {
            b'\r' => self.state = State::EmptyLf,
            b' ' | b'\t' => return Err(ViolationKind::ExtraSpace),
            byte if scan::is_token(byte) => {
                self.method.extend(&[byte]);
                self.state = State::Method;
            }
            byte => return Err(ViolationKind::of(byte, ViolationKind::InvalidMethod)),
        }
        Ok(())
    }

    fn version(&mut self, seen: u8, byte: u8) -> Result<(), ViolationKind> {
        let invalid = ViolationKind::of(byte, ViolationKind::InvalidVersion);
        let ok = match (VERSION.get(usize::from(seen)), seen) {
            (Some(wanted), _) => byte == *wanted,
            (None, 5) if byte.is_ascii_digit() && byte != b'1' => {
                return Err(ViolationKind::UnsupportedVersion);
            }
            (None, 5) => byte == b'1',
            (None, 6) => byte == b'.',
            (None, 7) => {
                if byte.is_ascii_digit() && byte > b'1' {
                    return Err(ViolationKind::UnsupportedVersion);
                }
                self.http_10 = byte == b'0';
                matches!(byte, b'0' | b'1')
            }
            (None, _) => byte == b'\r',
        };
        if ok {
            self.state = if seen < 8 {
                State::Version(seen + 1)
            } else {
                State::Lf
            };
            return Ok(());
        }
        match byte {
            b' ' | b'\t' => Err(ViolationKind::ExtraSpace),
            b'\r' => Err(ViolationKind::InvalidVersion),
            _ => Err(invalid),
        }
    }
}

/// The length of a whole HTTP/1.1 request line that is plainly right, which most are. It accepts
/// nothing the states would not; CONNECT is left to them, because they keep the method.
fn plain_line(bytes: &[u8]) -> Option<usize> {
    let method = scan::token_end(bytes, 0);
    let is_connect = bytes.get(..method) == Some(b"CONNECT");
    if method == 0 || is_connect || bytes.get(method) != Some(&b' ') {
        return None;
    }
    let target = scan::target_end(bytes, method + 1);
    let end = target + VERSION_11.len();
    let is_plain = target > method + 1 && bytes.get(target..end) == Some(VERSION_11);
    is_plain.then_some(end)
}

/// A CR must be followed by LF.
pub(super) fn expect_lf(byte: u8) -> Result<(), ViolationKind> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(ViolationKind::BareCr)
    }
}

fn target_fault(byte: u8) -> ViolationKind {
    match byte {
        b'#' => ViolationKind::Fragment,
        // `GET /` without a version is HTTP/0.9.
        b'\r' => ViolationKind::InvalidVersion,
        byte => ViolationKind::of(byte, ViolationKind::InvalidTarget),
    }
}
