//! SIGTERM loses no request: what runs is finished, what is new is refused, the exit status is 0.
//! Clients of HTTP/2 are told at once and in two steps, those of HTTP/1 with their next answer.

use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::ports::ReservedPort;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::streams::Connection;
use crate::support::streams::Counted;
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_run_are_answered_before_a_clean_exit() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("whole"));
    let mut child = Child::proxy(origin.addr(), false).await;
    let mut idle = Connection::open(child.addr(), false).await;
    answered(idle.send(get()).await).await;
    origin.pause();
    let running: Vec<_> = [false, true]
        .into_iter()
        .map(|is_http2| start(&child, is_http2))
        .collect();
    until("both requests at the origin", async || {
        (origin.seen().len() == 3).then_some(())
    })
    .await;

    child.process.signal(Signal::TERM).expect("it runs");
    until("refused connections", async || {
        TcpStream::connect(child.addr()).await.err()
    })
    .await;
    // Nobody had told it to go yet.
    let late = tokio::spawn(async move {
        let response = idle.send(get()).await.expect("an answer");
        assert_eq!(response.headers()["connection"], "close");
        answered(Ok(response)).await;
    });
    child
        .process
        .check_running()
        .expect("requests run, so the process does");
    origin.resume();
    for request in running.into_iter().chain([late]) {
        soon("an answer", request).await.expect("no panic");
    }
    let status = child.ended().await;
    assert_eq!(status.code(), Some(0), "{}", child.process.whole_output());
}

fn start(child: &Child, is_http2: bool) -> tokio::task::JoinHandle<()> {
    let addr = child.addr();
    tokio::spawn(async move {
        let mut client = Connection::open(addr, is_http2).await;
        answered(client.send(get()).await).await;
    })
}

async fn answered(response: hyper::Result<http::Response<hyper::body::Incoming>>) {
    let response = response.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.expect("a whole body");
    assert_eq!(body.to_bytes(), "whole");
}

fn get() -> Request<Counted> {
    Request::get("/").body(Counted::empty()).expect("valid")
}

/// One frame of HTTP/2 (RFC 9113 section 4.1).
#[derive(Debug)]
struct RawFrame {
    kind: u8,
    payload: Vec<u8>,
}

async fn next_frame(stream: &mut TcpStream) -> RawFrame {
    let mut head = [0; 9];
    soon("a frame", stream.read_exact(&mut head))
        .await
        .expect("a frame");
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    let rest = stream.read_exact(&mut payload);
    soon("its payload", rest).await.expect("a whole frame");
    RawFrame {
        kind: head[3],
        payload,
    }
}

async fn frame_of(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let frame = next_frame(stream).await;
        if frame.kind == kind {
            return frame.payload;
        }
    }
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// How soon an idle connection of HTTP/2 is told.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A machine that does something else may take longer to do it, now and then.
const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_of_http2_is_told_at_once_and_in_two_steps() {
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        quickest = quickest.min(Box::pin(told_to_go()).await);
        if quickest <= AT_ONCE {
            return;
        }
    }
    assert!(quickest <= AT_ONCE, "{quickest:?} at best");
}

/// From the beginning of the drain until the client has read that it is to go.
async fn told_to_go() -> Duration {
    let origin = Origin::start("origin").expect("a free port");
    let port = ReservedPort::new().expect("a free port");
    let text = bootstrap::fixed(port.number(), origin.addr(), false);
    let proxy = Proxy::start(&text).await;
    proxy.listens("main").await;
    let mut client = TcpStream::connect(port.addr()).await.expect("it listens");
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("it reads");
    // Its own SETTINGS, and that it has seen ours.
    let mut settings = 0;
    while settings < 2 {
        settings += u8::from(next_frame(&mut client).await.kind == 4);
    }
    let began = Instant::now();
    let ended = proxy.drain();
    let first = frame_of(&mut client, GOAWAY).await;
    let took = began.elapsed();
    assert_eq!(first[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let ping = frame_of(&mut client, PING).await;
    client
        .write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0])
        .await
        .expect("it reads");
    client.write_all(&ping).await.expect("it reads");
    let second = frame_of(&mut client, GOAWAY).await;
    assert_eq!(second[..8], [0; 8], "no stream was opened");
    assert_eq!(
        soon("the end", client.read(&mut [0; 1]))
            .await
            .expect("an end"),
        0
    );
    soon("the proxy's end", ended).await.expect("no panic");
    took
}

/// What a client of its kind saw until it was told to go.
async fn load(target: std::net::SocketAddr, kind: Kind) -> Result<u64, String> {
    let mut answered = 0;
    match kind {
        Kind::Http1 => {
            let mut client = Connection::open(target, false).await;
            loop {
                let answer = client
                    .send(get())
                    .await
                    .map_err(|error| format!("{error:?}"))?;
                let is_last = answer.headers().contains_key("connection");
                finished(answer).await?;
                answered += 1;
                if is_last {
                    return Ok(answered);
                }
            }
        }
        Kind::Http2 | Kind::Grpc => {
            let mut client = Connection::open(target, true).await;
            loop {
                let mut request = get();
                if kind == Kind::Grpc {
                    let grpc = http::HeaderValue::from_static("application/grpc");
                    request.headers_mut().insert("content-type", grpc);
                }
                match client.send(request).await {
                    Ok(answer) => finished(answer).await?,
                    // Not sent: it was told to go before.
                    Err(error) if error.is_canceled() || is_goodbye(&error) => return Ok(answered),
                    Err(error) => return Err(format!("{error:?}")),
                }
                answered += 1;
            }
        }
    }
}

fn is_goodbye(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("GoAway") && text.contains("NO_ERROR")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Http1,
    Http2,
}

async fn finished(answer: http::Response<hyper::body::Incoming>) -> Result<(), String> {
    if answer.status() != 200 || answer.headers().contains_key("grpc-status") {
        return Err(format!("{answer:?}"));
    }
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| format!("{error:?}"))?.to_bytes();
    if body != "whole" {
        return Err(format!("{body:?}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_an_error_while_the_proxy_stops_under_load() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("whole"));
    let mut child = Child::proxy(origin.addr(), false).await;
    let kinds = [Kind::Http1, Kind::Http2, Kind::Grpc];
    let clients: Vec<_> = (0..12)
        .map(|index: usize| tokio::spawn(load(child.addr(), kinds[index % kinds.len()])))
        .collect();
    until("load", async || (origin.seen().len() > 500).then_some(())).await;
    child.process.signal(Signal::TERM).expect("it runs");
    let mut answered = 0;
    for client in clients {
        let told = soon("a client's end", client).await.expect("no panic");
        answered += told.expect("no error");
    }
    assert!(answered > 500, "{answered}");
    let status = child.ended().await;
    assert_eq!(status.code(), Some(0), "{}", child.process.whole_output());
    let said = child.process.whole_output();
    assert!(!said.contains("are cut"), "{said}");
}
