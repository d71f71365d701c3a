//! Whether a chain holds, and up to where that was looked at.

use control_plane::ca::certificate::check_chain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::KeyUsage;

/// What is to be said about a chain.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) text: String,
}

impl Verdict {
    pub(super) fn new(
        chain: &[CertificateDer<'_>],
        roots: Option<&[CertificateDer<'_>]>,
        now: UnixTime,
    ) -> Self {
        let (Some(leaf), above) = (chain.first(), chain.get(1..).unwrap_or_default()) else {
            return Self::new_bad("there is no certificate");
        };
        let (anchors, end) = match (roots, above.last()) {
            (Some(roots), _) => (roots, "a root of --ca"),
            (None, Some(_)) => (
                above.get(above.len() - 1..).unwrap_or_default(),
                "its last certificate, which nothing here vouches for; give the roots with --ca",
            ),
            (None, None) => {
                return Self {
                    holds: is_valid(leaf, now),
                    text: "a single certificate: nothing here says who vouches for it; give the \
                           roots with --ca"
                        .to_owned(),
                };
            }
        };
        // One use is enough: a server's certificate need not be a client's.
        let usages = [KeyUsage::server_auth(), KeyUsage::client_auth()];
        let checked = usages.map(|usage| check_chain(leaf, above, anchors, &[], (&[usage], now)));
        match checked {
            [Ok(()), _] | [_, Ok(())] => Self {
                holds: true,
                text: format!("the chain holds, up to {end}"),
            },
            [Err(error), _] => Self::new_bad(&error.to_string()),
        }
    }

    fn new_bad(reason: &str) -> Self {
        Self {
            holds: false,
            text: format!("NOT VALID: {reason}"),
        }
    }
}

/// Whether a certificate that nobody vouches for at least has not ended.
fn is_valid(leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer;
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}
