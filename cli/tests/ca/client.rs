//! One request over mutual TLS, with what the server showed.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ca::access::Caller;
use control_plane::ca::access::caller_of;
use control_plane::ca::certificate::check_chain;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::StreamOwned;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use webpki::KeyUsage;

use crate::support::Place;

/// What came back, from whom.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: String,
    pub(crate) identity: Option<String>,
    pub(crate) serial: String,
}

/// GET over a new connection, with the certificate `CLIENT.pem`, or without.
pub(crate) fn get(
    target: SocketAddr,
    place: &Place,
    client: Option<&str>,
) -> Result<Answer, String> {
    let config = config(place, client);
    let name = ServerName::try_from("any.test").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(target).map_err(|error| error.to_string())?;
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut stream = StreamOwned::new(session, socket);
    let request = b"GET / HTTP/1.1\r\nhost: any.test\r\nconnection: close\r\n\r\n";
    stream
        .write_all(request)
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    stream
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8(text).unwrap();
    let shown = stream.conn.peer_certificates().unwrap();
    let Caller::Certificate { identity, serial } = caller_of(&shown[0]) else {
        return Err("the server has no identity".to_owned());
    };
    Ok(Answer {
        body: text.rsplit("\r\n\r\n").next().unwrap().to_owned(),
        identity: Some(identity.to_string()),
        serial,
    })
}

fn config(place: &Place, client: Option<&str>) -> ClientConfig {
    let bundle = place.json("ca bundle --dir ca");
    let roots = ders(bundle["roots"].as_str().unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty());
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = place.read(&format!("{client}.key"));
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let chain = ders(&place.read(&format!("{client}.pem")));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Believer { roots, provider });
    config.dangerous().set_certificate_verifier(verifier);
    config
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Believes a server whose chain holds, whatever its name, as SPIFFE does.
#[derive(Debug)]
struct Believer {
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usages = [KeyUsage::server_auth()];
        check_chain(own, above, &self.roots, &[], (&usages, now))
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, own, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, own, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
