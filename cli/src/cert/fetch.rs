//! The chain a TLS server shows. Believes anything, because it only looks.

use std::io;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

/// A server that has not answered by then has nothing to show.
const PATIENCE: Duration = Duration::from_secs(5);

/// A certificate with what is above it, and its key.
pub(crate) type Credential = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Connects, shakes hands, and leaves.
pub(crate) fn chain(
    address: &str,
    sni: Option<&str>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn ToString| format!("{address}: {}", error.to_string());
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = sni
        .unwrap_or_else(|| host.trim_matches(['[', ']']))
        .to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(&error))?;
    let config = config(None).map_err(|error| failed(&error))?;
    let session = ClientConnection::new(Arc::new(config), name);
    let mut session = session.map_err(|error| failed(&error))?;
    let mut stream = connect(address).map_err(|error| failed(&error))?;
    while session.peer_certificates().is_none() && session.is_handshaking() {
        session
            .complete_io(&mut stream)
            .map_err(|error| failed(&error))?;
    }
    let chain = session.peer_certificates().unwrap_or_default();
    if chain.is_empty() {
        return Err(failed(&"the server showed no certificate"));
    }
    Ok(chain
        .iter()
        .cloned()
        .map(CertificateDer::into_owned)
        .collect())
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A client that believes anything, and shows this.
pub(crate) fn config(own: Option<Credential>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let looker = Looker(Arc::clone(&provider));
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(looker));
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Lets every certificate pass; its owner must still have the key.
#[derive(Debug)]
struct Looker(Arc<CryptoProvider>);

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
