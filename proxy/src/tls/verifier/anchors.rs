//! Whom a chain of certificates must end at.

use std::collections::BTreeMap;

use rustls::DistinguishedName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::TrustAnchor;
use webpki::CertRevocationList;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::Unusable;
use crate::config::tls::Trust;

/// What is trusted.
#[derive(Debug)]
pub(super) enum Anchors {
    /// Nobody in particular: hashes decide.
    Hashes,
    /// These, for everybody.
    Roots(Roots),
    /// Each for its trust domain.
    Spiffe(BTreeMap<Box<str>, Roots>),
}

/// Trust anchors, and when each may be used (which webpki leaves to us).
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// Whether revocation lists speak for what is below them.
    pub(super) is_listed: bool,
    validity: Vec<(i64, i64)>,
}

impl Anchors {
    /// Reads what is trusted.
    pub(super) fn new(trust: &Trust) -> Result<Self, Unusable> {
        let unusable = |field| move |reason| Unusable { field, reason };
        Ok(match trust {
            Trust::Hashes => Self::Hashes,
            Trust::Roots(roots) => Self::Roots(Roots::new(roots).map_err(unusable("trusted_ca"))?),
            Trust::Spiffe(domains) => {
                let domains = domains.iter().map(|(domain, roots)| {
                    let roots = Roots::new(roots).map_err(unusable("custom_validator_config"))?;
                    Ok((domain.clone(), roots))
                });
                Self::Spiffe(domains.collect::<Result<_, _>>()?)
            }
        })
    }

    /// Lists are of some trust domains and say nothing of the others: one is checked if there is a list
    /// of one of its own anchors. Without trust domains the lists are for everybody.
    pub(super) fn note_lists(&mut self, lists: &[CertRevocationList<'_>]) {
        let Self::Spiffe(domains) = self else { return };
        for roots in domains.values_mut() {
            let mut anchors = roots.anchors.iter();
            roots.is_listed = anchors.any(|anchor| {
                let mut lists = lists.iter();
                lists.any(|list| list.issuer() == anchor.subject.as_ref())
            });
        }
    }

    /// Whom clients are told to have a certificate of.
    pub(super) fn hints(&self) -> Vec<DistinguishedName> {
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

impl Roots {
    fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, String> {
        let mut roots = Self {
            anchors: Vec::new(),
            is_listed: true,
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

    /// Whether the anchor a path ends at may be used at this time.
    pub(super) fn check_time(&self, used: &TrustAnchor<'_>, now: i64) -> Result<(), webpki::Error> {
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
