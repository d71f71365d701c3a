//! Just enough HTTP/1.1 to find where one message ends, for both ends of a measurement.
//!
//! Speed before strictness: the bytes come from our own generator or from a proxy under test, so
//! this checks framing and nothing else. It is no validator and no proxy may ever use it.

use memchr::memchr;
use memchr::memmem;

/// How the body of a message is delimited (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
    UntilClose,
}

/// The facts of one message head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the head, its closing blank line included.
    pub(crate) bytes: usize,
    /// Zero for a request.
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) close: bool,
}

/// The bytes are no HTTP/1.1 message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an HTTP/1.1 message")]
pub(crate) struct Malformed;

/// Reads a response head; `None` while it is incomplete.
pub(crate) fn response(buffer: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(bytes) = head_end(buffer) else {
        return Ok(None);
    };
    let head = buffer.get(..bytes).ok_or(Malformed)?;
    let status = head.get(9..12).ok_or(Malformed)?;
    let status = number(status).ok_or(Malformed)?;
    let (framing, close) = fields(head)?;
    let framing = match status {
        100..=199 | 204 | 304 => Framing::Length(0),
        _ => framing.unwrap_or(Framing::UntilClose),
    };
    let close = close || framing == Framing::UntilClose;
    let status = u16::try_from(status).map_err(|_| Malformed)?;
    Ok(Some(Head {
        bytes,
        status,
        framing,
        close,
    }))
}

/// Reads a request head; `None` while it is incomplete.
pub(crate) fn request(buffer: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(bytes) = head_end(buffer) else {
        return Ok(None);
    };
    let head = buffer.get(..bytes).ok_or(Malformed)?;
    let (framing, close) = fields(head)?;
    let framing = framing.unwrap_or(Framing::Length(0));
    Ok(Some(Head {
        bytes,
        status: 0,
        framing,
        close,
    }))
}

fn head_end(buffer: &[u8]) -> Option<usize> {
    memmem::find(buffer, b"\r\n\r\n").map(|at| at + 4)
}

fn fields(head: &[u8]) -> Result<(Option<Framing>, bool), Malformed> {
    let mut framing = None;
    let mut close = false;
    let mut rest = after_line(head);
    while !rest.is_empty() {
        let (line, next) = match memchr(b'\n', rest) {
            Some(at) => (
                rest.get(..at).unwrap_or_default(),
                rest.get(at + 1..).unwrap_or_default(),
            ),
            None => (rest, &[][..]),
        };
        rest = next;
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        let name = line.get(..colon).unwrap_or_default();
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                close |= value.eq_ignore_ascii_case(b"close");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                framing = Some(Framing::Length(number(value).ok_or(Malformed)?));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                framing = Some(Framing::Chunked);
            }
            _ => {}
        }
    }
    Ok((framing, close))
}

fn after_line(bytes: &[u8]) -> &[u8] {
    memchr(b'\n', bytes)
        .and_then(|at| bytes.get(at + 1..))
        .unwrap_or_default()
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Counts a body to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyCounter {
    state: State,
    /// Body bytes seen, framing excluded.
    pub(crate) received: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkData(u64),
    /// After the data of a chunk: its CR LF.
    ChunkEnd,
    /// A trailer line, with the count of its bytes so far.
    Trailer(u32),
    Data(u64),
    Done,
    UntilClose,
}

impl BodyCounter {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Chunked => State::ChunkSize(0),
            Framing::Length(0) => State::Done,
            Framing::Length(bytes) => State::Data(bytes),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, received: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes from the front of `bytes` and returns how many belonged to this body.
    pub(crate) fn consume(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_done() {
            let used = self.step(rest)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    fn step(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let available = rest.len() as u64;
        let first = *rest.first().ok_or(Malformed)?;
        match self.state {
            State::Data(left) => {
                let taken = left.min(available);
                self.received += taken;
                self.state = if left == taken {
                    State::Done
                } else {
                    State::Data(left - taken)
                };
                return usize::try_from(taken).map_err(|_| Malformed);
            }
            State::ChunkData(left) => {
                let taken = left.min(available);
                self.received += taken;
                self.state = if left == taken {
                    State::ChunkEnd
                } else {
                    State::ChunkData(left - taken)
                };
                return usize::try_from(taken).map_err(|_| Malformed);
            }
            State::UntilClose => {
                self.received += available;
                return Ok(rest.len());
            }
            _ => {}
        }
        self.state = self.framing_byte(first)?;
        Ok(1)
    }

    /// The states that walk one byte at a time.
    fn framing_byte(self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::ChunkSize(size) | State::ChunkExtension(size), b'\n') => match size {
                0 => State::Trailer(0),
                _ => State::ChunkData(size),
            },
            (State::ChunkSize(size), b'\r' | b';' | b' ') => State::ChunkExtension(size),
            (State::ChunkSize(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)?;
                State::ChunkSize(size.checked_add(u64::from(digit)).ok_or(Malformed)?)
            }
            (State::ChunkEnd, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::ChunkSize(0),
            (State::Trailer(0), b'\n') => State::Done,
            (State::Trailer(_), b'\n') => State::Trailer(0),
            (State::Trailer(bytes), b'\r') => State::Trailer(bytes),
            (State::Trailer(bytes), _) => State::Trailer(bytes.saturating_add(1)),
            (state @ State::ChunkExtension(_), _) => state,
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyCounter, Framing, Malformed, request, response};

    #[test]
    fn a_head_is_found_only_when_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\nhello";
        assert_eq!(response(bytes.get(..40).expect("longer")), Ok(None));
        let head = response(bytes).expect("valid").expect("complete");
        assert_eq!(head.bytes, bytes.len() - 5);
        assert_eq!(
            (head.status, head.framing, head.close),
            (200, Framing::Length(5), true)
        );
    }

    #[test]
    fn framing_follows_the_status_and_the_fields() {
        let framing = |text: &str| {
            response(text.as_bytes())
                .expect("valid")
                .expect("complete")
                .framing
        };
        assert_eq!(framing("HTTP/1.1 204 No\r\n\r\n"), Framing::Length(0));
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Framing::UntilClose);
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            Framing::Chunked
        );
        let head = request(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .expect("valid")
            .expect("whole");
        assert_eq!((head.framing, head.close), (Framing::Length(0), false));
        assert_eq!(response(b"HTTP/1.1 abc\r\n\r\n"), Err(Malformed));
    }

    #[test]
    fn a_chunked_body_ends_at_its_last_chunk_however_it_is_cut() {
        let body = b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nt: v\r\n\r\nNEXT";
        for cut in 1..body.len() {
            let (front, back) = body.split_at(cut);
            let mut counter = BodyCounter::new(Framing::Chunked);
            let mut used = counter.consume(front).expect("valid");
            if !counter.is_done() {
                used += counter.consume(back).expect("valid");
            }
            assert!(counter.is_done(), "cut at {cut}");
            assert_eq!(
                (used, counter.received),
                (body.len() - 4, 31),
                "cut at {cut}"
            );
        }
        let mut counter = BodyCounter::new(Framing::Chunked);
        assert!(counter.consume(b"zz\r\n").is_err());
    }

    #[test]
    fn a_sized_body_leaves_the_next_message_alone() {
        let mut counter = BodyCounter::new(Framing::Length(3));
        assert_eq!(counter.consume(b"abcdef").expect("valid"), 3);
        assert!(counter.is_done());
        assert!(BodyCounter::new(Framing::Length(0)).is_done());
    }
}
