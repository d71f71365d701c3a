//! One cleartext HTTP/2 connection whose sender is shared by the workers of its streams.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::JoinSet;

use super::LoadError;
use super::request::Http2Request;
use super::worker::Answer;
use crate::socket;

/// Windows wide enough that flow control never stalls a measured body.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Sends requests on a shared connection.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    inner: SendRequest<Full<Bytes>>,
}

impl Sender {
    /// Connects; the task that drives the connection joins `tasks`.
    pub(super) async fn open(
        target: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, LoadError> {
        let refused = |reason: String| LoadError::Connect { target, reason };
        let stream = socket::connect(target)
            .await
            .map_err(|error| refused(error.to_string()))?;
        let (inner, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| refused(error.to_string()))?;
        // Its error reaches the workers as failed requests.
        tasks.spawn(async move { drop(connection.await) });
        Ok(Self { inner })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &Http2Request) -> hyper::Result<Answer> {
        self.inner.ready().await?;
        let mut response = self.inner.send_request(request.build()).await?;
        let status = response.status().as_u16();
        let mut body_bytes = 0;
        while let Some(frame) = response.body_mut().frame().await {
            body_bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(Answer {
            status,
            body_bytes,
            close: false,
        })
    }
}
