//! Somebody who knocks at a sidecar: looks at what it shows, and tells how it refuses.

use std::io;
use std::io::Read;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ca::access::Caller;
use control_plane::ca::access::caller_of;
use control_plane::ca::authority::Leaf;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;

use crate::cert::fetch;

/// Until somebody who is not let in must have been told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who a server is.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) identity: String,
    pub(super) serial: String,
}

/// Looks at the certificate of a server.
pub(super) async fn shown(address: SocketAddr) -> Result<Shown, String> {
    let chain = blocking(move || fetch::chain(&address.to_string(), None)).await?;
    match chain.first().map(|own| caller_of(own)) {
        Some(Caller::Certificate { identity, serial }) => Ok(Shown {
            identity: identity.to_string(),
            serial,
        }),
        _ => Err(format!("{address} shows no identity")),
    }
}

/// The reason why a client with this certificate, or none, is refused; that it is let in is an error.
pub(super) async fn refusal(address: SocketAddr, own: Option<Leaf>) -> Result<String, String> {
    blocking(move || knock(address, own.as_ref())).await
}

/// Says nothing after the handshake, so that nothing is in the way of an alert.
fn knock(address: SocketAddr, own: Option<&Leaf>) -> Result<String, String> {
    let failed = |error: &dyn ToString| format!("{address}: {}", error.to_string());
    let own = own.map(credential).transpose()?;
    let config = fetch::config(own).map_err(|error| failed(&error))?;
    let name = ServerName::from(address.ip());
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(&error))?;
    let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| failed(&error))?;
    let bounded = socket.set_read_timeout(Some(PATIENCE));
    bounded.map_err(|error| failed(&error))?;
    match StreamOwned::new(session, socket).read(&mut [0]) {
        Err(error) if is_alert(&error) => Ok(error.to_string()),
        Err(error) => Err(failed(&format!("not refused: {error}"))),
        Ok(_) => Err(failed(&"not refused")),
    }
}

fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

fn credential(leaf: &Leaf) -> Result<fetch::Credential, String> {
    let key = leaf.key.as_ref().ok_or("a certificate has no key")?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect();
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok((chain, key)),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
}
