//! A control plane that talks nonsense, and clients of ours that do: no harm, and no memory of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use control_plane::subscription::Variant;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use xds_proto::pb::google::protobuf::Any;

use crate::support::panics;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::streams::Connection;
use crate::support::streams::Counted;
use crate::support::traffic::Traffic;
use crate::support::world::World;

/// Connections a client must try before its perseverance is believed.
const TRIES: u64 = 2;

/// Answers that must come while the control plane talks nonsense.
const ANSWERS: u64 = 100;

/// What a fake control plane does with a connection.
#[derive(Clone, Copy, Debug)]
enum Fake {
    /// Closes it.
    Close,
    /// Says nothing.
    Stall,
    /// Says this instead of HTTP/2.
    Say(&'static [u8]),
    /// Answers each stream with this status and these bytes, then ends it or leaves it open.
    Answer(u16, fn() -> Vec<u8>, End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ends,
    Stays,
}

/// What control planes must not do, and what each looks like.
const FAKES: [(&str, Fake); 14] = [
    ("it closes", Fake::Close),
    ("it stalls", Fake::Stall),
    (
        "it speaks HTTP/1.1",
        Fake::Say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
    ),
    ("it speaks TLS", Fake::Say(b"\x15\x03\x01\x00\x02\x02\x46")),
    ("it sends garbage", Fake::Say(&[0xff; 4096])),
    (
        "it has no such page",
        Fake::Answer(404, Vec::new, End::Ends),
    ),
    (
        "it is out of order",
        Fake::Answer(503, || b"no healthy upstream".to_vec(), End::Ends),
    ),
    (
        "its streams end at once",
        Fake::Answer(200, Vec::new, End::Ends),
    ),
    ("its streams stall", Fake::Answer(200, Vec::new, End::Stays)),
    (
        "a message is cut",
        Fake::Answer(200, || vec![0, 0, 0, 1, 0, 1, 2, 3], End::Ends),
    ),
    (
        "a message is announced with 1 GiB",
        Fake::Answer(
            200,
            || [&[0, 0x40, 0, 0, 0][..], &[1; 65_536]].concat(),
            End::Stays,
        ),
    ),
    (
        "a message is no message",
        Fake::Answer(200, || frame(&[0xff; 100]), End::Stays),
    ),
    (
        "a message is compressed by nothing",
        Fake::Answer(200, || vec![1, 0, 0, 0, 2, 1, 2], End::Stays),
    ),
    (
        "a message is of a type nobody asked for",
        Fake::Answer(200, unasked, End::Ends),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_talks_nonsense_by_delta_does_no_harm() {
    Box::pin(nonsense(Variant::Delta)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_talks_nonsense_by_sotw_does_no_harm() {
    Box::pin(nonsense(Variant::Sotw)).await;
}

async fn nonsense(variant: Variant) {
    panics::watch();
    let mut world = World::new(51, false);
    let control_plane = ControlPlane::start().await;
    let addr = control_plane.addr;
    control_plane
        .handle
        .commit("", &world.resources())
        .expect("valid");
    let proxy = Proxy::by_ads(addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;
    control_plane.stop().await;
    for (what, fake) in FAKES {
        let mut server = FakeServer::start(addr, fake).await;
        // Who waits for an answer does not come again.
        let tries = if matches!(fake, Fake::Stall | Fake::Answer(200, _, End::Stays)) {
            1
        } else {
            TRIES
        };
        let came = soon(what, server.tries.wait_for(|count| *count >= tries)).await;
        came.expect("the server lives");
        traffic.more(ANSWERS).await;
        server.stop().await;
    }
    let control_plane = ControlPlane::start_on(addr).await;
    world.step();
    let generation = world.mark();
    control_plane
        .handle
        .commit("", &world.resources())
        .expect("valid");
    traffic.sees(generation).await;
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    assert_eq!(panics::seen(), Vec::<String>::new());
    proxy.stop().await;
    control_plane.stop().await;
}

/// Bodies of a discovery stream that no server can take, and whether the server must end the stream.
fn requests() -> Vec<(&'static str, Vec<Bytes>)> {
    let announced = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
    let oversized = [announced(64 << 20), vec![1; 256 << 10]].concat();
    vec![
        ("a message announced with 64 MiB", vec![oversized.into()]),
        (
            "a message announced with 4 GiB",
            vec![announced(u32::MAX).into()],
        ),
        (
            "a cut message",
            vec![[announced(100), vec![1; 10]].concat().into()],
        ),
        ("a cut prefix", vec![Bytes::from_static(&[0, 0, 0])]),
        ("a message that is none", vec![frame(&[0xff; 64]).into()]),
        (
            "a compressed message",
            vec![Bytes::from_static(&[1, 0, 0, 0, 2, 1, 2])],
        ),
        (
            "an unknown flag",
            vec![Bytes::from_static(&[7, 0, 0, 0, 2, 1, 2])],
        ),
        ("nothing", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_talk_nonsense_do_a_control_plane_no_harm() {
    panics::watch();
    let mut world = World::new(52, false);
    let control_plane = ControlPlane::start().await;
    control_plane
        .handle
        .commit("", &world.resources())
        .expect("valid");
    let proxy = Proxy::by_ads(control_plane.addr, Variant::Delta).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    for method in [
        "StreamAggregatedResources",
        "DeltaAggregatedResources",
        "NoSuchMethod",
    ] {
        for (what, chunks) in requests() {
            let status = Box::pin(grpc_status(control_plane.addr, method, chunks)).await;
            let is_refused = status.as_deref() != Some("0");
            assert!(
                is_refused || what == "nothing",
                "{method}, {what}: {status:?}"
            );
        }
    }
    world.step();
    let generation = world.mark();
    control_plane
        .handle
        .commit("", &world.resources())
        .expect("valid");
    traffic.sees(generation).await;
    assert_eq!(
        control_plane.handle.clients().len(),
        1,
        "only the proxy is left"
    );
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    assert_eq!(panics::seen(), Vec::<String>::new());
    proxy.stop().await;
    control_plane.stop().await;
}

/// What the server says at the end of a stream of these bytes.
async fn grpc_status(target: SocketAddr, method: &str, chunks: Vec<Bytes>) -> Option<String> {
    let mut connection = Connection::open(target, true).await;
    let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = request
        .body(Counted::of(chunks.into_iter()))
        .expect("valid");
    // A connection that the server cuts is a refusal, too.
    let response = soon("an answer", connection.send(request)).await.ok()?;
    let status = |fields: &HeaderMap| Some(fields.get("grpc-status")?.to_str().ok()?.to_owned());
    let at_once = status(response.headers());
    let body = soon("the end of the stream", response.into_body().collect())
        .await
        .ok()?;
    at_once.or_else(|| status(body.trailers()?))
}

/// A gRPC message.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// The same bytes mean this to either variant: both have the type in field 4.
fn unasked() -> Vec<u8> {
    let type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned();
    let any = Any {
        type_url: type_url.clone(),
        value: vec![0xff; 10],
    };
    let sotw = DiscoveryResponse {
        type_url,
        resources: vec![any],
        nonce: "1".to_owned(),
        ..Default::default()
    };
    let bytes = sotw.encode_to_vec();
    assert!(
        DeltaDiscoveryResponse::decode(&*bytes).is_ok()
            || DiscoveryResponse::decode(&*bytes).is_ok()
    );
    frame(&bytes)
}

/// A fake on the control plane's port.
struct FakeServer {
    /// Connections, or streams where it speaks HTTP/2.
    tries: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl FakeServer {
    async fn start(addr: SocketAddr, fake: Fake) -> Self {
        let listener = TcpListener::bind(addr)
            .await
            .expect("the port is free again");
        let (count, tries) = watch::channel(0);
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let task = tokio::spawn(async move {
            let count = Arc::new(count);
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    _ = stopped.changed() => return,
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.expect("it listens");
                        connections.spawn(serve(stream, fake, Arc::clone(&count)));
                    }
                }
            }
        });
        Self { tries, stop, task }
    }

    /// Closes everything.
    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("it did not panic");
    }
}

async fn serve(mut stream: TcpStream, fake: Fake, count: Arc<watch::Sender<u64>>) {
    let one_more = || count.send_modify(|count| *count += 1);
    match fake {
        Fake::Close => one_more(),
        Fake::Stall => {
            one_more();
            std::future::pending::<()>().await;
        }
        Fake::Say(bytes) => {
            one_more();
            let _ = stream.write_all(bytes).await; // the client may have gone
            let _ = stream.shutdown().await;
        }
        Fake::Answer(status, bytes, end) => {
            let service = service_fn(move |request: Request<Incoming>| {
                count.send_modify(|count| *count += 1);
                async move { Ok::<_, Infallible>(answer(request, status, bytes(), end)) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await; // the client may have gone
        }
    }
}

fn answer(request: Request<Incoming>, status: u16, bytes: Vec<u8>, end: End) -> Response<Counted> {
    let first = Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty());
    let mut body = Counted::of(first.into_iter());
    if end == End::Stays {
        body = body.staying(request);
    }
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
