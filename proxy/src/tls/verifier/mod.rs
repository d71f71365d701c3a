//! Whether a peer's certificate is good: chain, times, revocation, names, hashes. One set of rules for
//! clients and servers.
//!
//! webpki builds the chain; what the configuration wants beyond it is checked here on the leaf.
//! Every rule that is configured must hold; what cannot be read is not good.

mod error;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::TrustAnchor;
use rustls_pki_types::UnixTime;
use webpki::CertRevocationList;
use webpki::EndEntityCert;
use webpki::ExpirationPolicy;
use webpki::KeyUsage;
use webpki::OwnedCertRevocationList;
use webpki::RevocationCheckDepth;
use webpki::RevocationOptions;
use webpki::RevocationOptionsBuilder;
use webpki::UnknownStatusPolicy;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::tls::Trust;
use crate::config::tls::Validation;
use crate::net::tls::facts::Names;
pub(crate) use error::Mismatch;

/// Times a path is checked at when expired certificates are allowed: one for each certificate of the
/// longest path webpki builds.
const TIMES_MAX: usize = 8;

/// What of a validation cannot be used, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// The proto field.
    pub(crate) field: &'static str,
    /// For the configuration's author.
    pub(crate) reason: String,
}

/// What the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It called us.
    Client,
    /// We called it.
    Server,
}

/// The certificates of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    /// Who it is.
    pub(crate) leaf: &'a CertificateDer<'a>,
    /// What it sent to help us find the way to an anchor.
    pub(crate) intermediates: &'a [CertificateDer<'a>],
}

/// The rules for the peers of a context.
#[derive(Debug)]
pub(crate) struct Verifier {
    validation: Arc<Validation>,
    anchors: Anchors,
    crls: Vec<CertRevocationList<'static>>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
    is_required: bool,
    /// The certificate must be for the name that was sent; then the configured names do not count.
    checks_server_name: bool,
}

#[derive(Debug)]
enum Anchors {
    Hashes,
    Roots(Roots),
    Spiffe(BTreeMap<Box<str>, Roots>),
}

/// Trust anchors, and when each may be used (which webpki leaves to us).
#[derive(Debug)]
struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    validity: Vec<(i64, i64)>,
}

impl Verifier {
    /// Reads what the validation holds.
    ///
    /// # Errors
    /// The field that cannot be used.
    pub(crate) fn new(validation: &Arc<Validation>) -> Result<Self, Unusable> {
        let unusable = |field| move |reason| Unusable { field, reason };
        let anchors = match &validation.trust {
            Trust::Hashes => Anchors::Hashes,
            Trust::Roots(roots) => {
                Anchors::Roots(Roots::new(roots).map_err(unusable("trusted_ca"))?)
            }
            Trust::Spiffe(domains) => {
                let domains = domains.iter().map(|(domain, roots)| {
                    let roots = Roots::new(roots).map_err(unusable("custom_validator_config"))?;
                    Ok((domain.clone(), roots))
                });
                Anchors::Spiffe(domains.collect::<Result<_, _>>()?)
            }
        };
        let crls = validation.crls.iter().map(|crl| {
            OwnedCertRevocationList::from_der(crl)
                .map(CertRevocationList::Owned)
                .map_err(|error| format!("cannot be read: {error}"))
        });
        Ok(Self {
            crls: crls.collect::<Result<_, _>>().map_err(unusable("crl"))?,
            hints: if validation.hides_issuers {
                Vec::new()
            } else {
                anchors.hints()
            },
            anchors,
            algorithms: default_provider().signature_verification_algorithms,
            is_required: false,
            checks_server_name: false,
            validation: Arc::clone(validation),
        })
    }

    /// Clients must present a certificate: if that is asked for, and also, as in Envoy, if something
    /// is wanted of the certificate itself.
    pub(crate) fn required(mut self, is_required: bool) -> Self {
        let validation = &*self.validation;
        let wants_something = !validation.names.is_empty()
            || !validation.certificate_hashes.is_empty()
            || !validation.key_hashes.is_empty();
        self.is_required = is_required || (wants_something && !validation.accepts_untrusted);
        self
    }

    /// Servers must have a certificate for the name that was sent, in place of the configured names.
    pub(crate) fn checking_server_name(mut self, checks: bool) -> Self {
        self.checks_server_name = checks;
        self
    }

