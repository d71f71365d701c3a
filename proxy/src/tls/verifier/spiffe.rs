//! X.509-SVIDs: leaves that carry a SPIFFE ID, which says whose roots they are checked with.
//!
//! The rules are those of the SPIFFE X.509-SVID standard. Envoy is laxer in two: it takes the first of
//! several URIs, and the root of a trust domain (`spiffe://domain/`) for a workload.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::Mismatch;

/// The trust domain of a leaf that is an X.509-SVID.
pub(super) fn trust_domain<'c>(leaf: &X509Certificate<'c>) -> Result<&'c str, Mismatch> {
    if !is_workload(leaf) {
        return Err(Mismatch::SpiffeId);
    }
    let id = only_uri(leaf).ok_or(Mismatch::SpiffeId)?;
    domain_of(id).ok_or(Mismatch::SpiffeId)
}

/// A workload's certificate is no CA and has a key usage that signs neither certificates nor lists
/// (section 4.3: all SVIDs have one).
fn is_workload(leaf: &X509Certificate<'_>) -> bool {
    let usage = leaf.key_usage().ok().flatten();
    !leaf.is_ca()
        && usage.is_some_and(|usage| !usage.value.key_cert_sign() && !usage.value.crl_sign())
}

/// Section 2: exactly one URI.
fn only_uri<'c>(leaf: &X509Certificate<'c>) -> Option<&'c str> {
    let names = leaf.subject_alternative_name().ok().flatten()?;
    let all = names.value.general_names.iter();
    let mut uris = all.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (only, None) = (uris.next()?, uris.next()) else {
        return None;
    };
    Some(only)
}

/// Section 3.1: a workload has a path; SPIFFE-ID section 2: no query and no fragment.
fn domain_of(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("spiffe://")?;
    let (domain, path) = rest.split_once('/')?;
    let is_whole = !domain.is_empty() && !path.is_empty() && !rest.contains(['?', '#']);
    is_whole.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_domain_and_a_path() {
        assert_eq!(domain_of("spiffe://one/a"), Some("one"));
        assert_eq!(
            domain_of("spiffe://one.example/ns/a/sa/b"),
            Some("one.example")
        );
        for id in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://one",
            "spiffe://one/",
            "spiffe://one?/a",
            "spiffe://one/a?b",
            "spiffe://one/a#b",
            "https://one/a",
            "SPIFFE://one/a",
        ] {
            assert_eq!(domain_of(id), None, "{id:?}");
        }
    }
}
