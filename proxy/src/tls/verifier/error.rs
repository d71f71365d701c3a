//! Verdicts as rustls wants them, so that the peer gets the alert that fits.

use std::sync::Arc;

use rustls::CertificateError;
use rustls::Error;
use rustls::OtherError;

/// A rule beyond the chain that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// `verify_certificate_hash`, `verify_certificate_spki`.
    #[error("the certificate has none of the wanted hashes")]
    Hash,
    /// RFC 5280 section 4.2.1.3.
    #[error("the certificate's key is not for signatures")]
    KeyUsage,
    /// `match_typed_subject_alt_names` and its like.
    #[error("the certificate has none of the wanted names")]
    Name,
    /// The leaf is no X.509-SVID.
    #[error("the certificate is no SPIFFE X.509-SVID")]
    SpiffeId,
    /// More than a way to an anchor can need.
    #[error("the peer shows too many certificates")]
    TooManyCertificates,
    /// More than the verifier looks at.
    #[error("the certificate has too many names")]
    TooManyNames,
    /// No bundle for it.
    #[error("the certificate's trust domain is not trusted")]
    TrustDomain,
}

impl From<Mismatch> for Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch))))
    }
}

/// What webpki has against a chain.
pub(super) fn of_webpki(error: webpki::Error) -> Error {
    use webpki::Error as Pki;
    Error::InvalidCertificate(match error {
        Pki::BadDer | Pki::BadDerTime | Pki::TrailingData(_) => CertificateError::BadEncoding,
        Pki::CaUsedAsEndEntity | Pki::EndEntityUsedAsCa | Pki::RequiredEkuNotFoundContext(_) => {
            CertificateError::InvalidPurpose
        }
        Pki::CertExpired { .. } | Pki::InvalidCertValidity => CertificateError::Expired,
        Pki::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Pki::CertRevoked => CertificateError::Revoked,
        Pki::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        Pki::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Pki::UnknownIssuer => CertificateError::UnknownIssuer,
        Pki::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Pki::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
