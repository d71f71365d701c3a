//! The control plane's own side of TLS, made of what the CA says at the moment.
//!
//! A context never changes; a new one is made with each new certificate or bundle, for connections
//! that come after it. Nothing is resumed: connections last for days, and a resumed one would not
//! be verified again.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem;
use rustls_pki_types::pem::PemObject;

use crate::ca::SpiffeId;
use crate::ca::authority::Bundle;
use crate::ca::authority::Leaf;

/// How the control plane takes connections.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom its certificate names.
    pub identity: SpiffeId,
    /// Whether clients without a certificate are sent away. Those with a join token have none yet.
    pub requires_certificate: bool,
}

/// Why no context could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("a certificate or key cannot be read: {0}")]
    Pem(#[from] pem::Error),
    #[error("the certificate has no key")]
    NoKey,
    #[error("the library refuses it: {0}")]
    Tls(#[from] rustls::Error),
    #[error("clients could not be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl Tls {
    pub(super) fn config(&self, leaf: &Leaf, bundle: &Bundle) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.roots.as_bytes()) {
            roots.add(root?)?;
        }
        let lists = CertificateRevocationListDer::pem_slice_iter(bundle.lists.as_bytes());
        let lists: Result<Vec<_>, _> = lists.collect();
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let mut builder = builder.with_crls(lists?);
        if bundle.only_leaves {
            builder = builder.only_check_end_entity_revocation();
        }
        if !self.requires_certificate {
            builder = builder.allow_unauthenticated();
        }
        let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes());
        let chain: Result<Vec<_>, _> = chain.collect();
        let key = leaf.key.as_ref().ok_or(TlsError::NoKey)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(builder.build()?)
            .with_single_cert(chain?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}
