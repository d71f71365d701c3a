//! What stands behind the proxy: HTTP of both versions, over TLS or not, and an echo.

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
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::script;

/// Pieces of a body whose length is not said.
const PIECE: usize = 16 * 1024;

/// Listens until it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
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
        let count = Arc::clone(&open);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = Open::enter(&count);
                let (speech, seen) = (speech.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let _ = serve(speech, stream, seen).await; // proxies leave when they want
                    drop(open);
                });
            }
        });
        Self {
            address,
            open,
            task,
        }
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
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

/// Requests that were told to come again.
#[derive(Default)]
struct Seen(Mutex<HashSet<String>>);

impl Seen {
    fn is_first(&self, path: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(path.to_owned())
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
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

/// Answers `/way/what/id`.
async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Pieces>> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(2);
    let what = parts.next().unwrap_or_default().to_owned();
    let id = parts.next().unwrap_or_default().to_owned();
    let is_first = || seen.is_first(&path);
    let body = match what.as_str() {
        "early" => Vec::new(),
        "hold" => std::future::pending().await,
        "abort" => return Err(io::ErrorKind::ConnectionAborted.into()),
        "once-abort" if is_first() => return Err(io::ErrorKind::ConnectionAborted.into()),
        _ => {
            let collected = request.into_body().collect().await;
            collected.map_err(io::Error::other)?.to_bytes().to_vec()
        }
    };
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
}

impl Pieces {
    /// Its length is said before.
    pub(crate) fn known(bytes: Vec<u8>) -> Self {
        let length = Some(bytes.len() as u64);
        let frame = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into())));
        Self {
            left: frame.into_iter().collect(),
            length,
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
        }
    }

    /// It breaks off.
    fn broken(bytes: &[u8]) -> Self {
        let data = Frame::data(Bytes::copy_from_slice(bytes));
        let broken = Err(io::ErrorKind::ConnectionAborted.into());
        Self {
            left: VecDeque::from([Ok(data), broken]),
            length: Some(10_000),
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
