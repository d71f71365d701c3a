//! Every reason to say no, each a sentence with a stable label for counters and the audit log.

use super::identity::IdentityError;
use super::identity::SpiffeId;

/// Why somebody did not get what they asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody known asks.
    #[error(
        "the caller is not authenticated: neither a client certificate, nor a join token, nor a known local user"
    )]
    Anonymous,
    /// A request for a certificate that can sign.
    #[error("the signing request asks for a certificate of an authority; only leaves are issued")]
    AsksForAuthority,
    /// The self-signature does not fit the key.
    #[error("the signing request is not signed by the key in it")]
    BadSignature,
    /// A certificate the TLS library does not believe, or none where one is demanded.
    #[error("no connection with this certificate: {reason}")]
    Certificate {
        /// In the library's words.
        reason: String,
    },
    /// More certificates than a way to a root can need.
    #[error("the chain has {count} certificates; at most {most} are taken")]
    ChainLong {
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// A private key over a wire anybody can read.
    #[error("the connection is neither encrypted nor local; secrets need TLS")]
    Exposed,
    /// What the issuing certificate can still give is too short.
    #[error(
        "the issuing certificate ends in {seconds} s, which is too soon; rotate the intermediate"
    )]
    IssuerEnds {
        /// Seconds left.
        seconds: u64,
    },
    /// A kind of key that is not allowed here.
    #[error("a key of type {kind} is not allowed here")]
    KeyNotAllowed {
        /// What it is.
        kind: String,
    },
    /// A kind of key nobody here knows.
    #[error("the key is of an unknown type or curve ({kind}); use ECDSA P-256")]
    KeyUnknown {
        /// What it says it is.
        kind: String,
    },
    /// Too short or too long.
    #[error("an RSA key of {bits} bits is refused; between 2048 and 8192 are allowed")]
    KeyWeak {
        /// Its size.
        bits: usize,
    },
    /// A life nobody may have.
    #[error("a life of {seconds} s is refused; between {min} s and {max} s are allowed")]
    Life {
        /// What was asked for.
        seconds: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Not a signing request.
    #[error("not a signing request: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A name in the request that is no identity.
    #[error("the name {name:?} is no identity: {reason}")]
    NameInvalid {
        /// As written.
        name: String,
        /// What is wrong with it.
        reason: IdentityError,
    },
    /// A name in the request that is of no use here.
    #[error(
        "the signing request has the name {name:?}; the only name allowed is the caller's own identity"
    )]
    NameForeign {
        /// As written.
        name: String,
    },
    /// A name in the request with a star.
    #[error("the name {name:?} has a wildcard")]
    NameWildcard {
        /// As written.
        name: String,
    },
    /// Somebody else's.
    #[error("{name:?} is not for {identity}")]
    NotYours {
        /// What was asked for.
        name: String,
        /// Who asked.
        identity: SpiffeId,
    },
    /// Of another authority.
    #[error("{name:?} is of another trust domain")]
    OtherDomain {
        /// What was asked for.
        name: String,
    },
    /// The identity was revoked as a whole.
    #[error("the certificate of the caller was revoked")]
    Revoked,
    /// The token's time has come.
    #[error("the join token expired")]
    TokenExpired,
    /// Not made here.
    #[error("the join token was not made by this authority")]
    TokenForged,
    /// Not shaped like a token.
    #[error("this is no join token")]
    TokenMalformed,
    /// Replay.
    #[error("the join token was used before")]
    TokenUsed,
    /// It asks again and again.
    #[error("this identity was signed for too often lately; it may ask again in {seconds} s")]
    TooMany {
        /// Until it may.
        seconds: u64,
    },
    /// No name of a secret.
    #[error("there is no secret named {name:?}; default, ROOTCA and spiffe://... are")]
    UnknownSecret {
        /// What was asked for.
        name: String,
    },
}

impl Refusal {
    /// The label, of counters and of the audit log.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::AsksForAuthority => "asks_for_authority",
            Self::BadSignature => "bad_signature",
            Self::Certificate { .. } => "certificate",
            Self::ChainLong { .. } => "chain_long",
            Self::Exposed => "exposed",
            Self::IssuerEnds { .. } => "issuer_ends",
            Self::KeyNotAllowed { .. } => "key_not_allowed",
            Self::KeyUnknown { .. } => "key_unknown",
            Self::KeyWeak { .. } => "key_weak",
            Self::Life { .. } => "life",
            Self::Malformed { .. } => "malformed",
            Self::NameForeign { .. } => "name_foreign",
            Self::NameInvalid { .. } => "name_invalid",
            Self::NameWildcard { .. } => "name_wildcard",
            Self::NotYours { .. } => "not_yours",
            Self::OtherDomain { .. } => "other_domain",
            Self::Revoked => "revoked",
            Self::TokenExpired => "token_expired",
            Self::TokenForged => "token_forged",
            Self::TokenMalformed => "token_malformed",
            Self::TokenUsed => "token_used",
            Self::TooMany { .. } => "too_many",
            Self::UnknownSecret { .. } => "unknown_secret",
        }
    }
}
