//! `TlsCertificate`: a certificate with its key, from PEM.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

use super::super::Context;
use super::super::data_source;
use crate::config::tls::Certificate;
use crate::tls::credential::Credential;

/// Reads a certificate, and checks that the key belongs to it.
pub(super) fn decode(
    context: &mut Context,
    certificate: pb::TlsCertificate,
) -> Option<Arc<Certificate>> {
    let pb::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = certificate;
    data_source::watched(context, watched_directory);
    unsupported!(context, reject: pkcs12, private_key_provider, password, ocsp_staple,
        signed_certificate_timestamp, tls_params);
    let path = data_source::path(certificate_chain.as_ref());
    let chain = context.required("certificate_chain", certificate_chain, |context, source| {
        chain(context, source)
    });
    let key = context.required("private_key", private_key, |context, source| {
        let pem = data_source::secret(context, source)?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(key) => Some(key),
            // The error of a parser could show a part of the key.
            Err(_) => context.refuse("", "holds no private key in PEM that can be read"),
        }
    });
    let certificate = Certificate {
        chain: chain?,
        key: key?,
        path,
    };
    match Credential::new(&certificate) {
        Ok(_) => Some(Arc::new(certificate)),
        Err(reason) => context.refuse("", reason),
    }
}

fn chain(
    context: &mut Context,
    source: xds_proto::pb::envoy::config::core::v3::DataSource,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = data_source::secret(context, source)?;
    certificates(context, &pem)
}

/// Reads the certificates of a PEM text, at least one; what else is in it is passed over.
pub(super) fn certificates(
    context: &mut Context,
    pem: &[u8],
) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if chain.is_empty() => context.refuse("", "holds no certificate in PEM"),
        Ok(chain) => Some(chain),
        Err(error) => context.refuse("", format!("is not PEM: {error}")),
    }
}
