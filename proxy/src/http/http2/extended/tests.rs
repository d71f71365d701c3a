//! What goes to a server, against a bare h2 peer.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server;
use h2::server::SendResponse;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::stream::Http2Stream;
use crate::config::cluster::Http2Options;
use crate::http::codec::ErrorKind;
use crate::http::codec::Fate;
use crate::http::codec::Http2Sender;
use crate::http::codec::Http2Settings;
use crate::http::codec::Peer;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::http::codec::connect_http2;
use crate::net::NetStream;

/// The key of RFC 6455, and what accepts it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection of ours that runs, and the far end of it.
async fn open() -> (Http2Sender, Rc<Http2Settings>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connected = connect_http2(NetStream::Unix(ours), &Http2Options::default()).await;
    let (sender, settings, connection) = connected.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await; // what failed is told by the streams
    });
    (sender, settings, theirs)
}

/// The server's end of a stream.
type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A server that takes one stream and goes on with its connection.
async fn serve(stream: UnixStream, announces: bool) -> Option<Asked> {
    let mut builder = server::Builder::new();
    if announces {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let asked = connection.accept().await?.ok()?;
    tokio::task::spawn_local(async move { while connection.accept().await.is_some() {} });
    Some(asked)
}

fn request(kind: &'static str) -> Request<RequestBody> {
    Request::get("http://h/chat")
        .version(http::Version::HTTP_2)
        .header("connection", "upgrade")
        .header("upgrade", kind)
        .header("sec-websocket-key", KEY)
        .body(RequestBody::empty())
        .unwrap()
}

/// What comes of a request, and what a server that answers with `status` was asked.
async fn ask(kind: &'static str, status: u16) -> (Sent, Request<RecvStream>, SendStream) {
    let (mut sender, settings, theirs) = open().await;
    let asking = sender.extend(&settings, request(kind));
    let serving = async {
        let (request, mut respond) = serve(theirs, true).await.unwrap();
        let head = Response::builder().status(status).body(());
        let stream = respond.send_response(head.unwrap(), false).unwrap();
        (request, stream)
    };
    let (sent, (request, stream)) = tokio::join!(asking, serving);
    (sent, request, stream)
}

type SendStream = h2::SendStream<Bytes>;

fn switched(sent: Sent) -> Box<Http2Stream> {
    sent.unwrap().into_body().into_switched().unwrap()
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    runtime.unwrap().block_on(test);
}

#[test]
fn a_server_is_asked_by_an_extended_connect_and_its_200_is_told_as_101() {
    local(async {
        let (sent, asked, _stream) = ask("websocket", 200).await;
        let protocol = asked.extensions().get::<Protocol>().map(Protocol::as_str);
        assert_eq!(protocol, Some("websocket"));
        assert_eq!(asked.method(), Method::CONNECT);
        assert_eq!(asked.uri(), "http://h/chat");
        assert_eq!(asked.headers().len(), 1, "{:?}", asked.headers());
        assert_eq!(asked.headers()["sec-websocket-key"], KEY);

        let answer = sent.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers();
        let field = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        assert_eq!(field("upgrade"), Some(&b"websocket"[..]));
        assert_eq!(field("connection"), Some(&b"upgrade"[..]));
        assert_eq!(field("sec-websocket-accept"), Some(ACCEPT.as_bytes()));
    });
}

#[test]
fn a_key_is_accepted_of_websockets_only() {
    local(async {
        let (sent, asked, _stream) = ask("other", 200).await;
        let protocol = asked.extensions().get::<Protocol>().map(Protocol::as_str);
        assert_eq!(protocol, Some("other"));
        let headers = sent.unwrap().into_parts().0.headers;
        assert_eq!(headers["upgrade"], "other");
        assert!(!headers.contains_key("sec-websocket-accept"));
    });
}

#[test]
fn any_other_answer_is_a_response() {
    local(async {
        let (sent, _asked, mut stream) = ask("websocket", 201).await;
        stream.send_data(Bytes::new(), true).unwrap();
        let answer = sent.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert!(!answer.headers().contains_key("upgrade"));
        assert!(answer.collect().await.unwrap().to_bytes().is_empty());
    });
}

#[test]
fn bytes_and_ends_pass_both_ways() {
    local(async {
        let (sent, asked, mut stream) = ask("other", 200).await;
        let mut incoming = asked.into_body();
        let mut ours = switched(sent);
        ours.write_all(b"up").await.unwrap();
        assert_eq!(incoming.data().await.unwrap().unwrap(), "up");
        ours.shutdown().await.unwrap();
        assert_eq!(incoming.data().await.unwrap().unwrap(), "");
        assert!(incoming.is_end_stream());
        assert!(ours.is_to_be_reset());
        stream.send_data(Bytes::from_static(b"down"), true).unwrap();
        let mut came = Vec::new();
        ours.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"down");
        assert_eq!(ours.fate(), Fate::Ended);
        assert!(!ours.is_to_be_reset());
    });
}

