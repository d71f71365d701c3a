//! A client that shows any chain of certificates, sound or not, and a listener that judges it.

use std::sync::Arc;

use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::Files;
use super::client::HTTP1;
use crate::identity::manager;
use crate::identity::typed;

/// A client that shows these, the leaf first.
pub(super) fn client(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let client = trusting(files).with_client_auth_cert(chain, key);
    without_sessions(client.expect("key and certificate fit"))
}

/// A client that shows nothing.
pub(super) fn nobody(files: &Files) -> Arc<ClientConfig> {
    without_sessions(trusting(files).with_no_client_auth())
}

fn trusting(files: &Files) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(files.root.clone()).expect("it is sound");
    ClientConfig::builder().with_root_certificates(roots)
}

fn without_sessions(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A listener with these rules for its clients, which answers whom it lets in.
pub(super) fn listener(port: u16, files: &Files, validation: &Value, requires: bool) -> Value {
    let common = json!({
        "tls_certificates": files.servers(),
        "validation_context": validation,
    });
    let context = json!({"common_tls_context": common, "require_client_certificate": requires});
    let name = "extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let context = typed(name, context);
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{
            "filters": [{"name": "http", "typed_config": manager(&routes, &json!({}))}],
            "transport_socket": {"name": "tls", "typed_config": context},
        }],
    })
}

/// Whether a request of this client is answered.
pub(super) async fn is_answered(port: u16, config: Arc<ClientConfig>) -> bool {
    let socket = TcpStream::connect(("127.0.0.1", port)).await;
    let name = ServerName::try_from("usual.test").expect("literal");
    let connector = TlsConnector::from(config);
    let connected = connector.connect(name, socket.expect("it listens")).await;
    let Ok(mut stream) = connected else {
        return false;
    };
    // With TLS 1.3 the server's verdict comes now.
    if stream.write_all(HTTP1).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // an alert is an answer, too
    answer.starts_with(b"HTTP/1.1 200")
}
