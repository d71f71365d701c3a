//! Origins without a proxy between: what they promise to tests elsewhere.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{FixedOptions, FixedOrigin, Origin, Recorder, Reply, Seen};
use crate::client;
use crate::pattern::{Pattern, checksum};

const DEADLINE: Duration = Duration::from_secs(20);

/// A request body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn origin() -> Origin {
    Origin::start("blue").expect("a free port")
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("x-one", "1")
        .body(Empty::new())
        .expect("a valid request")
}

#[tokio::test]
async fn an_echo_tells_what_arrived_over_both_protocols() {
    let origin = origin();
    let over1 = client::http1(origin.addr(), get("/a?b=c"))
        .await
        .expect("answered");
    let over2 = client::http2(origin.addr(), get("/a?b=c"))
        .await
        .expect("answered");
    for (answer, version) in [(over1, "HTTP/1.1"), (over2, "HTTP/2.0")] {
        let seen: Seen = answer.json().expect("an echo");
        assert_eq!(
            (seen.origin.as_str(), seen.version.as_str()),
            ("blue", version)
        );
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("GET", "/a?b=c")
        );
        assert_eq!(seen.authority, origin.addr().to_string());
        assert_eq!((seen.header("x-one"), seen.body_bytes), (Some("1"), 0));
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn a_streamed_request_body_is_summed_up_with_its_trailers() {
    let origin = origin();
    let trailers = [(
        "x-end".parse().expect("a name"),
        "yes".parse().expect("a value"),
    )];
    let last = Frame::trailers(trailers.into_iter().collect());
    let body = Frames(
        Pattern::new(300_000)
            .map(Frame::data)
            .chain([last])
            .collect(),
    );
    let request = Request::post("/").body(body).expect("a valid request");
    let answer = client::http2(origin.addr(), request)
        .await
        .expect("answered");
    let seen: Seen = answer.json().expect("an echo");
    assert_eq!(
        (seen.body_bytes, seen.body_checksum),
        (300_000, checksum(300_000))
    );
    assert_eq!(seen.trailers, [("x-end".to_owned(), "yes".to_owned())]);
}

#[tokio::test]
async fn a_script_decides_status_fields_trailers_and_delay() {
    let origin = origin();
    origin.script(|seen| match seen.path.as_str() {
        "/slow" => Reply::body("late").with_delay(Duration::from_millis(60)),
        "/stream" => Reply::stream(1_000_000).with_trailer("x-sum", "known"),
        _ => Reply::status(StatusCode::SERVICE_UNAVAILABLE).with_header("retry-after", "3"),
    });
    let refused = client::http1(origin.addr(), get("/"))
        .await
        .expect("answered");
    assert_eq!((refused.status.as_u16(), refused.body_bytes), (503, 0));
    assert_eq!(
        refused.headers.get("retry-after").expect("as scripted"),
        "3"
    );
    let began = Instant::now();
    let slow = client::http1(origin.addr(), get("/slow"))
        .await
        .expect("answered");
    assert!(slow.text() == "late" && began.elapsed() >= Duration::from_millis(60));
    let stream = client::http2(origin.addr(), get("/stream"))
        .await
        .expect("answered");
    assert_eq!(
        (stream.body_bytes, stream.body_checksum),
        (1_000_000, checksum(1_000_000))
    );
    assert_eq!(stream.trailers.get("x-sum").expect("as scripted"), "known");
}

#[tokio::test]
async fn paused_origins_answer_only_when_resumed() {
    let fixed = FixedOrigin::start(&FixedOptions::default()).expect("a free port");
    fixed.pause();
    let request = client::http1(fixed.addr(), get("/"));
    tokio::pin!(request);
    assert!(
        timeout(Duration::from_millis(30), &mut request)
            .await
            .is_err()
    );
    fixed.resume();
    assert!(timeout(DEADLINE, request).await.expect("in time").is_ok());
    let origin = origin();
    origin.pause();
    let request = client::http2(origin.addr(), get("/"));
    tokio::pin!(request);
    assert!(
        timeout(Duration::from_millis(30), &mut request)
            .await
            .is_err()
    );
    origin.resume();
    assert!(timeout(DEADLINE, request).await.expect("in time").is_ok());
}

#[tokio::test]
async fn a_fixed_origin_answers_pipelined_requests_and_honors_close() {
    let headers = vec![("x-a".to_owned(), "b".to_owned())];
    let options = FixedOptions {
        body_bytes: 10,
        headers,
        port: 0,
        tls: None,
    };
    let fixed = FixedOrigin::start(&options).expect("a free port");
    let mut stream = TcpStream::connect(fixed.addr()).await.expect("it listens");
    let requests = b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\
        GET /3 HTTP/1.1\r\nconnection: close\r\n\r\n";
    stream.write_all(requests).await.expect("it reads");
    let mut answers = Vec::new();
    let read = stream.read_to_end(&mut answers);
    timeout(DEADLINE, read)
        .await
        .expect("it closes")
        .expect("it closes cleanly");
    let text = String::from_utf8_lossy(&answers);
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 3);
    assert_eq!(
        (text.matches("x-a: b\r\n").count(), fixed.requests()),
        (3, 3)
    );
    let bad = FixedOptions {
        headers: vec![("a b".to_owned(), String::new())],
        ..options
    };
    assert!(FixedOrigin::start(&bad).is_err());
}

#[tokio::test]
async fn a_recorder_keeps_every_byte_and_answers_each_request() {
    let recorder = Recorder::start().expect("a free port");
    let mut stream = TcpStream::connect(recorder.addr())
        .await
        .expect("it listens");
    let two =
        b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(two).await.expect("it reads");
    let mut answers = [0; 2 * 40];
    let read = stream.read_exact(&mut answers);
    timeout(DEADLINE, read)
        .await
        .expect("two answers")
        .expect("two answers");
    let nonsense = b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\nleft";
    stream.write_all(nonsense).await.expect("it reads");
    let all = recorder.wait_until(|connections| {
        connections
            .first()
            .is_some_and(|bytes| bytes.ends_with(b"left"))
    });
    timeout(DEADLINE, all).await.expect("recorded");
    assert_eq!(
        recorder.connections(),
        [[two.as_slice(), nonsense.as_slice()].concat()]
    );
}

#[tokio::test]
async fn a_body_without_a_stream_has_its_length() {
    let origin = origin();
    origin.reply(Reply::body("12345"));
    let request = Request::post("/")
        .body(Full::new(Bytes::from_static(b"x")))
        .expect("valid");
    let answer = client::http1(origin.addr(), request)
        .await
        .expect("answered");
    assert_eq!(
        answer
            .headers
            .get("content-length")
            .expect("a known length"),
        "5"
    );
    assert_eq!(origin.seen().first().expect("one request").body_bytes, 1);
}
