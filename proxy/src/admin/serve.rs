//! Connections of the admin server: HTTP/1 over TCP or a Unix socket.
//!
//! Invariants: connections, their age, the head and the body of a request are bounded; one slow
//! answer at a time is made, on a thread of its own, so that probes are answered meanwhile. When
//! `shutdown` ends no connection is left.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::admin::guard;
use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::route;
use crate::admin::state::Admin;
use crate::config::endpoint::Address;

/// Open connections: probes, scrapers and a few people; one more is closed at once.
const CONNECTIONS_MAX: usize = 64;

/// From accept, or the end of the last answer, to a whole head; also closes idle connections, so
/// that they do not use up [`CONNECTIONS_MAX`].
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Age at which a connection ends after its current answer: a scraper that stays moves on.
const AGE_MAX: Duration = Duration::from_secs(300);

/// For the last answer of a connection, to a reader as slow as a phone.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// Bytes of a head; `name_regex` may be long, cookies of other local services come along.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a body: no endpoint reads one, tools send empty ones.
const BODY_BYTES_MAX: u64 = 4 * 1024;

/// Pause after a failed accept, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub enum AdminListener {
    /// TCP.
    Tcp(TcpListener),
    /// A path in the file system.
    Unix(UnixListener),
}

impl AdminListener {
    /// Binds the address; port 0 takes any free one.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Pipe(path) => UnixListener::bind(path).map(Self::Unix),
            Address::Socket(address) => TcpListener::bind(address).await.map(Self::Tcp),
        }
    }

    /// The TCP address, with its real port.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Answers requests until `shutdown` is done; then closes every connection.
pub async fn serve(listener: AdminListener, admin: Admin, shutdown: impl Future<Output = ()>) {
    let server = Arc::new(Server {
        bound: listener.local_addr(),
        admin,
        heavy: Semaphore::new(1),
    });
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Takes what has ended out of the set.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connection(stream, Arc::clone(&server)));
            }
            Ok(_) => tracing::warn!(limit = CONNECTIONS_MAX, "admin connection refused"),
            Err(error) => {
                tracing::warn!(%error, "admin connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

struct Server {
    bound: Option<SocketAddr>,
    admin: Admin,
    /// Dumps are big: two at a time would hold twice the memory.
    heavy: Semaphore,
}

async fn connection(stream: Box<dyn Stream>, server: Arc<Server>) {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(AGE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // What is not read by now is not wanted; errors are the peer's.
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}

impl Server {
    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let has_body = request.body().size_hint().lower() > BODY_BYTES_MAX;
        let (parts, _) = request.into_parts();
        let refusal = guard::refusal(self.bound, &parts.method, &parts.headers);
        let reply = match (refusal, has_body) {
            (Some(sentence), _) => Reply::error(StatusCode::FORBIDDEN, sentence),
            (None, true) => Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "no body is expected"),
            (None, false) => self.reply(parts).await,
        };
        response(reply)
    }

    async fn reply(self: Arc<Self>, request: http::request::Parts) -> Reply {
        let Some(endpoint) = route::find(request.uri.path()) else {
            return route::not_found(request.uri.path());
        };
        let query = Query::parse(request.uri.query().unwrap_or_default());
        if !endpoint.heavy {
            return endpoint.answer(&self.admin, &request.method, &query);
        }
        // Never closed, so there is always a permit in the end.
        let _one = self.heavy.acquire().await;
        let server = Arc::clone(&self);
        let answer = move || endpoint.answer(&server.admin, &request.method, &query);
        spawn_blocking(answer).await.unwrap_or_else(|_| {
            Reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this is a bug, see the log",
            )
        })
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, reply.content_type);
    set(header::CACHE_CONTROL, "no-cache, max-age=0");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Nothing may frame the buttons, and names from configuration cannot bring scripts.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    set(header::CONTENT_SECURITY_POLICY, policy);
    response
}
