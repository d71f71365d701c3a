//! What logs and header edits may say of TLS: the tail of `%DOWNSTREAM_TLS_VERSION%` and its like.

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The one to the upstream.
    Upstream,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFact {
    /// `TLS_CIPHER`.
    Cipher,
    /// `TLS_GROUP`: the key exchange.
    Group,
    /// `LOCAL_...`: of our certificate.
    Local(Name),
    /// `PEER_...`: of the peer's certificate.
    Peer(Name),
    /// `PEER_CERT`: as PEM, escaped for a URL.
    PeerCertificate,
    /// `PEER_CHAIN_FINGERPRINTS_...`.
    PeerChainFingerprints(Hash),
    /// `PEER_CHAIN_SERIALS`.
    PeerChainSerials,
    /// `PEER_FINGERPRINT_...`.
    PeerFingerprint(Hash),
    /// `PEER_ISSUER_FINGERPRINT_256`.
    PeerIssuerFingerprint,
    /// `PEER_ISSUER_SERIAL`.
    PeerIssuerSerial,
    /// `PEER_SERIAL`.
    PeerSerial,
    /// `PEER_CERT_V_END`, with its format.
    PeerValidUntil(Option<Box<str>>),
    /// `PEER_CERT_V_START`, with its format.
    PeerValidSince(Option<Box<str>>),
    /// `SERVER_NAME`.
    ServerName,
    /// `TLS_VERSION`.
    Version,
}

/// Which of a certificate's names; of several all are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `DNS_SAN`.
    Dns,
    /// `EMAIL_SAN`.
    Email,
    /// `IP_SAN`.
    Ip,
    /// `ISSUER`.
    Issuer,
    /// `OTHERNAME_SAN`.
    Other,
    /// `SUBJECT`.
    Subject,
    /// `URI_SAN`.
    Uri,
}

/// Of what is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, for those who still compare it.
    Sha1,
    /// SHA-256.
    Sha256,
}