    /// Whether the certificate is good now.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub(crate) fn check(
        &self,
        chain: Chain<'_>,
        role: Role,
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let (_, leaf) = X509Certificate::from_der(chain.leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if names::has_too_many(&leaf) {
            return Err(Mismatch::TooManyNames.into());
        }
        match &self.anchors {
            Anchors::Hashes => {}
            Anchors::Roots(_) if self.is_anchor(chain.leaf) => {
                self.check_anchor(&leaf, role, now)?;
            }
            Anchors::Roots(roots) => self.check_path(chain, roots, role, now)?,
            Anchors::Spiffe(domains) => {
                check_svid(&leaf)?;
                let domain = names::trust_domain(&leaf).ok_or(Mismatch::SpiffeId)?;
                let roots = domains.get(domain).ok_or(Mismatch::TrustDomain)?;
                self.check_path(chain, roots, role, now)?;
            }
        }
        check_key_usage(&leaf)?;
        self.check_hashes(chain.leaf, &leaf)?;
        self.check_names(chain.leaf, &leaf, server_name)
    }

    fn check_path(
        &self,
        chain: Chain<'_>,
        roots: &Roots,
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut verdict = self.check_path_at(chain, roots, role, now);
        if self.validation.allows_expired {
            // webpki always looks at the time. It is asked for a time at which what it objects to
            // was good; a chain that was never good as a whole stays refused.
            for _ in 0..TIMES_MAX {
                let time = match &verdict {
                    Err(webpki::Error::CertExpired { not_after, .. }) => *not_after,
                    Err(webpki::Error::CertNotValidYet { not_before, .. }) => *not_before,
                    _ => break,
                };
                verdict = self.check_path_at(chain, roots, role, time);
            }
        }
        verdict.map_err(error::of_webpki)
    }

    fn check_path_at(
        &self,
        chain: Chain<'_>,
        roots: &Roots,
        role: Role,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let leaf = EndEntityCert::try_from(chain.leaf)?;
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let depth_max = self.validation.depth_max.map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        leaf.verify_for_usage(
            self.algorithms.all,
            &roots.anchors,
            chain.intermediates,
            now,
            usage,
            self.revocation(&lists),
            Some(&|path| {
                let above = path.intermediate_certificates().count() + 1;
                if above > depth_max {
                    return Err(webpki::Error::MaximumPathDepthExceeded);
                }
                if self.validation.allows_expired {
                    return Ok(());
                }
                roots.check_time(path.anchor(), seconds)
            }),
        )
        .map(|_path| ())
    }

    /// Whether the leaf itself is what is trusted, so that there is no path. webpki would refuse a
    /// certificate of `openssl req -x509`, which says that it is a CA.
    fn is_anchor(&self, leaf: &CertificateDer<'_>) -> bool {
        let Trust::Roots(roots) = &self.validation.trust else {
            return false;
        };
        self.crls.is_empty() && roots.contains(leaf)
    }

    fn check_anchor(
        &self,
        leaf: &X509Certificate<'_>,
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = leaf.validity();
        let fault = if self.validation.allows_expired {
            None
        } else if seconds > validity.not_after.timestamp() {
            Some(CertificateError::Expired)
        } else if seconds < validity.not_before.timestamp() {
            Some(CertificateError::NotValidYet)
        } else {
            None
        };
        let usage = leaf.extended_key_usage();
        let usage = usage.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let is_for_role = usage.is_none_or(|usage| match role {
            Role::Client => usage.value.any || usage.value.client_auth,
            Role::Server => usage.value.any || usage.value.server_auth,
        });
        let fault = fault.or((!is_for_role).then_some(CertificateError::InvalidPurpose));
        fault.map_or(Ok(()), |fault| Err(Error::InvalidCertificate(fault)))
    }

