//! The downstream side.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_stream::iter;

use super::read_all;
use super::read_until;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::Incoming;
use crate::http::codec::IoFacts;
use crate::http::codec::Peer;
use crate::http::codec::Switch;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::server::Closing;
use crate::http::http1::server::serve;
use crate::net::NetStream;

type Body = UnsyncBoxBody<Bytes, Error>;
/// None of these takes over a connection.
impl Switch for Body {
    fn begin(&mut self, _: Vec<u8>) {}

    fn poll_switched(&mut self, _: &mut dyn Peer, _: bool, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn moved(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl Held for Body {}

type Answer = Pin<Box<dyn Future<Output = Response<Body>>>>;

/// A served connection: the client's end, and what to tell the server.
struct World {
    client: UnixStream,
    closing: Rc<Cell<Closing>>,
    facts: Rc<IoFacts>,
}

/// Runs a test against a server that answers with `service`.
fn with_server<T: Future<Output = ()>>(
    service: impl Fn(Request<Incoming>) -> Answer + 'static,
    test: impl FnOnce(World) -> T,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let (client, server) = UnixStream::pair().unwrap();
        let (closing, facts) = (Rc::new(Cell::new(Closing::No)), Rc::new(IoFacts::default()));
        let stream = (NetStream::Unix(server), Vec::new());
        let limits = (DecodeLimits::default(), usize::MAX);
        let world = World {
            client,
            closing: Rc::clone(&closing),
            facts: Rc::clone(&facts),
        };
        let serving = tokio::task::spawn_local(serve(stream, limits, facts, service, closing));
        test(world).await;
        serving.await.unwrap()
    })
}

fn text(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Answers with what the request was: method, target and body.
fn echo(request: Request<Incoming>) -> Answer {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = body.unwrap_or_else(|error| format!("{error}").into());
        let text_of = [
            parts.method.as_str().as_bytes(),
            b" ",
            parts.uri.path().as_bytes(),
            b" ",
            &body,
        ];
        Response::new(text(text_of.concat()))
    })
}

/// Answers without looking at the body.
fn ignore(_: Request<Incoming>) -> Answer {
    Box::pin(async { Response::new(text("no")) })
}

/// The head, without its date, and the body.
fn cut(response: &str) -> (String, String) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let lines = head.lines().filter(|line| !line.starts_with("date: "));
    (lines.collect::<Vec<_>>().join("|"), body.to_owned())
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_server(echo, async |mut world: World| {
        let requests = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
            POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\n\r\n\
            GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        world.client.write_all(requests.as_bytes()).await.unwrap();
        let all = read_all(&mut world.client).await;
        let bodies: Vec<_> = all.split("\r\n\r\n").skip(1).collect();
        assert!(bodies[0].starts_with("POST /a abcHTTP/1.1 200 OK\r\n"));
        assert!(bodies[1].starts_with("POST /b defHTTP/1.1 200 OK\r\n"));
        assert_eq!(bodies[2], "GET /c ");
        assert_eq!(all.matches("connection: close").count(), 1);
    })
    .unwrap();
}

