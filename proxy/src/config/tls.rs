//! TLS of both sides (`envoy.extensions.transport_sockets.tls.v3`).
//!
//! Certificates and keys stand here as DER, already known to be usable: `xds::decode` has tried
//! them. Each secret is behind an `Arc` of its own, so that one that changes later can be replaced
//! alone. A private key never shows in `Debug`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::PrivateKeyDer;

use crate::config::Name;
use crate::config::matcher::StringMatch;
use crate::config::secret::SecretNames;

/// What a filter chain does before its filters see a byte (`DownstreamTlsContext`).
#[derive(Clone, Debug, PartialEq)]
pub struct DownstreamTls {
    /// What both sides have. At least one certificate, or the name of one.
    pub common: CommonTls,
    /// A client without certificate is refused. Never without `common.validation`.
    pub require_client_certificate: bool,
    /// A client that names no server is refused.
    pub require_sni: bool,
    /// A server name that no certificate has is answered with any that the client can verify, not
    /// with the first.
    pub full_scan_on_mismatch: bool,
    /// Ours before the client's order of cipher suites.
    pub prefer_server_ciphers: bool,
    /// How a session may be resumed.
    pub tickets: Tickets,
    /// How long a session may be resumed.
    pub session_timeout: Duration,
}

/// What a connection to an upstream does before anything is sent (`UpstreamTlsContext`).
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// What both sides have. At most one certificate.
    pub common: CommonTls,
    /// The server's name, unless something below says otherwise.
    pub sni: Option<Name>,
    /// The host's own name is the server's name, if it has one.
    pub auto_host_sni: bool,
    /// The certificate must be for the name that was sent, instead of `Validation::names`.
    pub auto_sni_san_validation: bool,
    /// Sessions kept; 0 is none.
    pub session_keys_max: usize,
}

/// `CommonTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonTls {
    /// How it is spoken.
    pub parameters: Parameters,
    /// Who we are.
    pub certificates: Vec<Arc<Certificate>>,
    /// Who the peer must be; `None` asks no client for a certificate and takes any server's.
    pub validation: Option<Arc<Validation>>,
    /// In order of preference.
    pub alpn: Vec<Box<[u8]>>,
    /// What of it comes by a name, and is not in the fields above.
    pub secrets: SecretNames,
}

/// `TlsParameters`; an empty list leaves the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The least version.
    pub least: Version,
    /// The highest version.
    pub most: Version,
    /// Of TLS 1.2, in order of preference; those of TLS 1.3 are always on.
    pub cipher_suites: Vec<CipherSuite>,
    /// In order of preference.
    pub curves: Vec<Curve>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            least: Version::Tls12,
            most: Version::Tls13,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
        }
    }
}

/// A version that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A cipher suite of TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherSuite {
    /// `ECDHE-ECDSA-AES128-GCM-SHA256`.
    EcdsaAes128,
    /// `ECDHE-ECDSA-AES256-GCM-SHA384`.
    EcdsaAes256,
    /// `ECDHE-ECDSA-CHACHA20-POLY1305`.
    EcdsaChacha20,
    /// `ECDHE-RSA-AES128-GCM-SHA256`.
    RsaAes128,
    /// `ECDHE-RSA-AES256-GCM-SHA384`.
    RsaAes256,
    /// `ECDHE-RSA-CHACHA20-POLY1305`.
    RsaChacha20,
}

/// A group of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `P-256`.
    P256,
    /// `P-384`.
    P384,
    /// `X25519`.
    X25519,
    /// `X25519MLKEM768`.
    X25519MlKem768,
}

/// A certificate with its key (`TlsCertificate`).
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Belongs to the leaf.
    pub key: PrivateKeyDer<'static>,
    /// The file it was read from, if it was one.
    pub path: Option<Box<str>>,
}

/// Who the peer must be (`CertificateValidationContext`).
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Who must have issued the certificate.
    pub trust: Trust,
    /// If there is one, every issuer on the way must have one that says nothing against its
    /// certificates.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Look only the leaf up in `crls`.
    pub only_leaf_in_crl: bool,
    /// One of them must hold, if there are any.
    pub names: Vec<NameMatch>,
    /// SHA-256 of the whole leaf, or ...
    pub certificate_hashes: Vec<[u8; 32]>,
    /// ... SHA-256 of its public key: one of all of them must hold, if there are any.
    pub key_hashes: Vec<[u8; 32]>,
    /// Most certificates above the leaf, the trust anchor included.
    pub depth_max: Option<u32>,
    /// Nothing is checked against the time (`allow_expired_certificate`).
    pub allows_expired: bool,
    /// A peer that fails is let in all the same, and known as not validated
    /// (`trust_chain_verification: ACCEPT_UNTRUSTED`).
    pub accepts_untrusted: bool,
    /// Do not tell clients which issuers we trust.
    pub hides_issuers: bool,
    /// The file the trusted roots were read from, if it was one.
    pub trusted_ca_path: Option<Box<str>>,
}

impl Validation {
    /// Everybody will do.
    pub fn anyone() -> Self {
        Self {
            trust: Trust::Hashes,
            crls: Vec::new(),
            only_leaf_in_crl: false,
            names: Vec::new(),
            certificate_hashes: Vec::new(),
            key_hashes: Vec::new(),
            depth_max: None,
            allows_expired: false,
            accepts_untrusted: false,
            hides_issuers: false,
            trusted_ca_path: None,
        }
    }

    /// Whether a certificate that passes says anything of its owner.
    pub fn proves_something(&self) -> bool {
        let has_hash = !self.certificate_hashes.is_empty() || !self.key_hashes.is_empty();
        self.trust != Trust::Hashes || has_hash
    }
}

/// Who must have issued a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// Nobody; only hashes are compared.
    Hashes,
    /// One of these.
    Roots(Vec<CertificateDer<'static>>),
    /// One of those of the trust domain that the certificate's SPIFFE id names.
    Spiffe(BTreeMap<Box<str>, Vec<CertificateDer<'static>>>),
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct NameMatch {
    /// Which names are looked at.
    pub kind: NameKind,
    /// What one of them must be.
    pub matcher: StringMatch,
}

/// A kind of subject alternative name (RFC 5280 section 4.2.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A host name. An exact matcher also takes a wildcard in the certificate.
    Dns,
    /// A mail address.
    Email,
    /// An address, compared as text.
    Ip,
    /// A URI.
    Uri,
}

/// How a session may be resumed without state here.
#[derive(Clone, PartialEq, Eq)]
pub enum Tickets {
    /// With these keys, shared with other proxies: the first seals, all open.
    Keys(Vec<Arc<[u8; 80]>>),
    /// Not at all.
    Off,
    /// With keys of this process.
    Random,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "Keys({} elided)", keys.len()),
            Self::Off => f.write_str("Off"),
            Self::Random => f.write_str("Random"),
        }
    }
}
