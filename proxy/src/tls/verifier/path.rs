//! The way from a leaf to an anchor: signatures, times, purpose, length, revocation. webpki builds it.

use rustls::CertificateError;
use rustls::Error;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::CertRevocationList;
use webpki::EndEntityCert;
use webpki::ExpirationPolicy;
use webpki::KeyUsage;
use webpki::RevocationCheckDepth;
use webpki::RevocationOptions;
use webpki::RevocationOptionsBuilder;
use webpki::UnknownStatusPolicy;
use x509_parser::certificate::X509Certificate;

use super::Chain;
use super::Mismatch;
use super::Role;
use super::Verifier;
use super::anchors::Roots;
use super::error;
use crate::config::limits;
use crate::config::tls::Trust;

/// Times a path is checked at when expired certificates are allowed: one for each certificate of the
/// longest path webpki builds.
const TIMES_MAX: usize = 8;

impl Verifier {
    /// Whether there is a way to one of `roots`.
    pub(super) fn check_path(
        &self,
        chain: Chain<'_>,
        roots: &Roots,
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        if chain.intermediates.len() > limits::INTERMEDIATES_MAX {
            return Err(Mismatch::TooManyCertificates.into());
        }
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
            roots.is_listed.then(|| self.revocation(&lists)).flatten(),
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
    pub(super) fn is_anchor(&self, leaf: &CertificateDer<'_>) -> bool {
        let Trust::Roots(roots) = &self.validation.trust else {
            return false;
        };
        self.crls.is_empty() && roots.contains(leaf)
    }

    /// The same of a leaf that is an anchor.
    pub(super) fn check_anchor(
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
}
