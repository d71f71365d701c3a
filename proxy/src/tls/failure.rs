//! Why a handshake failed, as statistics and logs tell it.

use std::fmt;
use std::io;

use rustls::CertificateError;
use rustls::Error;

use crate::tls::verifier::Mismatch;

/// A handshake that failed.
#[derive(Debug)]
pub struct Failure {
    /// What is counted.
    pub kind: Kind,
    text: String,
}

/// What kind of failure it was; each has a counter of Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The peer went, or the socket broke, before TLS had anything to say.
    Closed,
    /// TLS could not agree, or was broken: `connection_error`.
    Connection,
    /// `fail_verify_cert_hash`.
    Hash,
    /// `fail_verify_san`.
    Name,
    /// `fail_verify_no_cert`.
    NoCertificate,
    /// Not in time.
    Timeout,
    /// The chain is not good: `fail_verify_error`.
    Untrusted,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        let kind = match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Mismatch>() {
                    Some(Mismatch::Hash) => Kind::Hash,
                    Some(Mismatch::Name) => Kind::Name,
                    _ => Kind::Untrusted,
                }
            }
            Error::InvalidCertificate(_) => Kind::Untrusted,
            Error::NoCertificatesPresented => Kind::NoCertificate,
            _ => Kind::Connection,
        };
        let text = match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
            other => other.to_string(),
        };
        Self { kind, text }
    }

    pub(super) fn of_io(error: &io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        inner.map_or_else(
            || Self {
                kind: Kind::Closed,
                text: error.to_string(),
            },
            Self::of,
        )
    }

    pub(super) fn timeout() -> Self {
        Self {
            kind: Kind::Timeout,
            text: "handshake not finished in time".to_owned(),
        }
    }

    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`, with Envoy's underscores for spaces; a peer that only
    /// went, or came too late, gives none.
    pub fn reason(&self) -> Option<Box<str>> {
        let is_told = !matches!(self.kind, Kind::Closed | Kind::Timeout);
        is_told.then(|| self.to_string().replace(' ', "_").into())
    }

    pub(crate) fn connection(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Connection,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS_error: {}", self.text)
    }
}

impl std::error::Error for Failure {}
