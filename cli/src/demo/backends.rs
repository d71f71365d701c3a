//! A backend of the demo: says its name and what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A running backend.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    delay: Arc<AtomicU64>,
}

impl Backend {
    /// Serves on a free loopback port until the runtime ends.
    pub(crate) async fn start(name: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let delay = Arc::new(AtomicU64::new(0));
        tokio::spawn(serve(name, Arc::clone(&delay), listener));
        Ok(Self {
            name,
            address,
            delay,
        })
    }

    /// From now on every answer takes so many milliseconds longer.
    pub(crate) fn slow_down(&self, milliseconds: u64) {
        self.delay.store(milliseconds, Ordering::Relaxed);
    }
}

async fn serve(name: &'static str, delay: Arc<AtomicU64>, listener: TcpListener) {
    let builder = Arc::new(hyper::server::conn::http1::Builder::new());
    while let Ok((stream, _)) = listener.accept().await {
        let (builder, delay) = (Arc::clone(&builder), Arc::clone(&delay));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let delay = Duration::from_millis(delay.load(Ordering::Relaxed));
                async move {
                    tokio::time::sleep(delay).await;
                    Ok::<_, Infallible>(answer(name, &request))
                }
            });
            // The client decides when a connection ends, and how.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(name: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut body = serde_json::json!({
        "backend": name,
        "path": request.uri().path(),
        "via": if request.headers().contains_key("x-request-id") { "weir" } else { "direct" },
        "protocol": format!("{:?}", request.version()),
    });
    if let Some(client) = request.headers().get("x-forwarded-client-cert") {
        body["client"] = String::from_utf8_lossy(client.as_bytes()).into();
    }
    let mut response = Response::new(Full::from(format!("{body}\n")));
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
