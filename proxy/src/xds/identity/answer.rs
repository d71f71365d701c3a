//! What a signer sent: the leaf, what is between it and the root, last the roots; each as PEM.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;

use crate::config::identity::Identity;
use crate::config::limits::INTERMEDIATES_MAX;
use crate::config::tls::Certificate;
use crate::config::tls::Trust;
use crate::config::tls::Validation;
use crate::tls::own;
use crate::tls::signing_request::OwnKey;

/// Roots of one answer: a few while they are replaced.
const ROOTS_MAX: usize = 64;

/// A certificate that can be used.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) certificate: Arc<Certificate>,
    /// Whom to believe.
    pub(super) trust: Arc<Validation>,
    /// Whom it names.
    pub(super) name: String,
    pub(super) serial: Box<str>,
    /// When it ends.
    pub(super) until: SystemTime,
}

/// Takes an answer apart, and tries what is in it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(
    chain: Vec<String>,
    key: &OwnKey,
    identity: &Identity,
    now: UnixTime,
) -> Result<Issued, String> {
    let Some((roots, path)) = chain.split_last().filter(|(_, path)| !path.is_empty()) else {
        let count = chain.len();
        return Err(format!(
            "a chain has a leaf and at least one root, this one has {count} certificates"
        ));
    };
    let path: Vec<_> = path
        .iter()
        .map(|pem| certificates(pem))
        .collect::<Result<_, _>>()?;
    let path: Vec<_> = path.into_iter().flatten().collect();
    let roots = certificates(roots)?;
    if path.len() > 1 + INTERMEDIATES_MAX || roots.len() > ROOTS_MAX {
        let (above, roots) = (path.len() - 1, roots.len());
        return Err(format!(
            "{above} intermediates and {roots} roots are too many"
        ));
    }
    let certificate = Certificate {
        chain: path,
        key: key.to_der().map_err(|error| error.to_string())?,
        path: None,
    };
    let trust = Arc::new(Validation {
        trust: Trust::Roots(roots),
        ..Validation::anyone()
    });
    let names = own::check(&certificate, &trust, now)?;
    if let Some(wanted) = &identity.spiffe_id
        && !matches!(&*names.uris, [only] if **only == **wanted)
    {
        let found = names.uris.join(" ");
        return Err(format!("the certificate names {found:?}, not {wanted:?}"));
    }
    let end = u64::try_from(names.not_after).unwrap_or_default();
    Ok(Issued {
        certificate: Arc::new(certificate),
        trust,
        name: names.uris.join(" "),
        serial: names.serial,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(end),
    })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes());
    let read: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| format!("one is no PEM: {error}"))?;
    if read.is_empty() {
        return Err("one holds no certificate in PEM".to_owned());
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rcgen::date_time_ymd;

    use super::*;
    use crate::config::grpc::GrpcSettings;
    use crate::tls::fixtures::Authority;
    use crate::tls::fixtures::CA;
    use crate::tls::fixtures::params;

    const CART: &str = "spiffe://mesh.example/cart";

    fn identity(wanted: Option<&str>) -> Identity {
        Identity {
            signer: "signer".into(),
            settings: GrpcSettings::default(),
            token: None,
            spiffe_id: wanted.map(Into::into),
            requested_life: None,
            certificate_name: "default".into(),
            trust_name: "ROOTCA".into(),
        }
    }

    /// A leaf for this key.
    fn leaf(authority: &Authority, key: &OwnKey, names: &str) -> String {
        let mut params = params(names);
        params.not_after = date_time_ymd(2040, 1, 1);
        let pair = KeyPair::try_from(key.to_der().unwrap().secret_der()).unwrap();
        authority.sign(params, &pair).pem()
    }

    fn refused(chain: Vec<String>, key: &OwnKey, wanted: Option<&str>) -> String {
        read(chain, key, &identity(wanted), UnixTime::now()).unwrap_err()
    }

    #[test]
    fn a_chain_for_our_key_is_taken_with_its_roots() {
        let key = OwnKey::generate().unwrap();
        let above = CA.intermediate("above");
        let leaf = leaf(&above, &key, &format!("URI:{CART}"));
        let roots = format!("{}{}", Authority::new("older").pem, CA.pem);
        let chain = vec![leaf, above.pem, roots];
        let issued = read(chain.clone(), &key, &identity(Some(CART)), UnixTime::now());
        let issued = issued.unwrap();
        assert_eq!((&*issued.name, issued.certificate.chain.len()), (CART, 2));
        let end = Duration::from_secs(2_208_988_800);
        assert_eq!(issued.until, SystemTime::UNIX_EPOCH + end);
        assert!(matches!(&issued.trust.trust, Trust::Roots(roots) if roots.len() == 2));
        read(chain, &key, &identity(None), UnixTime::now()).unwrap();
    }

    #[test]
    fn what_is_not_ours_or_nobody_would_believe_is_not_used() {
        let key = OwnKey::generate().unwrap();
        let good = leaf(&CA, &key, &format!("URI:{CART}"));
        let check = |chain: &[&str], expected: &str| {
            let chain = chain.iter().map(|pem| (*pem).to_owned()).collect();
            let reason = refused(chain, &key, Some(CART));
            assert!(reason.contains(expected), "{reason}");
        };
        check(&[], "this one has 0");
        check(&[&good], "this one has 1");
        check(&[&good, "x"], "no certificate");
        check(&["", &CA.pem], "no certificate");
        let other = Authority::new("other");
        check(&[&good, &other.pem], "peers would not accept");
        let foreign = CA.issue(&format!("URI:{CART}")).pem;
        check(&[&foreign, &CA.pem], "does not belong to the certificate");
        let named = leaf(&CA, &key, "URI:spiffe://mesh.example/bank");
        check(&[&named, &CA.pem], "names \"spiffe://mesh.example/bank\"");
        let both = leaf(&CA, &key, &format!("URI:{CART},URI:{CART}"));
        check(&[&both, &CA.pem], "the certificate names");
        let many = [&*good].repeat(INTERMEDIATES_MAX + 2);
        check(&[&many[..], &[&CA.pem]].concat(), "too many");
        let late = UnixTime::since_unix_epoch(Duration::from_secs(2_300_000_000));
        let chain = vec![good.clone(), CA.pem.clone()];
        let reason = read(chain, &key, &identity(None), late).unwrap_err();
        assert!(reason.contains("peers would not accept"), "{reason}");
    }
}
