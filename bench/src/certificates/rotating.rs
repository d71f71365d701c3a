//! Certificates that are replaced while a measurement runs: two roots, of which one takes over from the
//! other, short-lived leafs, and a client whose certificate can be changed between two handshakes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use super::{CertificateError, Leaf, SERVER_NAME, authority, leaf_params, provider};
use crate::wire::{TlsClient, TlsServer};

/// Clocks of one machine agree; a certificate is good from a little before it was made.
const BACKDATED: Duration = Duration::from_secs(60);

/// One of two roots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Root {
    /// The one that signs at first.
    Old,
    /// The one that takes over.
    New,
}

/// Two roots, an origin whose certificate a third signed and which stays, and the client.
#[derive(Debug)]
pub struct Rotating {
    old: CertifiedIssuer<'static, KeyPair>,
    new: CertifiedIssuer<'static, KeyPair>,
    origin: CertifiedIssuer<'static, KeyPair>,
    client: Arc<ChangingClient>,
    config: Arc<ClientConfig>,
}

/// A leaf for both ends of a connection.
#[derive(Debug)]
pub struct ShortLeaf {
    leaf: Leaf,
    /// After this second nobody may rely on it.
    pub ends: SystemTime,
}

impl ShortLeaf {
    /// In PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.leaf.certificate.pem()
    }

    /// In PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.leaf.key.serialize_pem()
    }

    /// In DER.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.leaf.certificate.der().clone()
    }
}

impl Rotating {
    /// Makes the roots. The client has no certificate until [`Self::show`].
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self, CertificateError> {
        let [old, new, origin] = ["old root", "new root", "root of origins"].map(authority);
        let (old, new, origin) = (old?, new?, origin?);
        let client = Arc::<ChangingClient>::default();
        // A client hears of a new root long before anybody has a leaf of it.
        let roots = store([old.der(), new.der()])?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::<ChangingClient>::clone(&client));
        config.resumption = Resumption::disabled();
        Ok(Self {
            old,
            new,
            origin,
            client,
            config: Arc::new(config),
        })
    }

    /// A leaf of this root that ends after `life`, to whole seconds.
    ///
    /// # Errors
    /// When no key can be made.
    #[expect(clippy::disallowed_methods, reason = "a validity is wall time")]
    pub fn leaf(&self, root: Root, life: Duration) -> Result<ShortLeaf, CertificateError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let end = Duration::from_secs((now + life).as_secs());
        let mut params = leaf_params()?;
        params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = Leaf::signed(params, self.root(root))?;
        Ok(ShortLeaf {
            leaf,
            ends: UNIX_EPOCH + end,
        })
    }

    /// The client shows this leaf from its next handshake on.
    ///
    /// # Errors
    /// When rustls cannot use it.
    pub fn show(&self, leaf: &ShortLeaf) -> Result<(), CertificateError> {
        let key = provider()
            .key_provider
            .load_private_key(leaf.leaf.key())
            .map_err(CertificateError::Use)?;
        let key = Arc::new(CertifiedKey::new(leaf.leaf.chain(), key));
        *self
            .client
            .key
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(())
    }

    /// Certificates of roots in PEM, one after the other.
    #[must_use]
    pub fn trust(&self, roots: &[Root]) -> String {
        roots.iter().map(|root| self.root(*root).pem()).collect()
    }

    /// Whom to believe about the origin, in PEM.
    #[must_use]
    pub fn trust_in_origin(&self) -> String {
        self.origin.pem()
    }

    /// The client for a load; every handshake is a full one.
    ///
    /// # Errors
    /// When the constant is no name.
    pub fn client(&self) -> Result<TlsClient, CertificateError> {
        Ok(TlsClient::new(
            Arc::clone(&self.config),
            Self::server_name()?,
        ))
    }

    /// The same for a connection made by hand.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whom the client asks for.
    ///
    /// # Errors
    /// When the constant is no name.
    pub fn server_name() -> Result<ServerName<'static>, CertificateError> {
        let name = ServerName::try_from(SERVER_NAME);
        Ok(name.map_err(|error| rustls::Error::General(error.to_string()))?)
    }

    /// An origin that lets in who has a certificate of either root.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn origin(&self) -> Result<TlsServer, CertificateError> {
        let leaf = Leaf::new(&self.origin, ExtendedKeyUsagePurpose::ServerAuth)?;
        let roots = Arc::new(store([self.old.der(), self.new.der()])?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(leaf.chain(), leaf.key())?;
        Ok(TlsServer::new(Arc::new(config)))
    }

    fn root(&self, root: Root) -> &CertifiedIssuer<'static, KeyPair> {
        match root {
            Root::Old => &self.old,
            Root::New => &self.new,
        }
    }
}

fn store<const N: usize>(
    roots: [&CertificateDer<'static>; N],
) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

/// Shows whatever certificate it was given last.
#[derive(Debug, Default)]
struct ChangingClient {
    key: RwLock<Option<Arc<CertifiedKey>>>,
}

impl ResolvesClientCert for ChangingClient {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn has_certs(&self) -> bool {
        self.resolve(&[], &[]).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a validity is wall time")]
    fn a_leaf_ends_when_it_says() {
        let rotating = Rotating::new().unwrap();
        let leaf = rotating.leaf(Root::New, Duration::from_secs(90)).unwrap();
        let left = leaf.ends.duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(90) && left > Duration::from_secs(80));
        assert_ne!(leaf.certificate(), rotating.trust(&[Root::New]));
    }

    #[test]
    fn a_client_shows_the_last_leaf_it_was_given() {
        let rotating = Rotating::new().unwrap();
        assert!(!rotating.client.has_certs());
        for root in [Root::Old, Root::New] {
            let leaf = rotating.leaf(root, Duration::from_secs(90)).unwrap();
            rotating.show(&leaf).unwrap();
            let shown = rotating.client.resolve(&[], &[]).unwrap();
            assert_eq!(shown.cert, [leaf.der()]);
        }
    }
}
