//! The upstream side.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::read_until;
use crate::http::codec::ErrorKind;
use crate::http::codec::Http1Sender;
use crate::http::codec::RequestBody;
use crate::net::NetStream;

fn run<F: Future<Output = ()>>(test: impl FnOnce(Http1Sender, UnixStream) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let (client, server) = UnixStream::pair().unwrap();
        test(
            Http1Sender::new(NetStream::Unix(client), usize::MAX),
            server,
        )
        .await;
    });
}

fn get() -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = "/a?b".parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", "h".parse().unwrap());
    request
}

/// One exchange: the request is expected, the response given; returns what the caller sees.
async fn exchange(sender: &mut Http1Sender, server: &mut UnixStream, response: &str) -> String {
    let answering = async {
        let head = read_until(server, "\r\n\r\n").await;
        assert_eq!(head, "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n");
        server.write_all(response.as_bytes()).await.unwrap();
    };
    let (sent, ()) = tokio::join!(sender.send(get(), None), answering);
    let response = sent.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body: Bytes = body.to_bytes();
    format!(
        "{status} {} {}",
        str::from_utf8(&body).unwrap(),
        trailers.len()
    )
}

#[test]
fn responses_of_every_framing_leave_a_ready_connection() {
    run(async |mut sender, mut server| {
        assert!(sender.is_ready());
        for (response, seen) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "200 ab 0"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "204  0"),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                "304  0",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: v\r\n\r\n",
                "200 a 1",
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
                "404  0",
            ),
        ] {
            assert_eq!(exchange(&mut sender, &mut server, response).await, seen);
            assert!(sender.is_ready(), "{response}");
        }
    });
}

#[test]
fn connections_that_may_not_go_on_are_not_ready() {
    for response in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nsurplus",
    ] {
        run(async |mut sender, mut server| {
            exchange(&mut sender, &mut server, response).await;
            assert!(!sender.is_ready(), "{response}");
        });
    }
}

#[test]
fn an_idle_connection_that_was_closed_or_spoke_is_not_ready() {
    run(async |sender, server| {
        drop(server);
        tokio::task::yield_now().await;
        assert!(!sender.is_ready());
    });
    run(async |sender, mut server| {
        server
            .write_all(b"HTTP/1.1 408 Timeout\r\n\r\n")
            .await
            .unwrap();
        tokio::task::yield_now().await;
        assert!(!sender.is_ready());
    });
}

#[test]
fn a_request_nothing_was_written_of_is_handed_back() {
    run(async |mut sender, server| {
        drop(server);
        let unsent = sender.send(get(), None).await.unwrap_err();
        assert!(unsent.request.is_some(), "{:?}", unsent.error);
        assert!(!sender.is_ready());
    });
}

#[test]
fn a_request_that_was_written_is_not() {
    run(async |mut sender, mut server| {
        let closing = async {
            read_until(&mut server, "\r\n\r\n").await;
            drop(server);
        };
        let (sent, ()) = tokio::join!(sender.send(get(), None), closing);
        let unsent = sent.unwrap_err();
        assert!(unsent.request.is_none());
        assert_eq!(unsent.error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn bytes_that_are_no_response_are_a_protocol_error() {
    for response in [
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "SSH-2.0-x\r\n",
    ] {
        run(async |mut sender, mut server| {
            server.write_all(response.as_bytes()).await.unwrap();
            let unsent = sender.send(get(), None).await.unwrap_err();
            assert_eq!(unsent.error.kind(), ErrorKind::Protocol, "{response}");
            assert!(!sender.is_ready());
        });
    }
}

#[test]
fn a_body_cut_short_is_an_error_and_one_until_the_end_is_not() {
    run(async |mut sender, mut server| {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab";
        server.write_all(response.as_bytes()).await.unwrap();
        let response = sender.send(get(), None).await.unwrap();
        read_until(&mut server, "\r\n\r\n").await; // else closing would reset
        drop(server);
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
    run(async |mut sender, mut server| {
        server
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nab")
            .await
            .unwrap();
        let response = sender.send(get(), None).await.unwrap();
        read_until(&mut server, "\r\n\r\n").await; // else closing would reset
        drop(server);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ab");
        assert!(!sender.is_ready());
    });
}