#[test]
fn a_request_in_single_bytes_is_the_same_request() {
    with_server(echo, async |mut world: World| {
        let request = "\r\nPOST /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
            Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nT: x\r\n\r\n";
        for byte in request.bytes() {
            world.client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (head, body) = cut(&read_all(&mut world.client).await);
        assert_eq!(head, "HTTP/1.1 200 OK|content-length: 18|connection: close");
        assert_eq!(body, "POST /a 0123456789");
    })
    .unwrap();
}

#[test]
fn versions_decide_framing_and_persistence() {
    let stream = |_| -> Answer {
        Box::pin(async {
            let pieces = ["ab", "", "c"].map(|piece| Ok(Frame::data(Bytes::from(piece))));
            Response::new(StreamBody::new(iter(pieces)).boxed_unsync())
        })
    };
    with_server(stream, async |mut world: World| {
        let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = cut(&read_until(&mut world.client, "0\r\n\r\n").await);
        assert_eq!(head, "HTTP/1.1 200 OK|transfer-encoding: chunked");
        assert_eq!(body, "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = cut(&read_all(&mut world.client).await);
        assert_eq!(head, "HTTP/1.0 200 OK|connection: keep-alive");
        assert_eq!(body, "abc");
    })
    .unwrap();
    with_server(echo, async |mut world: World| {
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let all = read_all(&mut world.client).await;
        assert_eq!(all.matches("HTTP/1.0 200 OK").count(), 2);
        assert_eq!(all.matches("connection: keep-alive").count(), 1);
    })
    .unwrap();
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let answer = |_| -> Answer {
        Box::pin(async {
            let mut response = Response::new(Body::default());
            let headers = response.headers_mut();
            headers.insert("content-length", "7".parse().unwrap());
            response
        })
    };
    with_server(answer, async |mut world: World| {
        let request = "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = cut(&read_all(&mut world.client).await);
        assert_eq!(head, "HTTP/1.1 200 OK|content-length: 7|connection: close");
        assert_eq!(body, "");
    })
    .unwrap();
}

#[test]
fn answers_without_body_have_no_framing() {
    let answer = |_| -> Answer {
        Box::pin(async {
            let mut response = Response::new(Body::default());
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            let headers = response.headers_mut();
            headers.insert("content-length", "0".parse().unwrap());
            response
        })
    };
    with_server(answer, async |mut world: World| {
        let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = cut(&read_all(&mut world.client).await);
        assert_eq!(head, "HTTP/1.1 204 No Content|connection: close");
    })
    .unwrap();
}

#[test]
fn one_more_request_is_answered_when_the_next_answer_is_to_be_the_last() {
    with_server(echo, async |mut world: World| {
        world.closing.set(Closing::AfterAnswer);
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        world.client.write_all(request).await.unwrap();
        let (head, _) = cut(&read_all(&mut world.client).await);
        assert!(head.contains("connection: close"), "{head}");
    })
    .unwrap();
}

#[test]
fn continue_is_said_when_the_body_is_asked_for() {
    let request = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    with_server(echo, async |mut world: World| {
        world.client.write_all(request.as_bytes()).await.unwrap();
        let interim = read_until(&mut world.client, "\r\n\r\n").await;
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        world.client.write_all(b"ok").await.unwrap();
        let answer = read_until(&mut world.client, "ok").await;
        assert!(answer.ends_with("POST / ok"), "{answer}");
        world.closing.set(Closing::Now);
    })
    .unwrap();
    with_server(ignore, async |mut world: World| {
        world.client.write_all(request.as_bytes()).await.unwrap();
        world.client.shutdown().await.unwrap();
        let answer = read_all(&mut world.client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    })
    .unwrap();
}

#[test]
fn a_body_nobody_read_is_thrown_away_if_it_is_there() {
    with_server(ignore, async |mut world: World| {
        let requests = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
            GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        world.client.write_all(requests.as_bytes()).await.unwrap();
        let all = read_all(&mut world.client).await;
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2);
    })
    .unwrap();
    with_server(ignore, async |mut world: World| {
        let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc";
        world.client.write_all(request.as_bytes()).await.unwrap();
        // It does not wait for the rest, and it tells its answer first.
        let all = read_all(&mut world.client).await;
        assert!(all.ends_with("no"), "{all}");
    })
    .unwrap();
}

#[test]
fn trailers_pass_except_those_that_would_change_the_message() {
    let seen = Rc::new(RefCell::new(HeaderMap::new()));
    let kept = Rc::clone(&seen);
    let answer = move |request: Request<Incoming>| -> Answer {
        let seen = Rc::clone(&kept);
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap();
            *seen.borrow_mut() = body.trailers().cloned().unwrap_or_default();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("content-length", "5".parse().unwrap());
            let frames = [Frame::data(Bytes::from("a")), Frame::trailers(trailers)].map(Ok);
            Response::new(StreamBody::new(iter(frames)).boxed_unsync())
        })
    };
    with_server(answer, async |mut world: World| {
        let request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\na\r\n0\r\nT: v\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (_, body) = cut(&read_until(&mut world.client, "0\r\n\r\n").await);
        assert_eq!(body, "1\r\na\r\n0\r\ngrpc-status: 0\r\n\r\n");
        world.closing.set(Closing::Now);
    })
    .unwrap();
    assert_eq!(seen.borrow()["t"], "v");
}

#[test]
fn a_broken_rule_is_answered_and_ends_the_connection() {
    let error = with_server(echo, async |mut world: World| {
        let requests = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\nHost: h\r\n\r\n";
        world.client.write_all(requests.as_bytes()).await.unwrap();
        world.client.shutdown().await.unwrap();
        let all = read_all(&mut world.client).await;
        let refusal = all.split("GET /a ").nth(1).unwrap();
        let (head, _) = cut(refusal);
        let expected = "HTTP/1.1 400 Bad Request|content-length: 0|connection: close";
        assert_eq!(head, expected);
        assert!(world.facts.violation.get().is_some());
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn a_body_that_breaks_off_is_an_error_for_its_reader() {
    with_server(echo, async |mut world: World| {
        let request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx";
        world.client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = cut(&read_all(&mut world.client).await);
        assert!(head.ends_with("connection: close"), "{head}");
        assert!(body.contains("InvalidChunk"), "{body}");
    })
    .unwrap();
}

#[test]
fn a_client_that_leaves_stops_the_work() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&dropped);
    let never = move |_| -> Answer {
        let dropped = Dropped(Rc::clone(&flag));
        Box::pin(async move {
            let _dropped = dropped;
            std::future::pending().await
        })
    };
    let ended = with_server(never, async |mut world: World| {
        let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        world.client.write_all(request.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        drop(world.client);
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Closed);
    assert!(dropped.get());
}

#[tokio::test]
async fn an_idle_connection_is_not_closed_on_a_request_that_has_just_come() {
    let (client, server) = UnixStream::pair().unwrap();
    let closing = Rc::new(Cell::new(Closing::No));
    let (stream, facts) = ((NetStream::Unix(server), Vec::new()), IoFacts::default());
    let limits = (DecodeLimits::default(), usize::MAX);
    let mut serving = Box::pin(serve(
        stream,
        limits,
        Rc::new(facts),
        echo,
        Rc::clone(&closing),
    ));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(serving.as_mut().poll(&mut cx).is_pending());
    // Between two polls without an await in between, the runtime hears of nothing.
    client
        .try_write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    closing.set(Closing::Now);
    assert!(serving.as_mut().poll(&mut cx).is_pending());
    serving.await.unwrap();
    let mut client = client;
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
