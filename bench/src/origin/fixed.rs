//! An origin that answers every request with the same prebuilt bytes.
//!
//! HTTP/1.1, HTTP/2 and gRPC share one port, in clear or over TLS; the first bytes or ALPN decide. A
//! gRPC call is answered with one message for each that comes, however many, and status 0. The
//! HTTP/1.1 side costs one read and one write per request, so that it is never what limits a run.
//! It does not look at the request beyond its framing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::gate::Gate;
use super::grpc::{Echoes, OriginBody};
use crate::grpc;
use crate::message::{self, BodyCounter};
use crate::pattern::Pattern;
use crate::socket;
use crate::wire::{TlsServer, Wire};

/// Room for a request head and the usual body; a longer head is refused.
const READ_BYTES: usize = 16 * 1024;

/// HTTP/2 windows wide enough that flow control never stalls a measured body.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What the origin answers.
#[derive(Clone, Debug, Default)]
pub struct FixedOptions {
    /// Length of the body of every answer.
    pub body_bytes: usize,
    /// Extra header fields of every answer.
    pub headers: Vec<(String, String)>,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Speaks TLS when given.
    pub tls: Option<TlsServer>,
}

/// The running origin.
#[derive(Debug)]
pub struct FixedOrigin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    answer: Bytes,
    body: Bytes,
    /// The body as a message of gRPC.
    message: Bytes,
    tls: Option<TlsServer>,
    headers: http::HeaderMap,
    gate: Gate,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl FixedOrigin {
    /// Binds and starts serving.
    ///
    /// # Errors
    /// When the port is taken or a header field is not valid.
    pub fn start(options: &FixedOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(options)?);
        let listener = socket::listen(options.port)?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Requests answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Holds every answer back until [`Self::resume`].
    pub fn pause(&self) {
        self.shared.gate.close();
    }

    /// Lets answers flow again.
    pub fn resume(&self) {
        self.shared.gate.open();
    }
}

impl Drop for FixedOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn new(options: &FixedOptions) -> io::Result<Self> {
        let invalid = |error: http::Error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let body: Bytes = Pattern::new(options.body_bytes as u64).flatten().collect();
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-type: application/octet-stream\r\n\
             content-length: {}\r\n",
            body.len()
        );
        let mut headers = http::HeaderMap::new();
        for (name, value) in &options.headers {
            let field = http::HeaderName::try_from(name).map_err(|error| invalid(error.into()))?;
            let content = HeaderValue::try_from(value).map_err(|error| invalid(error.into()))?;
            headers.append(field, content);
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        head.push_str("\r\n");
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&body);
        Ok(Self {
            answer: answer.into(),
            message: grpc::message(&body),
            body,
            tls: options.tls.clone(),
            headers,
            gate: Gate::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        })
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, which ends every connection.
    let mut connections = JoinSet::new();
    loop {
        // An accept error here is a lack of descriptors: the load side reports it.
        if let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            connections.spawn(serve(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let stream = Wire::accept(stream, shared.tls.as_ref()).await?;
    if stream.is_http2().await? {
        return serve_http2(stream, shared).await.map_err(io::Error::other);
    }
    serve_http1(stream, &shared).await
}

async fn serve_http1(mut stream: Wire, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let unread = buffer.get_mut(filled..).unwrap_or_default();
        if unread.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = stream.read(unread).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        // Pipelined requests wait in the buffer and are answered in order.
        while let Some(close) = answer_one(&mut stream, shared, &mut buffer, &mut filled).await? {
            if close {
                return stream.shutdown().await;
            }
        }
    }
}

/// Answers the request at the front of `buffer`; `None` while it is incomplete, else whether the
/// client asked for the connection to end.
async fn answer_one(
    stream: &mut Wire,
    shared: &Shared,
    buffer: &mut [u8],
    filled: &mut usize,
) -> io::Result<Option<bool>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let received = buffer.get(..*filled).unwrap_or_default();
    let Some(head) = message::request(received).map_err(invalid)? else {
        return Ok(None);
    };
    let mut body = BodyCounter::new(head.framing);
    let rest = received.get(head.bytes..).unwrap_or_default();
    let used = head.bytes + body.consume(rest).map_err(invalid)?;
    buffer.copy_within(used..*filled, 0);
    *filled -= used;
    while !body.is_done() {
        let read = stream.read(buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let used = body
            .consume(buffer.get(..read).unwrap_or_default())
            .map_err(invalid)?;
        buffer.copy_within(used..read, 0);
        *filled = read - used;
    }
    shared.gate.pass().await;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    stream.write_all(&shared.answer).await?;
    stream.flush().await?;
    Ok(Some(head.close))
}

async fn serve_http2(stream: Wire, shared: Arc<Shared>) -> hyper::Result<()> {
    let service = service_fn(move |request| answer_http2(request, Arc::clone(&shared)));
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(1024)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer_http2(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<OriginBody>, Infallible> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(grpc::CONTENT_TYPE.as_bytes())) {
        return Ok(answer_grpc(request, &shared).await);
    }
    // A broken request body shows as a failed exchange on the load side.
    while let Some(Ok(_)) = request.body_mut().frame().await {}
    shared.gate.pass().await;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(OriginBody::Whole(Full::new(shared.body.clone())));
    response.headers_mut().clone_from(&shared.headers);
    Ok(response)
}

async fn answer_grpc(request: Request<Incoming>, shared: &Shared) -> Response<OriginBody> {
    shared.gate.pass().await;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let echoes = Echoes::new(request.into_body(), shared.message.clone());
    let mut response = Response::new(OriginBody::Echoes(echoes));
    let kind = HeaderValue::from_static(grpc::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
