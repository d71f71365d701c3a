//! A backend of the demo: says its name and what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

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
}

impl Backend {
    /// Serves on a free loopback port until the runtime ends.
    pub(crate) async fn start(name: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(name, listener));
        Ok(Self { name, address })
    }
}

async fn serve(name: &'static str, listener: TcpListener) {
    let builder = Arc::new(hyper::server::conn::http1::Builder::new());
    while let Ok((stream, _)) = listener.accept().await {
        let builder = Arc::clone(&builder);
        tokio::spawn(async move {
            let service =
                service_fn(
                    move |request| async move { Ok::<_, Infallible>(answer(name, &request)) },
                );
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
