//! A server of HTTP/2 that says nothing and remembers the heads of its requests.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::setting::PATIENCE;

/// Heads not yet looked at.
const HEADS_MAX: usize = 64;

/// Without the body.
pub(super) type Head = Request<()>;

pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    heads: mpsc::Receiver<Head>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let (sender, heads) = mpsc::channel(HEADS_MAX);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| record(request, sender.clone()));
                let server = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            heads,
            task,
        }
    }

    /// The next request of this service.
    pub(super) async fn next(&mut self, service: &str) -> Head {
        loop {
            let head = tokio::time::timeout(PATIENCE, self.heads.recv());
            let head = head.await.expect("it is asked in time");
            let head = head.expect("it runs");
            if head.uri().path().contains(service) {
                return head;
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Never answers, so that whoever asks stays.
async fn record(
    request: Request<Incoming>,
    heads: mpsc::Sender<Head>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, _body) = request.into_parts();
    // The test may have ended.
    let _ = heads.send(Request::from_parts(parts, ())).await;
    std::future::pending().await
}
