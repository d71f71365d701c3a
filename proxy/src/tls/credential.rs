//! A certificate with its key, and the names it is chosen by.

use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::tls::Certificate;
use crate::net::tls::facts::Names;

/// A certificate that can be presented.
#[derive(Debug)]
pub(crate) struct Credential {
    /// As rustls wants it.
    pub(crate) certified: Arc<CertifiedKey>,
    /// The names it answers to: lower case, wildcards as `*.rest`.
    pub(crate) hosts: Vec<Box<str>>,
    /// What logs and headers say of it.
    pub(crate) names: Arc<Names>,
    /// Whether its key is on a curve; a client that can verify it prefers it.
    pub(crate) is_ecdsa: bool,
}

impl Credential {
    /// Checks that the key belongs to the certificate and reads what is needed of it.
    ///
    /// # Errors
    /// What is wrong, for the configuration's author.
    pub(crate) fn new(certificate: &Certificate) -> Result<Self, String> {
        let key = aws_lc_rs::sign::any_supported_type(&certificate.key)
            .map_err(|error| format!("the private key cannot be used: {error}"))?;
        let is_ecdsa = key.algorithm() != SignatureAlgorithm::RSA;
        let certified = CertifiedKey::new(certificate.chain.clone(), key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(error) => {
                return Err(format!(
                    "the private key does not belong to the certificate: {error}"
                ));
            }
        }
        let leaf = certified
            .end_entity_cert()
            .map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        Ok(Self {
            hosts: hosts(&parsed),
            names: Arc::new(Names::new(&parsed)),
            certified: Arc::new(certified),
            is_ecdsa,
        })
    }
}

/// DNS names, or the common name if there is no name of any kind, as Envoy.
fn hosts(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let Some(alternative) = alternative else {
        let common = certificate.subject().iter_common_name().next();
        return common
            .and_then(|name| name.as_str().ok())
            .map(|name| name.to_ascii_lowercase().into())
            .into_iter()
            .collect();
    };
    let names = alternative.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect()
}
