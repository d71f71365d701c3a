//! What is known of a TLS connection once its handshake is over: for logs, routes and headers.
//!
//! Texts are in Envoy's form, so that what reads its logs and headers reads ours. A certificate is
//! taken apart when somebody first asks.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::CipherSuite as Suite;
use rustls::CommonState;
use rustls::HandshakeKind;
use rustls::NamedGroup;
use rustls::ProtocolVersion;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::tls::Validation;
use crate::net::tls::distinguished_name;
use crate::net::tls::issuer;
use crate::net::tls::other_name;
use crate::net::tls::unix_now;

/// RFC 7468 section 2.
const PEM_LINE_SYMBOLS: usize = 64;

/// One TLS connection.
#[derive(Debug)]
pub struct Facts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite.
    pub cipher: &'static str,
    /// The group of the key exchange.
    pub group: &'static str,
    /// The name the client asked for; ours if we are the client.
    pub server_name: Option<Box<str>>,
    /// The protocol both agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// The session was resumed.
    pub is_resumed: bool,
    /// The peer's certificate was verified, and found good.
    pub is_validated: bool,
    /// What the peer presented.
    pub peer: Option<Presented>,
    /// Our certificate.
    pub local: Option<Arc<Names>>,
    /// By what the peer was verified, if it was.
    pub trusted: Option<Arc<Validation>>,
}

/// The certificates a peer presented, the leaf first.
#[derive(Debug)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    names: OnceLock<Names>,
}

/// What a certificate says of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// As RFC 2253 writes it.
    pub subject: Box<str>,
    /// As RFC 2253 writes it.
    pub issuer: Box<str>,
    /// Hexadecimal digits, lower case.
    pub serial: Box<str>,
    /// `uniformResourceIdentifier`.
    pub uris: Vec<Box<str>>,
    /// `dNSName`.
    pub dns: Vec<Box<str>>,
    /// `rfc822Name`.
    pub emails: Vec<Box<str>>,
    /// `iPAddress`, as text.
    pub ips: Vec<Box<str>>,
    /// `otherName`, without their types.
    pub others: Vec<Box<str>>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Facts {
    /// Reads what rustls knows; what it does not know is for the caller to add.
    pub fn new(state: &CommonState) -> Self {
        let chain = state.peer_certificates().unwrap_or_default();
        let peer = (!chain.is_empty()).then(|| {
            let chain = chain.iter();
            Presented::new(chain.map(|one| one.clone().into_owned()).collect())
        });
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2", // there are only these two
            },
            cipher: state
                .negotiated_cipher_suite()
                .map_or("", |suite| suite_name(suite.suite())),
            group: state
                .negotiated_key_exchange_group()
                .map_or("", |group| group_name(group.name())),
            server_name: None,
            alpn: state.alpn_protocol().map(Into::into),
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            is_validated: false,
            peer,
            local: None,
            trusted: None,
        }
    }

    /// When our certificate ends that the peer was shown, in seconds since 1970; never, if it had
    /// ended already: nobody minded.
    pub fn shown_until(&self) -> i64 {
        let now = unix_now();
        let shown = self.local.as_ref().map(|local| local.not_after);
        shown.filter(|until| *until >= now).unwrap_or(i64::MAX)
    }

    /// The certificate of the peer's issuer, if the peer was verified. Looked for each time.
    pub fn issuer(&self) -> Option<&CertificateDer<'static>> {
        let (leaf, presented) = self.peer.as_ref()?.chain().split_first()?;
        issuer::of(leaf, presented, &self.trusted.as_ref()?.trust)
    }

    /// Whether HTTP/2 was agreed on, or HTTP/1.1; `None` if nothing was.
    pub fn speaks_http2(&self) -> Option<bool> {
        match self.alpn.as_deref()? {
            b"h2" => Some(true),
            b"http/1.0" | b"http/1.1" => Some(false),
            _ => None,
        }
    }
}

