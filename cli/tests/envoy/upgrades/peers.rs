//! A client and a server of HTTP/2 that end their streams in every way there is.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::SendStream;
use h2::client;
use h2::ext::Protocol;
use h2::server;
use h2::server::SendResponse;
use http::Method;
use http::Request;
use http::Response;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::setting::PATIENCE;
use crate::setting::until;

/// What a server does when it reads this: resets of a stream.
const RESETS: [(&[u8], Reason); 5] = [
    (b"CANCEL", Reason::CANCEL),
    (b"CONNECT", Reason::CONNECT_ERROR),
    (b"INTERNAL", Reason::INTERNAL_ERROR),
    (b"PROTOCOL", Reason::PROTOCOL_ERROR),
    (b"REFUSE", Reason::REFUSED_STREAM),
];

/// Anything else is sent back; at the end of the client there is a last word.
pub(super) struct Server {
    pub(super) port: u16,
    seen: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(is_announced: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (tell, seen) = mpsc::channel(1024);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, is_announced, tell.clone()));
            }
        });
        Self { port, seen, task }
    }

    /// The next thing it saw: what was asked, and how that has ended.
    pub(super) async fn saw(&mut self) -> String {
        let next = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        next.expect("it is asked").expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, is_announced: bool, tell: mpsc::Sender<String>) {
    let mut builder = server::Builder::new();
    if is_announced {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else {
        return; // somebody looked whether it listens
    };
    let lose = Arc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = lose.notified() => return,
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        let (tell, lose) = (tell.clone(), Arc::clone(&lose));
        tokio::spawn(async move {
            let said = answer(request, respond, &lose).await;
            let _ = tell.send(said).await; // the test may be over
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    lose: &Notify,
) -> String {
    let protocol = request.extensions().get::<Protocol>();
    let protocol = protocol.map_or("none", Protocol::as_str);
    let has_key = request.headers().contains_key("sec-websocket-key");
    let path = request.uri().path().to_owned();
    let said = format!("{} {path} {protocol} {has_key}", request.method());
    let status = path.trim_start_matches('/').parse().unwrap_or(200);
    let head = Response::builder().status(status).body(());
    let sent = respond.send_response(head.expect("a status"), status != 200);
    let Ok(mut outgoing) = sent else {
        return format!("{said}: nobody waits");
    };
    let mut incoming = request.into_body();
    loop {
        let data = match incoming.data().await {
            None => {
                let _ = outgoing.send_data(Bytes::from_static(b"over"), true);
                return format!("{said}: end");
            }
            Some(Err(error)) if error.reason().is_some() => return format!("{said}: reset"),
            Some(Err(_)) => return format!("{said}: lost"),
            Some(Ok(data)) => data,
        };
        let _ = incoming.flow_control().release_capacity(data.len());
        let reset = RESETS.iter().find(|(word, _)| *word == data);
        if let Some((_, reason)) = reset {
            outgoing.send_reset(*reason);
        } else if data == "LOSE" {
            lose.notify_one();
        } else {
            let is_end = data == "END";
            let _ = outgoing.send_data(data, is_end); // it may be gone
        }
    }
}

/// What a client does once its stream is open.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Sends the end.
    End,
    /// Leaves with its connection.
    Leave,
    /// Resets its stream.
    Reset,
    /// Says a word.
    Say(&'static [u8]),
}

/// What a client of HTTP/2 sees that asks for `protocol`, if that is not empty, and does this.
pub(super) async fn see(proxy: SocketAddr, path: &str, protocol: &str, act: Act) -> String {
    let socket = TcpStream::connect(proxy).await.expect("it listens");
    let (sender, connection) = client::handshake(socket).await.expect("a connection");
    let connection = tokio::spawn(async move {
        let _ = connection.await; // told by the stream
    });
    until(|| async {
        let is_known = sender.is_extended_connect_protocol_enabled();
        is_known
            .then_some(())
            .ok_or_else(|| "no such setting".to_owned())
    })
    .await
    .expect("it is announced");
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a{path}"))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("valid");
    request.extensions_mut().insert(Protocol::from(protocol));
    let mut sender = sender.ready().await.expect("it is open");
    let (response, outgoing) = sender.send_request(request, false).expect("it is open");
    let response = response.await.expect("an answer");
    let status = response.status();
    let accept = response.headers().contains_key("sec-websocket-accept");
    let incoming = response.into_body();
    let end = match act {
        Act::Leave => {
            connection.abort();
            let _ = connection.await; // so that the socket is closed
            "left".to_owned()
        }
        _ => tokio::time::timeout(PATIENCE, finish(outgoing, incoming, act))
            .await
            .expect("an end"),
    };
    format!("{} {accept} {end}", status.as_u16())
}

/// Does it, and reads to the end.
async fn finish(mut outgoing: SendStream<Bytes>, mut incoming: RecvStream, act: Act) -> String {
    match act {
        Act::End => outgoing.send_data(Bytes::new(), true).expect("it is open"),
        Act::Reset => {
            outgoing.send_reset(Reason::CANCEL);
            return "reset".to_owned();
        }
        Act::Say(word) => {
            let _ = outgoing.send_data(Bytes::from_static(word), false); // an answer may have been refused
        }
        Act::Leave => {}
    }
    let mut read = String::new();
    loop {
        match incoming.data().await {
            None => return format!("{read:?} end"),
            Some(Err(_)) => return format!("{read:?} broken"),
            Some(Ok(data)) => {
                let _ = incoming.flow_control().release_capacity(data.len());
                read.push_str(&String::from_utf8_lossy(&data));
            }
        }
    }
}
