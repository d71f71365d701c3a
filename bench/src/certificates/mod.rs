//! Certificates of one measurement: an authority of its own, a server and a client.
//!
//! Made in the process that uses them (rcgen over aws-lc-rs, the library whose TLS is measured), so
//! that no key lies in the repository, nothing expires there, and no `openssl` program is needed.
//! Our ends speak TLS 1.3 with ECDSA P-256, X25519 and AES-128-GCM and nothing else, so that all
//! proxies do the same cryptography, whatever each would prefer.

mod rotating;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::tickets::Tickets;
use crate::wire::{TlsClient, TlsServer};

pub use self::rotating::{Root, Rotating, ShortLeaf};

/// The name every request of a measurement is for.
pub const SERVER_NAME: &str = "bench.test";

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls refuses to use one.
    #[error("cannot use a certificate: {0}")]
    Use(#[from] rustls::Error),
    /// The verifier of client certificates refuses the authority.
    #[error("cannot verify clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// An authority with one server and one client certificate.
#[derive(Debug)]
pub struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: Leaf,
    client: Leaf,
}

#[derive(Debug)]
struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self, CertificateError> {
        let authority = authority("weir-bench authority")?;
        let server = Leaf::new(&authority, ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = Leaf::new(&authority, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self {
            authority,
            server,
            client,
        })
    }

    /// Writes `ca.pem`, and for both roles certificate, key and both in one file, as HAProxy
    /// wants them: `server.pem`, `server.key`, `server-all.pem`, `client.pem` and so on.
    ///
    /// # Errors
    /// The system's.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join("ca.pem"), self.authority.pem())?;
        for (role, leaf) in [("server", &self.server), ("client", &self.client)] {
            let (certificate, key) = (leaf.certificate.pem(), leaf.key.serialize_pem());
            fs::write(directory.join(format!("{role}.pem")), &certificate)?;
            fs::write(directory.join(format!("{role}.key")), &key)?;
            fs::write(
                directory.join(format!("{role}-all.pem")),
                certificate + &key,
            )?;
        }
        Ok(())
    }

    /// A client that trusts the authority.
    ///
    /// # Errors
    /// When rustls refuses the authority.
    pub fn client(&self, options: ClientOptions) -> Result<TlsClient, CertificateError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?);
        let mut config = if options.certificate {
            builder.with_client_auth_cert(self.client.chain(), self.client.key())?
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = if options.resume {
            Resumption::store(Arc::new(Tickets::default()))
        } else {
            Resumption::disabled()
        };
        if options.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let name = ServerName::try_from(SERVER_NAME).map_err(|_| {
            rustls::Error::General("the constant is not a valid server name".to_owned())
        })?;
        Ok(TlsClient::new(Arc::new(config), name))
    }

    /// A server; with `verify` it asks for a certificate of the authority and accepts no other.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn server(&self, verify: bool) -> Result<TlsServer, CertificateError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let builder = if verify {
            let roots = Arc::new(self.roots()?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(self.server.chain(), self.server.key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsServer::new(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone())?;
        Ok(roots)
    }
}

/// A root that signs leafs.
fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// What all leafs have in common.
fn leaf_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params
        .subject_alt_names
        .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params
        .distinguished_name
        .push(DnType::CommonName, SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// The one suite and group of a measurement.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// What a client of [`Certificates`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientOptions {
    /// Shows the client certificate.
    pub certificate: bool,
    /// Resumes sessions; else every handshake is a full one.
    pub resume: bool,
    /// Offers `h2` by ALPN; else offers nothing.
    pub http2: bool,
}

impl Leaf {
    fn new(
        authority: &CertifiedIssuer<'static, KeyPair>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Self, rcgen::Error> {
        let mut params = leaf_params()?;
        params.extended_key_usages = vec![usage];
        Self::signed(params, authority)
    }

    fn signed(
        params: CertificateParams,
        authority: &CertifiedIssuer<'static, KeyPair>,
    ) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, authority)?;
        Ok(Self { certificate, key })
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}
