//! Both sides against each other, and against a bare h2 peer where the other side has to misbehave.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::cluster::Http2Options;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::Http2Sender;
use crate::http::codec::Incoming;
use crate::http::codec::IoFacts;
use crate::http::codec::Peer;
use crate::http::codec::Progress;
use crate::http::codec::RequestBody;
use crate::http::codec::ServerIo;
use crate::http::codec::ServerOptions;
use crate::http::codec::Switch;
use crate::http::codec::connect_http2;
use crate::http::http2::server::Serving;
use crate::net::NetStream;
use crate::overload::held::OfConnection;

/// A response body that says what it is told to.
type TestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Error>;

fn full(bytes: impl Into<Bytes>) -> TestBody {
    let never = |never: Infallible| match never {};
    let body = http_body_util::Full::new(bytes.into());
    body.map_err(never).boxed_unsync()
}

fn pair() -> (NetStream, NetStream) {
    let (a, b) = UnixStream::pair().unwrap();
    (NetStream::Unix(a), NetStream::Unix(b))
}

fn options() -> ServerOptions {
    ServerOptions {
        head_bytes_max: 16 * 1024,
        header_count_max: 100,
        http2: Http2Options::default(),
        read_bytes_max: usize::MAX,
    }
}

/// A body that takes over nothing.
struct Plain<B>(B);

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Plain<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Held for Plain<B> {}

impl<B> Switch for Plain<B> {
    fn begin(&mut self, _: Vec<u8>) {}

    fn poll_switched(&mut self, _: &mut dyn Peer, _: bool, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn moved(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// Serves one end with `service` until the other is gone.
fn serve<F, Fut, B>(stream: NetStream, service: F)
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<B>> + 'static,
    B: Held + 'static,
{
    let io = ServerIo::new(stream, Vec::new(), Rc::new(IoFacts::default()));
    let service = move |request| {
        let answer = service(request);
        async move { answer.await.map(Plain) }
    };
    let serving = Serving::new(io, &options(), service);
    tokio::task::spawn_local(async move {
        let _ = serving.await; // the end of the test is an end for it, too
    });
}

async fn connect(stream: NetStream, options: &Http2Options) -> Http2Sender {
    let (sender, _, connection) = connect_http2(stream, options).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

fn request(body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = "http://h/".parse().unwrap();
    *request.version_mut() = http::Version::HTTP_2;
    request
}

fn relayed(body: Incoming) -> RequestBody {
    let progress = Progress::new(Instant::now(), &OfConnection::alone());
    RequestBody::relay(body, Rc::new(progress))
}

fn local(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true);
    let runtime = runtime
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn heads_bodies_and_trailers_arrive_both_ways() {
    local(async {
        let (front, client) = pair();
        serve(front, |request| async {
            let body = request.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap_or_default();
            let echo = http_body_util::StreamBody::new(tokio_stream::iter([
                Ok(Frame::data(body.to_bytes())),
                Ok(Frame::trailers(trailers)),
            ]));
            Response::new(echo.boxed_unsync())
        });
        let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
        tokio::task::spawn_local(connection);
        let head = request(RequestBody::empty()).map(|_| ());
        let (response, mut stream) = sender.send_request(head, false).unwrap();
        stream
            .send_data(Bytes::from_static(b"body"), false)
            .unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let response = response.await.unwrap();
        assert!(response.headers().contains_key("date"));
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "body");
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-end"], "1");
    });
}

#[test]
fn a_length_is_said_and_fields_of_connections_are_not() {
    local(async {
        let (front, client) = pair();
        serve(front, |_| async {
            let mut response = Response::new(full("four"));
            let headers = response.headers_mut();
            headers.insert("connection", "x".parse().unwrap());
            headers.insert("keep-alive", "5".parse().unwrap());
            response
        });
        let mut sender = connect(client, &Http2Options::default()).await;
        let response = sender.send(request(RequestBody::empty())).await.unwrap();
        assert_eq!(response.headers()["content-length"], "4");
        assert!(!response.headers().contains_key("connection"));
        assert!(!response.headers().contains_key("keep-alive"));
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "four");
    });
}

/// An upload of more than all windows together goes on while nobody reads the response.
#[test]
fn a_request_is_sent_on_while_its_response_is_not_read() {
    const LEN: usize = 4 * 1024 * 1024;
    local(async {
        let (front, middle_front) = pair();
        let (middle_back, back) = pair();
        let taken = Rc::new(Cell::new(0));
        let (count, done) = (Rc::clone(&taken), Rc::new(Notify::new()));
        let at_end = Rc::clone(&done);
        serve(back, move |request| {
            let (count, at_end) = (Rc::clone(&count), Rc::clone(&at_end));
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    let len = frame.unwrap().into_data().map_or(0, |data| data.len());
                    count.set(count.get() + len);
                }
                at_end.notify_one();
            });
            async { Response::new(full(vec![0; 1024 * 1024])) }
        });
        let sender = connect(middle_back, &Http2Options::default()).await;
        serve(middle_front, move |request| {
            let mut sender = sender.clone();
            async move {
                let upstream = self::request(relayed(request.into_body()));
                sender.send(upstream).await.unwrap()
            }
        });
        let (mut client, connection) = h2::client::handshake(front).await.unwrap();
        tokio::task::spawn_local(connection);
        let head = request(RequestBody::empty()).map(|_| ());
        let (response, mut stream) = client.send_request(head, false).unwrap();
        let _unread = response.await.unwrap();
        let mut left = LEN;
        while left > 0 {
            stream.reserve_capacity(left);
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let len = room.unwrap().unwrap().min(left);
            left -= len;
            stream
                .send_data(Bytes::from(vec![0; len]), left == 0)
                .unwrap();
        }
        done.notified().await;
        assert_eq!(taken.get(), LEN);
    });
}

