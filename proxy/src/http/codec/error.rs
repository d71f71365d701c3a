//! What went wrong on a connection, in words of ours.

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
    Http2(h2::Error),
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

impl From<h2::Error> for Error {
    fn from(source: h2::Error) -> Self {
        Self {
            kind: kind_of(&source),
            source: Some(Source::Http2(source)),
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

fn kind_of(error: &h2::Error) -> ErrorKind {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => ErrorKind::Refused,
        Some(
            h2::Reason::PROTOCOL_ERROR
            | h2::Reason::FRAME_SIZE_ERROR
            | h2::Reason::COMPRESSION_ERROR,
        ) => ErrorKind::Protocol,
        Some(_) => ErrorKind::Reset,
        None => match error.get_io() {
            Some(io) if io.kind() == io::ErrorKind::ConnectionReset => ErrorKind::Reset,
            Some(_) => ErrorKind::Closed,
            None => ErrorKind::User,
        },
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(Source::Http2(source)) => write!(f, "{source}"),
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
