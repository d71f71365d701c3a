//! Whether a peer's certificate is good: chain, times, revocation, names, hashes. One set of rules for
//! clients and servers.
//!
//! Every rule that is configured must hold; what cannot be read is not good.
//!
//! | file | holds |
//! |---|---|
//! | `anchors` | whom a chain must end at |
//! | `error` | verdicts as rustls wants them |
//! | `handshake` | the verifier as rustls asks it |
//! | `names` | names that are wanted of a leaf |
//! | `path` | the way from leaf to anchor |
//! | `spiffe` | what an X.509-SVID is |

mod anchors;
mod error;
mod handshake;
mod names;
mod path;
mod spiffe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::CertificateError;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use webpki::CertRevocationList;
use webpki::EndEntityCert;
use webpki::OwnedCertRevocationList;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::tls::Validation;
use crate::net::tls::facts::Names;
use anchors::Anchors;
pub(crate) use error::Mismatch;

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

impl Verifier {
    /// Reads what the validation holds.
    ///
    /// # Errors
    /// The field that cannot be used.
    pub(crate) fn new(validation: &Arc<Validation>) -> Result<Self, Unusable> {
        let mut anchors = Anchors::new(&validation.trust)?;
        let crls = validation.crls.iter().map(|crl| {
            OwnedCertRevocationList::from_der(crl)
                .map(CertRevocationList::Owned)
                .map_err(|error| Unusable {
                    field: "crl",
                    reason: format!("cannot be read: {error}"),
                })
        });
        let crls = crls.collect::<Result<Vec<_>, _>>()?;
        anchors.note_lists(&crls);
        Ok(Self {
            crls,
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
    /// is wanted of the certificate itself or its SPIFFE ID chooses the roots.
    pub(crate) fn required(mut self, is_required: bool) -> Self {
        let validation = &*self.validation;
        let wants_something = !validation.names.is_empty()
            || !validation.certificate_hashes.is_empty()
            || !validation.key_hashes.is_empty();
        let is_spiffe = matches!(self.anchors, Anchors::Spiffe(_));
        self.is_required =
            is_required || ((wants_something || is_spiffe) && !validation.accepts_untrusted);
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
                let domain = spiffe::trust_domain(&leaf)?;
                let roots = domains.get(domain).ok_or(Mismatch::TrustDomain)?;
                self.check_path(chain, roots, role, now)?;
            }
        }
        check_key_usage(&leaf)?;
        self.check_hashes(chain.leaf, &leaf)?;
        self.check_names(chain.leaf, &leaf, server_name)
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

    /// What it was made of.
    pub(crate) fn validation(&self) -> &Arc<Validation> {
        &self.validation
    }

    /// Whether a certificate that passed is validated.
    pub(crate) fn proves_something(&self) -> bool {
        self.validation.proves_something()
    }

    /// Whether nothing is checked against the time.
    pub(crate) fn allows_expired(&self) -> bool {
        self.validation.allows_expired
    }

    /// Whether a failure ends the connection.
    pub(crate) fn is_strict(&self) -> bool {
        !self.validation.accepts_untrusted
    }
}

/// All key exchanges we have need a signature (RFC 5280 section 4.2.1.3).
fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), Error> {
    let usage = leaf.key_usage().map_err(|_| Mismatch::KeyUsage)?;
    if usage.is_some_and(|usage| !usage.value.digital_signature()) {
        return Err(Mismatch::KeyUsage.into());
    }
    Ok(())
}