impl Presented {
    /// Takes the certificates, the leaf first.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            names: OnceLock::new(),
        }
    }

    /// The certificates, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the leaf says; nothing if it cannot be read, which the verifier would have refused.
    pub fn names(&self) -> &Names {
        self.names.get_or_init(|| {
            let leaf = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
            X509Certificate::from_der(leaf)
                .map(|(_, leaf)| Names::new(&leaf))
                .unwrap_or_default()
        })
    }

    /// When the leaf ends, in seconds since 1970. Read anew each time, as it is asked for once.
    pub fn end(&self) -> i64 {
        let leaf = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
        X509Certificate::from_der(leaf)
            .map_or(i64::MAX, |(_, leaf)| leaf.validity().not_after.timestamp())
    }

    /// SHA-256 of the leaf, hexadecimal.
    pub fn sha256(&self) -> String {
        sha256(self.chain.first().map(AsRef::as_ref).unwrap_or_default())
    }

    /// The serial numbers of all certificates, as [`Names::serial`] has them.
    pub fn serials(&self) -> Vec<String> {
        let chain = self.chain.iter();
        let read = chain.filter_map(|one| X509Certificate::from_der(one).ok());
        read.map(|(_, one)| serial(one.raw_serial())).collect()
    }

    /// The leaf as PEM, escaped as Envoy does in headers and logs.
    pub fn escaped_pem(&self) -> String {
        self.chain
            .first()
            .map_or_else(String::new, |leaf| escape(&pem(leaf)))
    }

    /// The whole chain, in the same form.
    pub fn escaped_chain_pem(&self) -> String {
        self.chain.iter().map(|one| escape(&pem(one))).collect()
    }
}

impl Names {
    /// Reads a certificate.
    pub(crate) fn new(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self {
            subject: distinguished_name::rfc2253(certificate.subject()).into(),
            issuer: distinguished_name::rfc2253(certificate.issuer()).into(),
            serial: serial(certificate.raw_serial()).into(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            ..Self::default()
        };
        let alternative = certificate.subject_alternative_name().ok().flatten();
        for name in alternative
            .iter()
            .flat_map(|found| &found.value.general_names)
        {
            match name {
                GeneralName::DNSName(text) => names.dns.push((*text).into()),
                GeneralName::IPAddress(bytes) => {
                    names.ips.extend(ip(bytes).map(|ip| ip.to_string().into()));
                }
                GeneralName::OtherName(_, value) => names.others.extend(other_name::text(value)),
                GeneralName::RFC822Name(text) => names.emails.push((*text).into()),
                GeneralName::URI(text) => names.uris.push((*text).into()),
                _ => {}
            }
        }
        names
    }
}

/// The serial number of a certificate, as [`Names::serial`] has it.
pub fn serial_of(certificate: &[u8]) -> Option<String> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    Some(serial(read.raw_serial()))
}

/// The number without the zero byte that only says it is not negative.
fn serial(raw: &[u8]) -> String {
    let significant = raw.iter().position(|byte| *byte != 0);
    let digits = raw
        .get(significant.unwrap_or(raw.len())..)
        .unwrap_or_default();
    if digits.is_empty() {
        "00".to_owned()
    } else {
        hex(digits)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
        text
    })
}

/// SHA-256, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// SHA-1, hexadecimal: for logs, and nothing that is decided.
pub fn sha1(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

/// A certificate as PEM (RFC 7468).
pub fn pem(certificate: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (i, symbol) in STANDARD.encode(certificate).chars().enumerate() {
        if i > 0 && i % PEM_LINE_SYMBOLS == 0 {
            text.push('\n');
        }
        text.push(symbol);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

/// `%XX` for what PEM has and a URL may not carry.
fn escape(pem: &str) -> String {
    let mut text = String::with_capacity(pem.len() + pem.len() / 8);
    for symbol in pem.chars() {
        match symbol {
            '\n' => text.push_str("%0A"),
            ' ' => text.push_str("%20"),
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            _ => text.push(symbol),
        }
    }
    text
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

/// The group as Envoy writes it.
fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::secp521r1 => "P-521",
        NamedGroup::X25519 => "X25519",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "unknown", // no other one is offered
    }
}

/// The suite as Envoy writes it: OpenSSL's name, which for TLS 1.3 is that of the RFC.
fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown", // no other one is offered
    }
}
