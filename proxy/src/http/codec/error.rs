//! What went wrong on a connection, in words of ours.

use std::error::Error as _;
use std::fmt;
use std::io;

use crate::http::http1::decode::Violation;

/// A failure of a connection, a message or a body.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Source>,
}

#[derive(Debug)]
enum Source {
    Hyper(hyper::Error),
    Io(io::Error),
    Violation(Violation),
}

/// The kinds of [`Error`] the path distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Dropped before it was written: nothing of it reached the peer.
    Canceled,
    /// The connection ended in the middle.
    Closed,
    /// A deadline of the codec passed.
    Timeout,
    /// The peer refused the stream before looking at it (REFUSED_STREAM, or GOAWAY below it).
    Refused,
    /// The peer reset the stream or the connection.
    Reset,
    /// What the peer sent is not HTTP.
    Protocol,
    /// The other side's body failed while it was being sent on.
    User,
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<hyper::Error> for Error {
    fn from(source: hyper::Error) -> Self {
        Self {
            kind: kind_of(&source),
            source: Some(Source::Hyper(source)),
        }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        let kind = if source.kind() == io::ErrorKind::ConnectionReset {
            ErrorKind::Reset
        } else {
            ErrorKind::Closed
        };
        Self {
            kind,
            source: Some(Source::Io(source)),
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self {
            kind: ErrorKind::Protocol,
            source: Some(Source::Violation(violation)),
        }
    }
}

fn kind_of(error: &hyper::Error) -> ErrorKind {
    if let Some(reason) = http2_reason(error) {
        return match reason {
            h2::Reason::REFUSED_STREAM => ErrorKind::Refused,
            h2::Reason::PROTOCOL_ERROR
            | h2::Reason::FRAME_SIZE_ERROR
            | h2::Reason::COMPRESSION_ERROR => ErrorKind::Protocol,
            _ => ErrorKind::Reset,
        };
    }
    if error.is_canceled() {
        ErrorKind::Canceled
    } else if error.is_timeout() {
        ErrorKind::Timeout
    } else if error.is_parse() {
        ErrorKind::Protocol
    } else if error.is_user() {
        ErrorKind::User
    } else if is_reset(error) {
        ErrorKind::Reset
    } else {
        ErrorKind::Closed
    }
}

fn http2_reason(error: &hyper::Error) -> Option<h2::Reason> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    error.reason()
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionReset)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(Source::Hyper(source)) => match source.source() {
                Some(cause) => write!(f, "{source}: {cause}"),
                None => write!(f, "{source}"),
            },
            Some(Source::Io(source)) => write!(f, "{source}"),
            Some(Source::Violation(violation)) => write!(f, "{:?}", violation.kind),
            None => write!(f, "{:?}", self.kind),
        }
    }
}

impl std::error::Error for Error {}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}
