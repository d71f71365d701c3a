//! Who issued a certificate that was verified: the next one of the chain the peer presented, or one of
//! those that are trusted.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::ALL_VERIFICATION_ALGS;
use webpki::EndEntityCert;
use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::tls::Trust;

/// The issuer's certificate; none of a certificate that is trusted itself.
pub(super) fn of<'a>(
    leaf: &CertificateDer<'_>,
    presented: &'a [CertificateDer<'static>],
    trust: &'a Trust,
) -> Option<&'a CertificateDer<'static>> {
    let (_, read) = X509Certificate::from_der(leaf).ok()?;
    if read.issuer() == read.subject() {
        return None;
    }
    let trusted: Vec<&CertificateDer<'static>> = match trust {
        Trust::Hashes => Vec::new(),
        Trust::Roots(roots) => roots.iter().collect(),
        Trust::Spiffe(domains) => domains.values().flatten().collect(),
    };
    let has_name = |candidate: &&CertificateDer<'static>| {
        X509Certificate::from_der(candidate)
            .is_ok_and(|(_, candidate)| candidate.subject() == read.issuer())
    };
    let mut named = presented.iter().chain(trusted).filter(has_name);
    let first = named.next()?;
    let Some(second) = named.next() else {
        return Some(first); // there is no other, and the leaf was verified
    };
    // Names come again when an authority renews its key.
    let began = u64::try_from(read.validity().not_before.timestamp()).unwrap_or(0);
    let mut all = [first, second].into_iter().chain(named);
    all.find(|candidate| has_signed(candidate, leaf, began))
}

fn has_signed(issuer: &CertificateDer<'_>, leaf: &CertificateDer<'_>, at: u64) -> bool {
    let (Ok(anchor), Ok(leaf)) = (
        webpki::anchor_from_trusted_cert(issuer),
        EndEntityCert::try_from(leaf),
    ) else {
        return false;
    };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let usage = KeyUsage::client_auth();
    let anchors = [anchor];
    let path = leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, None, None);
    path.is_ok()
}