    /// As BoringSSL with CRL checks on: what no list speaks for is not good, nor is an old list.
    fn revocation<'l>(
        &self,
        lists: &'l [&'l CertRevocationList<'l>],
    ) -> Option<RevocationOptions<'l>> {
        let depth = if self.validation.only_leaf_in_crl {
            RevocationCheckDepth::EndEntity
        } else {
            RevocationCheckDepth::Chain
        };
        let builder = RevocationOptionsBuilder::new(lists).ok()?; // there are no lists
        Some(
            builder
                .with_depth(depth)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(if self.validation.allows_expired {
                    ExpirationPolicy::Ignore
                } else {
                    ExpirationPolicy::Enforce
                })
                .build(),
        )
    }

    fn check_hashes(&self, der: &[u8], leaf: &X509Certificate<'_>) -> Result<(), Error> {
        let Validation {
            certificate_hashes,
            key_hashes,
            ..
        } = &*self.validation;
        if certificate_hashes.is_empty() && key_hashes.is_empty() {
            return Ok(());
        }
        let is_among = |hashes: &[[u8; 32]], bytes: &[u8]| {
            let hash = digest::digest(&digest::SHA256, bytes);
            hashes.iter().any(|wanted| wanted == hash.as_ref())
        };
        if is_among(certificate_hashes, der) || is_among(key_hashes, leaf.public_key().raw) {
            return Ok(());
        }
        Err(Mismatch::Hash.into())
    }

    fn check_names(
        &self,
        der: &CertificateDer<'_>,
        leaf: &X509Certificate<'_>,
        server_name: Option<&ServerName<'_>>,
    ) -> Result<(), Error> {
        if self.checks_server_name {
            let name = server_name.ok_or(Mismatch::Name)?;
            let parsed = EndEntityCert::try_from(der).map_err(error::of_webpki)?;
            let verdict = parsed.verify_is_valid_for_subject_name(name);
            return verdict.map_err(|_| Mismatch::Name.into());
        }
        let wanted = &self.validation.names;
        if !wanted.is_empty() && !names::match_any(wanted, &Names::new(leaf)) {
            return Err(Mismatch::Name.into());
        }
        Ok(())
    }

    /// The verdict in a handshake.
    fn admit(
        &self,
        chain: Chain<'_>,
        role: Role,
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.check(chain, role, server_name, now) {
            Err(_) if self.validation.accepts_untrusted => Ok(()),
            verdict => verdict,
        }
    }

    /// Whether a certificate that passed is validated.
    pub(crate) fn proves_something(&self) -> bool {
        self.validation.proves_something()
    }

    /// Whether a failure ends the connection.
    pub(crate) fn is_strict(&self) -> bool {
        !self.validation.accepts_untrusted
    }
}

/// An X.509-SVID is no CA and signs nothing but handshakes (SPIFFE X.509-SVID section 4).
fn check_svid(leaf: &X509Certificate<'_>) -> Result<(), Error> {
    let usage = leaf.key_usage().map_err(|_| Mismatch::SpiffeId)?;
    let signs = usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
    if leaf.is_ca() || signs {
        return Err(Mismatch::SpiffeId.into());
    }
    Ok(())
}

/// All key exchanges we have need a signature (RFC 5280 section 4.2.1.3).
fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), Error> {
    let usage = leaf.key_usage().map_err(|_| Mismatch::KeyUsage)?;
    if usage.is_some_and(|usage| !usage.value.digital_signature()) {
        return Err(Mismatch::KeyUsage.into());
    }
    Ok(())
}

impl Roots {
    fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, String> {
        let mut roots = Self {
            anchors: Vec::new(),
            validity: Vec::new(),
        };
        for certificate in certificates {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|error| format!("a certificate cannot be a trust anchor: {error}"))?;
            let (_, parsed) = X509Certificate::from_der(certificate)
                .map_err(|error| format!("a certificate cannot be read: {error}"))?;
            let validity = parsed.validity();
            roots.anchors.push(anchor.to_owned());
            roots.validity.push((
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            ));
        }
        Ok(roots)
    }

    fn check_time(&self, used: &TrustAnchor<'_>, now: i64) -> Result<(), webpki::Error> {
        let same = |anchor: &TrustAnchor<'_>| {
            anchor.subject == used.subject
                && anchor.subject_public_key_info == used.subject_public_key_info
        };
        let mut candidates = self.anchors.iter().zip(&self.validity);
        let is_good =
            candidates.any(|(anchor, (from, to))| same(anchor) && (*from..=*to).contains(&now));
        if is_good {
            Ok(())
        } else {
            Err(webpki::Error::UnknownIssuer)
        }
    }
}

impl Anchors {
    fn hints(&self) -> Vec<DistinguishedName> {
        let of = |roots: &Roots| -> Vec<_> {
            let subjects = roots
                .anchors
                .iter()
                .map(|anchor| DistinguishedName::in_sequence(&anchor.subject));
            subjects.collect()
        };
        match self {
            Self::Hashes => Vec::new(),
            Self::Roots(roots) => of(roots),
            Self::Spiffe(domains) => domains.values().flat_map(of).collect(),
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.admit(
            Chain {
                leaf,
                intermediates,
            },
            Role::Client,
            None,
            now,
        )
        .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.admit(
            Chain {
                leaf,
                intermediates,
            },
            Role::Server,
            Some(server_name),
            now,
        )
        .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
