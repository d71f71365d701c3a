//! What stands behind the proxy: HTTP of both versions, over TLS or not, and an echo.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::script;

/// Pieces of a body whose length is not said.
const PIECE: usize = 16 * 1024;

/// Listens until it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// How it speaks.
#[derive(Clone)]
pub(crate) enum Speech {
    Echo,
    Http,
    /// After a handshake.
    Https(TlsAcceptor),
    /// Takes a few bytes and resets.
    Resets,
}

impl Origin {
    pub(crate) async fn start(speech: Speech) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::<AtomicUsize>::default();
        let seen = Arc::<Seen>::default();
        let (count, all) = (Arc::clone(&open), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = Open::enter(&count);
                let (speech, seen) = (speech.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    let _ = serve(speech, stream, seen).await; // proxies leave when they want
                    drop(open);
                });
            }
        });
        Self {
            address,
            open,
            seen,
            task,
        }
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Requests whose answer is not sent to its end.
    pub(crate) fn busy(&self) -> usize {
        self.seen.busy.load(Ordering::SeqCst)
    }

    /// Waits for a request with this id.
    pub(crate) async fn asked(&self, id: &str) {
        loop {
            let mut another = std::pin::pin!(self.seen.another.notified());
            another.as_mut().enable();
            if self.seen.has(id) {
                return;
            }
            another.await;
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What was asked for.
#[derive(Default)]
struct Seen {
    /// Paths of requests that were told to come again.
    first: Mutex<HashSet<String>>,
    ids: Mutex<HashSet<String>>,
    another: Notify,
    busy: Arc<AtomicUsize>,
    /// Where requests wait for each other.
    meetings: Mutex<HashMap<String, Arc<Barrier>>>,
}

impl Seen {
    fn is_first(&self, path: &str) -> bool {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.insert(path.to_owned())
    }

    fn note(&self, id: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.to_owned());
        drop(ids);
        self.another.notify_waiters();
    }

    fn has(&self, id: &str) -> bool {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.contains(id)
    }

    /// Waits for as many requests for `what` as it says: `meet-3-x` for three.
    async fn meet(&self, what: &str) {
        let count = what.split('-').nth(1).and_then(|count| count.parse().ok());
        let barrier = {
            let meetings = self.meetings.lock();
            let mut meetings = meetings.unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Barrier::new(count.unwrap_or(1)));
            Arc::clone(meetings.entry(what.to_owned()).or_insert_with(new))
        };
        barrier.wait().await;
    }
}

async fn serve(speech: Speech, mut stream: TcpStream, seen: Arc<Seen>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match speech {
        Speech::Echo => {
            let (mut reads, mut writes) = stream.split();
            tokio::io::copy(&mut reads, &mut writes).await?;
            writes.shutdown().await
        }
        Speech::Resets => {
            let mut some = [0; 5];
            stream.read_exact(&mut some).await?;
            Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
        }
        Speech::Http => serve_http(stream, seen).await,
        Speech::Https(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            Box::pin(serve_http(stream, seen)).await
        }
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    seen: Arc<Seen>,
) -> io::Result<()> {
    let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().enable_connect_protocol();
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

/// Goes on as an echo, which is busy until one side has ended it.
fn tunnel(mut request: Request<Incoming>, busy: Open) -> io::Result<Response<Pieces>> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let (mut reads, mut writes) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut reads, &mut writes).await; // proxies leave when they want
            let _ = writes.shutdown().await;
        }
        drop(busy);
    });
    let response = match request.version() {
        Version::HTTP_2 => Response::builder(),
        _ => Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "tunnel"),
    };
    let body = Pieces::known(Vec::new());
    response.body(body).map_err(io::Error::other)
}

/// Answers `/way/what/id`.
async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Pieces>> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(2);
    let what = parts.next().unwrap_or_default().to_owned();
    let id = parts.next().unwrap_or_default().to_owned();
    let busy = Open::enter(&seen.busy);
    seen.note(&id);
    let is_first = || seen.is_first(&path);
    let body = match what.as_str() {
        "early" => Vec::new(),
        "hold" => std::future::pending().await,
        "abort" => return Err(io::ErrorKind::ConnectionAborted.into()),
        "tunnel" => return tunnel(request, busy),
        "once-abort" if is_first() => return Err(io::ErrorKind::ConnectionAborted.into()),
        _ => {
            let collected = request.into_body().collect().await;
            collected.map_err(io::Error::other)?.to_bytes().to_vec()
        }
    };
    if what.starts_with("meet-") {
        seen.meet(&what).await;
    }
    let wanted = script::wanted(&what, &id, &body);
    let mut response = Response::builder().header("x-id", &id);
    let body = match what.as_str() {
        "break" => Pieces::broken(&wanted),
        "close" => {
            response = response.header("connection", "close");
            Pieces::known(wanted)
        }
        "big" | "chunked" => Pieces::unknown(&wanted, None),
        "empty" => {
            response = response.status(204);
            Pieces::known(wanted)
        }
        "grpc" => {
            response = response.header("content-type", "application/grpc");
            Pieces::unknown(&wanted, Some(trailers("grpc-status", "0")))
        }
        "once-grpc" if is_first() => {
            response = response.header("content-type", "application/grpc");
            Pieces::unknown(&[], Some(trailers("grpc-status", "14")))
        }
        "once-grpc" => {
            response = response.header("content-type", "application/grpc");
            Pieces::unknown(&wanted, Some(trailers("grpc-status", "0")))
        }
        "once" if is_first() => {
            response = response.status(503);
            Pieces::known(Vec::new())
        }
        "trailers" => Pieces::unknown(&wanted, Some(trailers("x-sum", &id))),
        _ => Pieces::known(wanted),
    };
    let body = Pieces {
        _busy: Some(busy),
        ..body
    };
    response.body(body).map_err(io::Error::other)
}

fn trailers(name: &'static str, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("ids are plain");
    HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
}

/// A body, piece by piece.
pub(crate) struct Pieces {
    left: VecDeque<io::Result<Frame<Bytes>>>,
    length: Option<u64>,
    /// Counts it as long as it is sent.
    _busy: Option<Open>,
}

impl Pieces {
    /// Its length is said before.
    pub(crate) fn known(bytes: Vec<u8>) -> Self {
        let length = Some(bytes.len() as u64);
        let frame = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into())));
        Self {
            left: frame.into_iter().collect(),
            length,
            _busy: None,
        }
    }

    /// It is not.
    pub(crate) fn unknown(bytes: &[u8], trailers: Option<HeaderMap>) -> Self {
        let pieces = bytes.chunks(PIECE);
        let pieces = pieces.map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))));
        let trailers = trailers.map(|trailers| Ok(Frame::trailers(trailers)));
        Self {
            left: pieces.chain(trailers).collect(),
            length: None,
            _busy: None,
        }
    }

    /// It breaks off.
    fn broken(bytes: &[u8]) -> Self {
        let data = Frame::data(Bytes::copy_from_slice(bytes));
        let broken = Err(io::ErrorKind::ConnectionAborted.into());
        Self {
            left: VecDeque::from([Ok(data), broken]),
            length: Some(10_000),
            _busy: None,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.left.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
