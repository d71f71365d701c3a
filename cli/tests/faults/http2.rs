//! A client of HTTP/2.

use std::net::SocketAddr;

use http::Method;
use http::Request;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::http1::Stream;
use crate::origin::Pieces;
use crate::script;
use crate::script::Answer;
use crate::script::Ask;

/// One connection.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Pieces>,
    task: JoinHandle<()>,
}

impl Http2 {
    /// None if the proxy takes none.
    pub(crate) async fn open(target: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(target).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Self::over(stream).await
    }

    pub(crate) async fn over(stream: impl Stream + 'static) -> Option<Self> {
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.ok()?;
        let task = tokio::spawn(async move {
            let _ = connection.await; // told by what becomes of requests
        });
        Some(Self { sender, task })
    }

    /// Asks and judges.
    pub(crate) async fn ask(&self, ask: Ask, is_clean: bool) -> Result<(), String> {
        let answer = self.answer(&ask).await;
        ask.judge(answer.as_ref(), is_clean)
    }

    /// What is answered; none if it does not begin.
    async fn answer(&self, ask: &Ask) -> Option<Answer> {
        let mut sender = self.sender.clone();
        sender.ready().await.ok()?;
        let response = sender.send_request(request(ask)).await.ok()?;
        let (head, mut body) = response.into_parts();
        let id = head.headers.get("x-id").and_then(|id| id.to_str().ok());
        let grpc = head.headers.get("grpc-status");
        let mut answer = Answer {
            status: head.status.as_u16(),
            id: id.map(str::to_owned),
            trailer: grpc.and_then(|status| Some(status.to_str().ok()?.to_owned())),
            ..Answer::default()
        };
        loop {
            match body.frame().await {
                None => break,
                Some(Err(_)) => return Some(answer),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        answer.body.extend_from_slice(data);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        let values = ["grpc-status", "x-sum"].map(|name| trailers.get(name));
                        let value = values.into_iter().flatten().next();
                        answer.trailer =
                            value.and_then(|value| Some(value.to_str().ok()?.to_owned()));
                    }
                }
            }
        }
        answer.is_whole = true;
        Some(answer)
    }

    /// Asks to go on as a tunnel, says what goes through it and its end, and judges what came.
    pub(crate) async fn tunnel(&self, ask: &Ask, is_clean: bool) -> Result<(), String> {
        let mut stream = self.open_tunnel(ask).await;
        let mut came = Vec::new();
        if let Some(stream) = &mut stream {
            let _ = stream.write_all(script::THROUGH).await; // told by what comes
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut came).await;
        }
        ask.judge_tunnel(stream.is_some().then_some(&came), is_clean)
    }

    async fn open_tunnel(&self, ask: &Ask) -> Option<TokioIo<Upgraded>> {
        let mut sender = self.sender.clone();
        sender.ready().await.ok()?;
        let mut request = request(ask);
        *request.method_mut() = Method::CONNECT;
        let protocol = Protocol::from_static("tunnel");
        request.extensions_mut().insert(protocol);
        let response = sender.send_request(request).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let upgraded = hyper::upgrade::on(response).await.ok()?;
        Some(TokioIo::new(upgraded))
    }

    /// Asks for something and resets the stream once the request was sent.
    pub(crate) async fn ask_and_reset(&self, ask: &Ask, sent: impl Future<Output = ()>) {
        let mut sender = self.sender.clone();
        if sender.ready().await.is_err() {
            return;
        }
        let answer = sender.send_request(request(ask));
        tokio::select! {
            _ = answer => {}
            () = sent => {}
        }
    }

    /// Closes the connection once it is idle.
    pub(crate) async fn end(self) {
        drop(self.sender);
        let _ = self.task.await; // it does not panic
    }

    /// Leaves at once.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}

fn request(ask: &Ask) -> Request<Pieces> {
    let is_grpc = ask.path.contains("grpc");
    let kind = if is_grpc {
        "application/grpc"
    } else {
        "text/plain"
    };
    let body = if ask.body.is_empty() {
        Pieces::known(Vec::new())
    } else {
        Pieces::unknown(&ask.body, None)
    };
    let request = Request::builder()
        .method(ask.method)
        .uri(format!("http://a{}", ask.path))
        .header("content-type", kind)
        .body(body);
    request.expect("a valid path")
}