#[test]
fn what_was_written_is_sent_before_it_is_left() {
    local(async {
        for size in [10, 60_000] {
            let (sent, asked, _stream) = ask("other", 200).await;
            let mut ours = switched(sent);
            ours.write_all(&vec![7; size]).await.unwrap();
            std::future::poll_fn(|cx| ours.poll_sent(cx)).await;
            drop(ours);
            let (mut incoming, mut came) = (asked.into_body(), 0);
            while let Some(Ok(data)) = incoming.data().await {
                came += data.len();
            }
            assert_eq!(came, size);
        }
    });
}

#[test]
fn one_that_is_left_is_reset_as_a_connection_would_be() {
    local(async {
        let (sent, asked, _stream) = ask("other", 200).await;
        drop(switched(sent));
        let error = asked.into_body().data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL)); // RFC 8441 section 5
    });
}

#[test]
fn it_is_known_how_a_server_has_ended_it() {
    local(async {
        for (reason, fate) in [
            (Reason::CANCEL, Fate::Reset),
            (Reason::CONNECT_ERROR, Fate::Severed),
            (Reason::INTERNAL_ERROR, Fate::Reset),
            (Reason::NO_ERROR, Fate::Reset),
            (Reason::PROTOCOL_ERROR, Fate::Malformed),
            (Reason::REFUSED_STREAM, Fate::Refused),
        ] {
            let (sent, asked, mut stream) = ask("other", 200).await;
            let mut reads = switched(sent);
            stream.send_reset(reason);
            assert!(reads.read_u8().await.is_err());
            assert_eq!(reads.fate(), fate, "{reason:?}, told who reads");
            drop(asked);

            let (sent, _asked, mut stream) = ask("other", 200).await;
            let mut waits = switched(sent);
            stream.send_reset(reason);
            std::future::poll_fn(|cx| waits.poll_gone(cx)).await;
            assert_eq!(waits.fate(), fate, "{reason:?}, told who waits");
            assert!(waits.write_all(b"more").await.is_err());
            assert_eq!(waits.fate(), fate, "{reason:?}, told who writes");
        }
    });
}

#[test]
fn a_lost_connection_is_no_reset() {
    local(async {
        let (mut sender, settings, theirs) = open().await;
        let asking = sender.extend(&settings, request("other"));
        let serving = async {
            let mut builder = server::Builder::new();
            builder.enable_connect_protocol();
            let mut connection = builder.handshake::<_, Bytes>(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let stream = respond.send_response(Response::new(()), false).unwrap();
            std::future::poll_fn(|cx| Poll::Ready(connection.poll_closed(cx).is_ready())).await;
            drop((connection, stream)); // the answer is out
        };
        let (sent, ()) = tokio::join!(asking, serving);
        let mut ours = switched(sent);
        assert!(ours.read_u8().await.is_err());
        assert_eq!(ours.fate(), Fate::Lost);
    });
}

#[test]
fn a_server_that_has_announced_nothing_is_asked_nothing() {
    local(async {
        let (mut sender, settings, theirs) = open().await;
        let asking = sender.extend(&settings, request("websocket"));
        let serving = tokio::task::spawn_local(serve(theirs, false));
        let unsent = asking.await.unwrap_err();
        assert_eq!(unsent.error.kind(), ErrorKind::Protocol);
        drop(sender);
        assert!(serving.await.unwrap().is_none());
    });
}

#[test]
fn settings_that_have_not_come_are_waited_for() {
    local(async {
        let (mut sender, settings, theirs) = open().await;
        let mut asking = pin!(sender.extend(&settings, request("other")));
        tokio::task::yield_now().await;
        let polled = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_ready()));
        assert!(!polled.await, "nobody has said anything");
        let serving = async {
            let (asked, mut respond) = serve(theirs, true).await.unwrap();
            respond.send_response(Response::new(()), false).unwrap();
            asked
        };
        let (sent, _asked) = tokio::join!(asking, serving);
        assert_eq!(sent.unwrap().status(), StatusCode::SWITCHING_PROTOCOLS);
    });
}

#[test]
fn a_request_is_given_back_if_they_never_come() {
    local(async {
        let (mut sender, settings, theirs) = open().await;
        let asking = sender.extend(&settings, request("other"));
        drop(theirs);
        let unsent = asking.await.unwrap_err();
        let request = unsent.request.unwrap();
        assert_eq!(request.headers()["upgrade"], "other");
    });
}
