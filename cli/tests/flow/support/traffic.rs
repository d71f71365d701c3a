//! Clients that send without pause and do not forgive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::Version;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::resources::GENERATION;
use crate::support::soon;

/// The header by which an origin says what group it belongs to.
pub(crate) const GROUP: &str = "x-group";

/// Failures kept for the message.
const TOLD_MAX: usize = 5;

/// How a client keeps its connection.
#[derive(Clone, Copy, Debug)]
enum Style {
    Http1,
    /// A new connection for each request.
    Http1Once,
    Http2,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// Sent again because a connection that had served before was closed: what RFC 9112 section
    /// 9.3.1 expects of a client.
    pub(crate) resent: u64,
    pub(crate) failed: u64,
    pub(crate) told: Vec<String>,
}

/// Running clients.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Tally>,
    generation: watch::Receiver<u64>,
    answered: watch::Receiver<u64>,
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    routes: Arc<Vec<(String, usize)>>,
    stop: Arc<AtomicBool>,
    generation: watch::Sender<u64>,
    answered: watch::Sender<u64>,
}

impl Traffic {
    /// Three clients, one of each style, ask for `routes` in turn; each path belongs to a group.
    pub(crate) fn start(target: SocketAddr, routes: Vec<(String, usize)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (generation, seen) = watch::channel(0);
        let (answered, count) = watch::channel(0);
        let shared = Shared {
            target,
            routes: Arc::new(routes),
            stop: Arc::clone(&stop),
            generation,
            answered,
        };
        let mut clients = JoinSet::new();
        for style in [Style::Http1, Style::Http1Once, Style::Http2] {
            clients.spawn(send_all(shared.clone(), style));
        }
        Self {
            stop,
            clients,
            generation: seen,
            answered: count,
        }
    }

    /// Waits until an answer belongs to this push or a later one.
    pub(crate) async fn sees(&mut self, generation: u64) {
        let what = format!("an answer of generation {generation}");
        let seen = soon(&what, self.generation.wait_for(|seen| *seen >= generation)).await;
        seen.expect("clients run until they are stopped");
    }

    /// Waits for so many more answers.
    pub(crate) async fn more(&mut self, answers: u64) {
        let goal = *self.answered.borrow() + answers;
        let seen = soon(
            "more answers",
            self.answered.wait_for(|count| *count >= goal),
        )
        .await;
        seen.expect("clients run until they are stopped");
    }

    /// Ends the clients and adds up what they saw.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        while let Some(tally) = soon("the last answers", self.clients.join_next()).await {
            let tally = tally.expect("a client does not panic");
            sum.answered += tally.answered;
            sum.resent += tally.resent;
            sum.failed += tally.failed;
            sum.told.extend(tally.told);
        }
        sum
    }
}

async fn send_all(shared: Shared, style: Style) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let (path, group) = &shared.routes[turn % shared.routes.len()];
        turn += 1;
        let fresh = kept.is_none();
        let mut result = exchange(&mut kept, &shared, style, path).await;
        if result.is_err() && !fresh {
            kept = None;
            tally.resent += 1;
            result = exchange(&mut kept, &shared, style, path).await;
        }
        match result.and_then(|response| judge(&response, *group)) {
            Ok(generation) => {
                tally.answered += 1;
                shared.answered.send_modify(|count| *count += 1);
                shared.generation.send_if_modified(|seen| {
                    let is_newer = generation > *seen;
                    *seen = generation.max(*seen);
                    is_newer
                });
            }
            Err(error) => {
                kept = None;
                tally.failed += 1;
                if tally.told.len() < TOLD_MAX {
                    tally.told.push(format!(
                        "{style:?} {path} after {} answers: {error}",
                        tally.answered
                    ));
                }
            }
        }
    }
    tally
}

fn judge(response: &Response<()>, group: usize) -> Result<u64, String> {
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if response.status() != 200 || text(GROUP) != group.to_string() {
        return Err(format!("wrong answer for group {group}: {response:?}"));
    }
    text(GENERATION)
        .parse()
        .map_err(|_| format!("no generation: {response:?}"))
}

/// An open connection.
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn open(target: SocketAddr, style: Style) -> Result<Self, String> {
        let stream = TcpStream::connect(target)
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let io = TokioIo::new(stream);
        let told = |error: hyper::Error| format!("no handshake: {error:?}");
        if let Style::Http2 = style {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(told)?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(told)?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Done unless the connection has been closed.
    async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

async fn exchange(
    kept: &mut Option<Sender>,
    shared: &Shared,
    style: Style,
    path: &str,
) -> Result<Response<()>, String> {
    // A closed connection that is known to be closed is no reason to send anything twice.
    let is_ready = match kept {
        Some(sender) => sender.ready().await,
        None => false,
    };
    let sender = match kept {
        Some(sender) if is_ready => sender,
        _ => kept.insert(Sender::open(shared.target, style).await?),
    };
    let builder = Request::get(format!("http://{}{path}", shared.target));
    let builder = match style {
        Style::Http1 => builder.uri(path).header("host", "flow"),
        Style::Http1Once => builder
            .uri(path)
            .header("host", "flow")
            .header("connection", "close"),
        Style::Http2 => builder.version(Version::HTTP_2),
    };
    let request = builder
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = sender
        .send(request)
        .await
        .map_err(|error| format!("no answer: {error:?}"))?;
    let (parts, body) = response.into_parts();
    body.collect()
        .await
        .map_err(|error| format!("no whole body: {error:?}"))?;
    if let Style::Http1Once = style {
        *kept = None;
    }
    Ok(Response::from_parts(parts, ()))
}
