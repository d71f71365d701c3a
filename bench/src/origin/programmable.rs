//! An origin whose answers a test decides, one request at a time.
//!
//! HTTP/1.1 and cleartext HTTP/2 on one port, by hyper. Every request is read to its end and kept
//! as a [`Seen`]; the script turns it into a [`Reply`]. Not meant for load: see
//! [`super::FixedOrigin`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::gate::Gate;
use super::reply::{Reply, ReplyBody};
use crate::pattern::Checksum;
use crate::socket;

/// Requests kept for a test to look at; older ones fall out.
const SEEN_MAX: usize = 10_000;

/// One request as the origin received it; also the JSON of an echo.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seen {
    /// Which origin answered.
    pub origin: String,
    /// Method.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// `:authority` of HTTP/2, or the Host field of HTTP/1.1; empty without either.
    pub authority: String,
    /// `:scheme` of HTTP/2; empty without.
    pub scheme: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Header fields in order, names in lower case, values as UTF-8 with loss.
    pub headers: Vec<(String, String)>,
    /// Length of the request body.
    pub body_bytes: u64,
    /// Checksum of the request body; see [`crate::pattern`].
    pub body_checksum: u64,
    /// Trailer fields of the request.
    pub trailers: Vec<(String, String)>,
    /// Address of the proxy's end of the connection.
    pub peer: SocketAddr,
}

impl Seen {
    /// The first value of a header field, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// The running origin.
pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: String,
    script: Mutex<Script>,
    seen: Mutex<VecDeque<Seen>>,
    gate: Gate,
}

impl Origin {
    /// Starts an origin that echoes, on a free port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(name: &str) -> io::Result<Self> {
        Self::start_on(name, 0)
    }

    /// The same on a given port, for an origin that comes back.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_on(name: &str, port: u16) -> io::Result<Self> {
        let listener = socket::listen(port)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            script: Mutex::new(Arc::new(|_| Reply::echo())),
            seen: Mutex::new(VecDeque::new()),
            gate: Gate::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Decides every later answer.
    pub fn script(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// The same answer from now on.
    pub fn reply(&self, reply: Reply) {
        self.script(move |_| reply.clone());
    }

    /// The requests received so far, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().cloned().collect()
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

impl std::fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Origin")
            .field("name", &self.shared.name)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            // Small frames of HTTP/2 must not wait for acknowledgments of earlier ones.
            let _best_effort = stream.set_nodelay(true);
            connections.spawn(serve(stream, peer, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, peer, Arc::clone(&shared)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    // A connection that breaks is the business of the side that broke it.
    let _ended = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    shared: Arc<Shared>,
) -> Result<Response<ReplyBody>, hyper::Error> {
    let seen = observe(request, peer, &shared.name).await?;
    let script = Arc::clone(&lock(&shared.script));
    let reply = script(&seen);
    let echo = serde_json::to_vec(&seen)
        .map(Bytes::from)
        .unwrap_or_default();
    remember(&shared, seen);
    shared.gate.pass().await;
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    let mut response = Response::new(ReplyBody::new(reply.content, echo, reply.trailers));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok::<_, Infallible>(response).map_err(|never| match never {})
}

async fn observe(
    request: Request<Incoming>,
    peer: SocketAddr,
    origin: &str,
) -> Result<Seen, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let mut sum = Checksum::new();
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            sum.update(data);
        } else if let Some(fields) = frame.trailers_ref() {
            trailers = listed(fields);
        }
    }
    let host = head
        .headers
        .get(http::header::HOST)
        .map(|host| text(host.as_bytes()));
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    Ok(Seen {
        origin: origin.to_owned(),
        method: head.method.as_str().to_owned(),
        path: head
            .uri
            .path_and_query()
            .map_or_else(String::new, |path| path.as_str().to_owned()),
        authority: authority.or(host).unwrap_or_default(),
        scheme: head.uri.scheme_str().unwrap_or_default().to_owned(),
        version: format!("{:?}", head.version),
        headers: listed(&head.headers),
        body_bytes: sum.bytes(),
        body_checksum: sum.value(),
        trailers,
        peer,
    })
}

fn remember(shared: &Shared, seen: Seen) {
    let mut kept = lock(&shared.seen);
    if kept.len() == SEEN_MAX {
        kept.pop_front();
    }
    kept.push_back(seen);
}

fn listed(fields: &HeaderMap) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panicking script fails its test anyway; what it left is still readable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
