//! One request over a connection of its own, with TLS or without.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificates::SERVER;

/// The whole answer to a GET of `path` with these fields, as it came.
pub(super) async fn get(
    target: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    path: &str,
    fields: &[(&str, &str)],
) -> io::Result<Vec<u8>> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {SERVER}\r\nconnection: close\r\n");
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    say(target, tls, request.as_bytes()).await
}

/// All that comes back after `bytes`.
pub(super) async fn say(
    target: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    bytes: &[u8],
) -> io::Result<Vec<u8>> {
    let socket = TcpStream::connect(target).await?;
    match tls {
        None => exchange(socket, bytes).await,
        Some(config) => {
            let name = ServerName::try_from(SERVER).expect("literal");
            let connector = TlsConnector::from(Arc::clone(config));
            exchange(connector.connect(name, socket).await?, bytes).await
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of an answer.
pub(super) fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.and_then(|end| answer.get(end + 4..))
        .unwrap_or_default()
}
