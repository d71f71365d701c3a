//! Bodies without end, and an origin that counts them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::soon;

const CHUNK: &[u8] = &[b'.'; 16 * 1024];

/// A count that stands still for so long has stopped.
const STILL: Duration = Duration::from_millis(700);

/// Chunks from `chunks`, counted as they are taken, then trailers.
pub(crate) struct Counted {
    chunks: Box<dyn Iterator<Item = Bytes> + Send + Sync>,
    trailers: Option<HeaderMap>,
    taken: watch::Sender<u64>,
    is_empty: bool,
    /// Kept so that the other direction stays open; then this one does not end, either.
    held: Option<Request<Incoming>>,
    _ended: Option<Ended>,
}

/// Counts one more when it is dropped.
struct Ended(watch::Sender<u64>);

impl Counted {
    /// A body of these chunks.
    pub(crate) fn of(chunks: impl Iterator<Item = Bytes> + Send + Sync + 'static) -> Self {
        Self {
            chunks: Box::new(chunks),
            trailers: None,
            taken: watch::Sender::new(0),
            is_empty: false,
            held: None,
            _ended: None,
        }
    }

    /// A body that never ends.
    pub(crate) fn endless() -> Self {
        Self::of(std::iter::repeat(Bytes::from_static(CHUNK)))
    }

    /// Nothing at all.
    pub(crate) fn empty() -> Self {
        Self {
            is_empty: true,
            ..Self::of(std::iter::empty())
        }
    }

    /// The same with fields after it.
    pub(crate) fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self {
            trailers: Some(trailers),
            ..self
        }
    }

    /// The same without an end.
    pub(crate) fn staying(self, request: Request<Incoming>) -> Self {
        Self {
            held: Some(request),
            ..self
        }
    }

    /// Bytes taken so far.
    pub(crate) fn taken(&self) -> Count {
        Count(self.taken.subscribe())
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.chunks.next() {
            self.taken.send_modify(|bytes| *bytes += chunk.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.held.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|fields| Ok(Frame::trailers(fields))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// A number that grows.
#[derive(Clone, Debug)]
pub(crate) struct Count(watch::Receiver<u64>);

impl Count {
    /// Waits until it is at least `goal`.
    pub(crate) async fn reaches(&mut self, what: &str, goal: u64) {
        let reached = soon(what, self.0.wait_for(|count| *count >= goal)).await;
        reached.expect("whoever counts lives");
    }

    /// Waits until it no longer grows, and returns it.
    pub(crate) async fn settles(&mut self, what: &str) -> u64 {
        soon(what, async {
            while timeout(STILL, self.0.changed())
                .await
                .is_ok_and(|still| still.is_ok())
            {}
        })
        .await;
        *self.0.borrow()
    }
}

/// An origin that answers `/endless` for ever and anything else never, and reads no request body.
pub(crate) struct StreamOrigin {
    pub(crate) addr: SocketAddr,
    /// Bytes handed to the connection by `/endless`.
    pub(crate) sent: Count,
    /// Requests received.
    pub(crate) began: Count,
    /// Exchanges that are over, however they ended.
    pub(crate) ended: Count,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Counters {
    sent: watch::Sender<u64>,
    began: watch::Sender<u64>,
    ended: watch::Sender<u64>,
}

impl StreamOrigin {
    /// On a free port, HTTP/1.1 and HTTP/2.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let counters = Counters {
            sent: watch::Sender::new(0),
            began: watch::Sender::new(0),
            ended: watch::Sender::new(0),
        };
        let (sent, began, ended) = (
            Count(counters.sent.subscribe()),
            Count(counters.began.subscribe()),
            Count(counters.ended.subscribe()),
        );
        Self {
            addr,
            sent,
            began,
            ended,
            task: tokio::spawn(accept(listener, counters)),
        }
    }
}

impl Drop for StreamOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, counters: Counters) {
    let builder = Arc::new(auto::Builder::new(TokioExecutor::new()));
    while let Ok((stream, _)) = listener.accept().await {
        let (builder, counters) = (Arc::clone(&builder), counters.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, counters.clone()));
            // Whoever breaks the connection knows why.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    counters: Counters,
) -> Result<Response<Counted>, Infallible> {
    counters.began.send_modify(|count| *count += 1);
    let mut body = Counted {
        _ended: Some(Ended(counters.ended)),
        ..Counted::endless()
    };
    if request.uri().path() == "/endless" {
        body.taken = counters.sent;
        return Ok(Response::new(body));
    }
    // Dropped, and so counted, when the exchange is.
    let _held = (body, request);
    std::future::pending().await
}

/// A connection to a proxy, and the task behind it.
pub(crate) struct Connection {
    sender: Sender,
    task: JoinHandle<hyper::Result<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Counted>),
    Http2(http2::SendRequest<Counted>),
}

impl Connection {
    /// Opens one.
    pub(crate) async fn open(target: SocketAddr, is_http2: bool) -> Self {
        let stream = TcpStream::connect(target).await.expect("something listens");
        stream.set_nodelay(true).expect("an open socket");
        let io = TokioIo::new(stream);
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("it speaks HTTP/2");
            return Self {
                sender: Sender::Http2(sender),
                task: tokio::spawn(connection),
            };
        }
        let (sender, connection) = http1::handshake(io).await.expect("it speaks HTTP/1.1");
        Self {
            sender: Sender::Http1(sender),
            task: tokio::spawn(connection),
        }
    }

    /// Sends a request whose URI is a path.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Counted>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                request
                    .headers_mut()
                    .insert("host", http::HeaderValue::from_static("flow"));
                sender.ready().await?; // the answer before may not be quite over
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                let uri = format!("http://flow{}", request.uri().path());
                *request.uri_mut() = uri.parse().expect("a valid path");
                sender.send_request(request).await
            }
        }
    }

    /// Ends the connection at once.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}
