//! Bundles of other trust domains: what is taken from a file somebody gives us.
//!
//! Either a SPIFFE bundle (JSON, a JWK set: SPIFFE Trust Domain and Bundle section 4) or certificates
//! in PEM. Only roots for X.509-SVIDs are taken. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use webpki::anchor_from_trusted_cert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::certificate;
use super::identity::TrustDomain;
use super::key::PublicKey;
use super::refusal::Refusal;
use crate::limits::FEDERATED_BUNDLE_BYTES_MAX;
use crate::limits::FEDERATED_ROOTS_MAX;

/// Why a bundle is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// One of its certificates.
    #[error("certificate {number}: {reason}")]
    Certificate {
        /// Which, the first is 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither of the two forms.
    #[error("it is neither certificates in PEM nor a SPIFFE bundle in JSON: {0}")]
    Form(String),
    /// Nothing in it.
    #[error("it has no root for X.509 identities (in JSON: a key whose use is x509-svid)")]
    NoRoots,
    /// All of it is too old.
    #[error("all its certificates have expired; ask for a newer one")]
    Expired,
    /// Larger than any.
    #[error("it has {count} {what}, and at most {most} are taken")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
}

/// A JWK set as SPIFFE has it; what else is in it is for others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default, rename = "use")]
    purpose: String,
    #[serde(default)]
    x5c: Vec<String>,
}

/// The roots in a bundle of `domain` that is good at `now`, each once, in their order.
///
/// # Errors
/// The reason why it is not taken; nothing of it is then.
pub fn parse(
    bundle: &[u8],
    domain: &TrustDomain,
    now: u64,
) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    at_most("bytes", bundle.len(), FEDERATED_BUNDLE_BYTES_MAX)?;
    let first = bundle.iter().find(|byte| !byte.is_ascii_whitespace());
    let mut roots = match first {
        Some(b'{') => of_json(bundle)?,
        _ => CertificateDer::pem_slice_iter(bundle)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BundleError::Form(error.to_string()))?,
    };
    let mut known = BTreeSet::new();
    roots.retain(|root| known.insert(root.to_vec()));
    if roots.is_empty() {
        return Err(BundleError::NoRoots);
    }
    at_most("roots", roots.len(), FEDERATED_ROOTS_MAX)?;
    let mut is_one_alive = false;
    for (i, root) in roots.iter().enumerate() {
        let number = i + 1;
        let until =
            check(root, domain).map_err(|reason| BundleError::Certificate { number, reason })?;
        is_one_alive |= until >= now;
    }
    if is_one_alive {
        Ok(roots)
    } else {
        Err(BundleError::Expired)
    }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), BundleError> {
    if count > most {
        return Err(BundleError::TooLarge { what, count, most });
    }
    Ok(())
}

fn of_json(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let set: KeySet =
        serde_json::from_slice(bundle).map_err(|error| BundleError::Form(error.to_string()))?;
    let keys = set.keys.iter().filter(|key| key.purpose == "x509-svid");
    let roots = keys.enumerate().map(|(i, key)| {
        let wrong = |reason: &str| BundleError::Certificate {
            number: i + 1,
            reason: reason.to_owned(),
        };
        let [text] = &*key.x5c else {
            return Err(wrong("x5c must hold exactly one certificate"));
        };
        let der = STANDARD.decode(text);
        der.map(CertificateDer::from)
            .map_err(|_| wrong("x5c is not base64"))
    });
    roots.collect()
}

/// Whether others may be believed because of this certificate, and until when.
fn check(root: &CertificateDer<'_>, domain: &TrustDomain) -> Result<u64, String> {
    let parsed = certificate::parse(root).map_err(|error| error.to_string())?;
    if !parsed.is_ca() {
        return Err("it is no certificate of an authority".to_owned());
    }
    if let Err(weak @ Refusal::KeyWeak { .. }) = PublicKey::parse(parsed.public_key()) {
        return Err(weak.to_string());
    }
    if let Some(other) = other_domain(&parsed, domain) {
        return Err(format!("it is of {other}, not of {}", domain.id()));
    }
    anchor_from_trusted_cert(root).map_err(|error| error.to_string())?;
    Ok(certificate::validity_of(&parsed).until)
}

/// Whom it names, if that is somebody else: the files of two domains were mixed up.
fn other_domain(root: &X509Certificate<'_>, domain: &TrustDomain) -> Option<String> {
    let names = root.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(text) => Some(*text),
            _ => None,
        });
    let other = uris.find(|text| text.starts_with("spiffe://") && *text != domain.id());
    other.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::authority::Authority;
    use crate::ca::authority::Options;

    /// Some day of 2026.
    const START: u64 = 1_790_000_000;

    fn root_of(domain: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(domain.parse().unwrap());
        let at =
            rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(START));
        let mut authority = Authority::init(&dir.path().join("ca"), &options, at).unwrap();
        authority.bundle(at).unwrap().roots
    }

    fn json(keys: &[(&str, &str)]) -> String {
        let keys = keys.iter().map(|(purpose, pem)| {
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            serde_json::json!({"kty": "EC", "use": purpose, "x5c": [body]})
        });
        let keys: Vec<_> = keys.collect();
        serde_json::json!({"keys": keys, "spiffe_sequence": 1}).to_string()
    }

    #[test]
    fn both_forms_give_the_same_roots() {
        let domain: TrustDomain = "other.example".parse().unwrap();
        let root = root_of("other.example");
        let read = |bundle: &str| parse(bundle.as_bytes(), &domain, START);
        let wanted = read(&root).unwrap();
        assert_eq!(wanted.len(), 1);
        assert_eq!(read(&format!("{root}{root}")).unwrap(), wanted, "once");
        let bundle = json(&[("jwt-svid", "eA=="), ("x509-svid", &root)]);
        assert_eq!(read(&bundle).unwrap(), wanted);
        let second = root_of("other.example");
        assert_eq!(read(&format!("{root}\n{second}")).unwrap().len(), 2);
    }

    #[test]
    fn what_nobody_can_be_believed_for_is_refused_with_its_reason() {
        let domain: TrustDomain = "other.example".parse().unwrap();
        let root = root_of("other.example");
        let refused = |bundle: &str, now: u64, reason: &str| {
            let error = parse(bundle.as_bytes(), &domain, now).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        };
        refused("", START, "no root");
        refused("{", START, "neither");
        refused("{\"keys\": []}", START, "no root");
        refused(&json(&[("jwt-svid", &root)]), START, "no root");
        refused(
            "{\"keys\": [{\"use\": \"x509-svid\", \"x5c\": [\"%\"]}]}",
            START,
            "certificate 1: x5c is not base64",
        );
        refused(
            "{\"keys\": [{\"use\": \"x509-svid\", \"x5c\": [\"eA==\", \"eA==\"]}]}",
            START,
            "exactly one",
        );
        refused(&json(&[("x509-svid", "eA==")]), START, "cannot be read");
        refused(
            &root_of("evil.example"),
            START,
            "it is of spiffe://evil.example",
        );
        refused(&root, START + 100 * 365 * 24 * 3_600, "expired");
        refused(&" ".repeat(FEDERATED_BUNDLE_BYTES_MAX + 1), START, "bytes");
        let leaf = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        refused(&leaf.cert.pem(), START, "no certificate of an authority");
    }
}
