//! A small HTTP client for admin interfaces and the demo's walk.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer on loopback that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// Status and body of a GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    ask(address, Method::GET, path).await
}

/// Status and body of a POST without a body.
pub(crate) async fn post(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    ask(address, Method::POST, path).await
}

async fn ask(address: SocketAddr, method: Method, path: &str) -> Result<(u16, String), String> {
    match tokio::time::timeout(PATIENCE, exchange(address, method, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    driver.await??;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