/// A body that never says anything and tells when it is dropped.
struct Silent(Rc<Notify>);

impl Body for Silent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Pending
    }
}

impl Held for Silent {}

/// One that is sent on as it comes.
impl Held for Incoming {}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[test]
fn a_client_that_resets_ends_the_answer_before_and_after_its_head() {
    local(async {
        for is_answered in [false, true] {
            let (front, client) = pair();
            let dropped = Rc::new(Notify::new());
            let told = Rc::clone(&dropped);
            serve(front, move |_| {
                let body = Silent(Rc::clone(&told));
                async move {
                    if !is_answered {
                        std::future::pending::<()>().await;
                    }
                    Response::new(body)
                }
            });
            let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
            tokio::task::spawn_local(connection);
            let head = request(RequestBody::empty()).map(|_| ());
            let (response, mut stream) = sender.send_request(head, false).unwrap();
            if is_answered {
                response.await.unwrap();
            }
            stream.send_reset(h2::Reason::CANCEL);
            dropped.notified().await;
        }
    });
}

#[test]
fn a_response_cut_off_by_a_reset_is_no_whole_response() {
    local(async {
        let (server, client) = pair();
        tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(server).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream
                    .send_data(Bytes::from_static(b"half"), false)
                    .unwrap();
                stream.send_reset(h2::Reason::CANCEL);
            }
        });
        let mut sender = connect(client, &Http2Options::default()).await;
        let error = match sender.send(request(RequestBody::empty())).await {
            Ok(response) => response.into_body().collect().await.unwrap_err(),
            Err(unsent) => unsent.error, // the reset may overtake the head
        };
        assert_eq!(error.kind(), ErrorKind::Reset);
    });
}

#[test]
fn a_connection_that_said_goodbye_takes_no_request_and_gives_it_back() {
    local(async {
        let (server, client) = pair();
        tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(server).await.unwrap();
            connection.graceful_shutdown();
            while let Some(Ok(_)) = connection.accept().await {}
        });
        let mut sender = connect(client, &Http2Options::default()).await;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(1)).await; // of the paused clock: both ends run
        }
        assert!(sender.is_closed());
        let unsent = sender
            .send(request(RequestBody::empty()))
            .await
            .unwrap_err();
        assert!(unsent.request.is_some());
    });
}

#[test]
fn a_peer_that_answers_no_ping_is_given_up() {
    local(async {
        let (_silent, client) = pair();
        let options = Http2Options {
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(10),
            ..Http2Options::default()
        };
        let (_sender, _, connection) = connect_http2(client, &options).await.unwrap();
        let began = Instant::now();
        let error = connection.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(began.elapsed().as_secs(), 40);
    });
}
