//! One request at a time, for tests: send it over a new connection and look at all that came back.

use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::pattern::Checksum;
use crate::socket;

/// A body larger than this is summed up and not kept.
const KEPT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The exchange broke off.
    #[error("no whole answer: {}", with_causes(.0))]
    Http(#[from] hyper::Error),
    /// The address and path make no URI.
    #[error("the request has no valid target")]
    Target,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body, unless it is longer than 4 MiB.
    pub body: Bytes,
    /// Length of the body.
    pub body_bytes: u64,
    /// Checksum of the body; see [`crate::pattern`].
    pub body_checksum: u64,
    /// Fields after the body.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as text, with loss.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, such as an echo's [`crate::origin::Seen`].
    ///
    /// # Errors
    /// When it is something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }
}

/// Sends `request`, whose URI is a path, over a new HTTP/1.1 connection. Without a Host field it
/// names `target`.
///
/// # Errors
/// When there is no whole answer.
pub async fn http1<B>(target: SocketAddr, mut request: Request<B>) -> Result<Answer, ClientError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let stream = socket::connect(target).await?;
    let host = target
        .to_string()
        .try_into()
        .map_err(|_| ClientError::Target)?;
    request
        .headers_mut()
        .entry(http::header::HOST)
        .or_insert(host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        // The sender lives until the body is read, or the connection would end early.
        collect(response).await
    };
    let (answer, _ended) = tokio::join!(exchange, connection);
    Ok(answer?)
}

/// Sends `request`, whose URI is a path or has an authority, over a new cleartext HTTP/2 connection.
///
/// # Errors
/// When there is no whole answer.
pub async fn http2<B>(target: SocketAddr, mut request: Request<B>) -> Result<Answer, ClientError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if request.uri().authority().is_none() {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let uri = Uri::try_from(format!("http://{target}{path}"));
        *request.uri_mut() = uri.map_err(|_| ClientError::Target)?;
    }
    let stream = socket::connect(target).await?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(stream))
        .await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        collect(response).await
    };
    let (answer, _ended) = tokio::join!(exchange, connection);
    Ok(answer?)
}

async fn collect(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, mut body) = response.into_parts();
    let mut sum = Checksum::new();
    let mut kept = Vec::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                sum.update(&data);
                if sum.bytes() <= KEPT_BYTES_MAX {
                    kept.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    if sum.bytes() > KEPT_BYTES_MAX {
        kept.clear();
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: kept.into(),
        body_bytes: sum.bytes(),
        body_checksum: sum.value(),
        trailers,
    })
}

/// hyper's own words do not name the cause.
fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
