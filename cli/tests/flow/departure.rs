//! A host that leaves gets nothing new, and what runs on it has the drain time to end: streams of gRPC
//! end with UNAVAILABLE then, TCP is closed both ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::ports::ReservedPort;
use bytes::Bytes;
use control_plane::subscription::Variant;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::StreamBody;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::core::v3::HealthStatus;
use xds_proto::pb::google::protobuf::Any;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::resources;
use crate::support::resources::ClusterSpec;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

const STREAMS: usize = 500;

/// As many as one connection may have.
const PER_CONNECTION: usize = 100;

pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(3);

/// A gRPC server that sends one message on each stream and never ends it.
pub(crate) struct Streamer {
    pub(crate) addr: SocketAddr,
    began: Arc<AtomicU64>,
    last: Arc<Mutex<Instant>>,
    task: JoinHandle<()>,
}

impl Streamer {
    pub(crate) async fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_on(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let began = Arc::new(AtomicU64::new(0));
        let last = Arc::new(Mutex::new(Instant::now()));
        let counters = (Arc::clone(&began), Arc::clone(&last));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (began, last) = counters.clone();
                connections.spawn(async move {
                    let answer = service_fn(move |_| {
                        *last.lock().expect("no panic") = Instant::now();
                        began.fetch_add(1, Ordering::Relaxed);
                        async { Ok::<_, Infallible>(one_message()) }
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Whoever breaks the connection knows why.
                    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self {
            addr,
            began,
            last,
            task,
        }
    }

    pub(crate) fn began(&self) -> u64 {
        self.began.load(Ordering::Relaxed)
    }

    /// When the last stream began.
    pub(crate) fn last(&self) -> Instant {
        *self.last.lock().expect("no panic")
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Frames =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

fn one_message() -> Response<StreamBody<Frames>> {
    let message = Bytes::from_static(&[0, 0, 0, 0, 1, b'x']);
    let frames = tokio_stream::once(Ok(Frame::data(message))).chain(tokio_stream::pending());
    let frames: Frames = Box::pin(frames);
    let mut response = Response::new(StreamBody::new(frames));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// A client of HTTP/2 and the connection behind it.
pub(crate) async fn client(target: SocketAddr) -> http2::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(target).await.expect("it listens");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A stream that has had its message.
pub(crate) async fn stream(client: &mut http2::SendRequest<Empty<Bytes>>) -> hyper::body::Incoming {
    let request = Request::post("http://flow/s.S/Stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Empty::new())
        .expect("valid");
    client.ready().await.expect("an open connection");
    let response = client.send_request(request).await.expect("an answer");
    let mut body = response.into_body();
    let frame = body.frame().await.expect("a frame").expect("a message");
    assert_eq!(frame.data_ref().map(Bytes::len), Some(6));
    body
}

/// The status it ended with, and when.
pub(crate) async fn ended(mut body: hyper::body::Incoming) -> (String, Instant) {
    let frame = body.frame().await.expect("trailers").expect("no reset");
    let trailers = frame.into_trailers().expect("nothing but trailers");
    let status = trailers["grpc-status"].to_str().expect("a number");
    (status.to_owned(), Instant::now())
}

/// What the proxy needs to send everything to `members` of an EDS cluster.
fn resources(port: u16, members: &[SocketAddr], draining: &[SocketAddr]) -> Vec<Any> {
    let members: Vec<_> = members.iter().map(|addr| (*addr, 1)).collect();
    let spec = ClusterSpec {
        name: "c",
        members: &members,
        is_eds: true,
        is_http2: true,
        connect_seconds: 5,
    };
    let mut all = resources::cluster(spec);
    let mut assignment = resources::assignment("c", &members);
    for member in &mut assignment.endpoints[0].lb_endpoints {
        let is_draining = members.iter().any(|_| {
            let drains = draining
                .iter()
                .map(|addr| resources::assignment("", &[(*addr, 1)]));
            let mut drains = drains.map(|one| one.endpoints[0].lb_endpoints[0].clone());
            drains.any(|one| one.host_identifier == member.host_identifier)
        });
        if is_draining {
            member.health_status = HealthStatus::Draining.into();
        }
    }
    all[1] = pack(&assignment);
    let route = ("/".to_owned(), vec![("c".to_owned(), 1)]);
    let mut table = resources::table("t", &[route], 1);
    for route in &mut table.virtual_hosts[0].routes {
        forever(route);
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    all.push(resources::listener_inline("l", addr, table));
    all
}

/// Without the default timeout.
fn forever(route: &mut xds_proto::pb::envoy::config::route::v3::Route) {
    use xds_proto::pb::envoy::config::route::v3::route::Action;
    if let Some(Action::Route(action)) = &mut route.action {
        action.timeout = Some(xds_proto::pb::google::protobuf::Duration::default());
    }
}

/// A proxy that follows a control plane, and the port it listens on.
pub(crate) struct Scene {
    control_plane: ControlPlane,
    pub(crate) proxy: Proxy,
    pub(crate) port: ReservedPort,
}

impl Scene {
    pub(crate) async fn start(members: &[SocketAddr]) -> Self {
        let control_plane = ControlPlane::start().await;
        let port = ReservedPort::new().expect("a free port");
        let first = resources(port.number(), members, &[]);
        control_plane.handle.commit("", &first).expect("valid");
        let text = bootstrap::ads(control_plane.addr, Variant::Delta);
        let proxy = Proxy::with(&text, |options| options.drain_time = DRAIN_TIME).await;
        proxy.listens("l").await;
        Self {
            control_plane,
            proxy,
            port,
        }
    }

    pub(crate) fn commit(&self, members: &[SocketAddr], draining: &[SocketAddr]) {
        let next = resources(self.port.number(), members, draining);
        self.control_plane.handle.commit("", &next).expect("valid");
    }

    /// The hosts that leave, as the admin interface shows them.
    pub(crate) async fn departing(&self) -> Vec<Value> {
        departing(self.proxy.admin()).await
    }

    pub(crate) async fn stop(self) {
        self.proxy.stop().await;
        self.control_plane.stop().await;
    }
}

pub(crate) async fn departing(admin: SocketAddr) -> Vec<Value> {
    let answer = get(admin, "/clusters?format=json").await;
    let all: Value = serde_json::from_str(&answer).expect("an object");
    all["weir_departing"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

pub(crate) async fn get(admin: SocketAddr, path: &str) -> String {
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Empty::new()).expect("valid");
    let answer = bench::client::http1(admin, request).await;
    answer.expect("an answer").text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_have_until_the_deadline_and_no_new_one_joins_them() {
    let (old, new) = (Streamer::start().await, Streamer::start().await);
    let scene = Scene::start(&[old.addr]).await;
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..STREAMS / PER_CONNECTION {
        let mut client = client(scene.port.addr()).await;
        for _ in 0..PER_CONNECTION {
            streams.push(stream(&mut client).await);
        }
        clients.push(client);
    }
    assert_eq!(old.began(), STREAMS as u64);

    let removed = Instant::now();
    scene.commit(&[new.addr], &[]);
    let ends: Vec<_> = streams
        .into_iter()
        .map(|s| tokio::spawn(ended(s)))
        .collect();
    until("the old host to leave", async || {
        let all = scene.departing().await;
        all.iter()
            .any(|host| host["requests"] == STREAMS as u64 && host["cause"] == "removed")
            .then_some(())
    })
    .await;
    let mut late = client(scene.port.addr()).await;
    let mut kept = Vec::new();
    for _ in 0..PER_CONNECTION {
        kept.push(stream(&mut late).await);
    }
    assert_eq!(old.began(), STREAMS as u64, "nothing new");
    assert_eq!(new.began(), PER_CONNECTION as u64);

    let (mut first, mut last) = (None::<Duration>, Duration::ZERO);
    for end in ends {
        let (status, at) = soon("the end of a stream", end).await.expect("no panic");
        assert_eq!(status, "14");
        let took = at - removed;
        first = Some(first.map_or(took, |first| first.min(took)));
        last = last.max(took);
    }
    let times = format!("ended between {first:?} and {last:?} after their host left");
    assert!(first.is_some_and(|first| first >= DRAIN_TIME), "{times}");
    until("nothing left", async || {
        scene.departing().await.is_empty().then_some(())
    })
    .await;
    let stats = get(scene.proxy.admin(), "/stats?filter=c\\.").await;
    for line in [
        "cluster.c.drain.hosts_left: 1",
        "cluster.c.upstream_rq_drain_cut: 500",
    ] {
        assert!(stats.contains(line), "{line} in {stats}");
    }
    drop((kept, clients));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_draining_gets_nothing_new_and_may_come_back() {
    let (one, other) = (Streamer::start().await, Streamer::start().await);
    let both = [one.addr, other.addr];
    let scene = Scene::start(&both).await;
    let mut client = client(scene.port.addr()).await;
    let mut streams = Vec::new();
    until("streams on both", async || {
        streams.push(stream(&mut client).await);
        (one.began() > 0 && other.began() > 0).then_some(())
    })
    .await;
    scene.commit(&both, &[one.addr]);
    until("the host to drain", async || {
        let all = scene.departing().await;
        all.iter()
            .any(|host| host["cause"] == "draining")
            .then_some(())
    })
    .await;
    let before = one.began();
    for _ in 0..20 {
        streams.push(stream(&mut client).await);
    }
    assert_eq!(one.began(), before);
    scene.commit(&both, &[]);
    until("a stream on it again", async || {
        streams.push(stream(&mut client).await);
        (one.began() > before).then_some(())
    })
    .await;
    assert_eq!(scene.departing().await, Vec::<Value>::new());
    // Those of before still have to go, in whatever order they were begun; the others stay.
    let ends = streams.into_iter().map(ended).collect::<Vec<_>>();
    let (status, _) = soon("an end", first(ends)).await;
    assert_eq!(status, "14");
    drop(client);
    scene.stop().await;
}

async fn first<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send + 'static>) -> T {
    let mut set: JoinSet<T> = futures.into_iter().collect();
    set.join_next()
        .await
        .expect("there are some")
        .expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_tcp_is_closed_both_ways_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = listener.local_addr().expect("it is bound");
    let port = ReservedPort::new().expect("a free port");
    let text = bootstrap::tcp(port.number(), 0, origin);
    let proxy = Proxy::with(&text, |options| options.drain_time = DRAIN_TIME).await;
    proxy.listens("main").await;
    let mut client = TcpStream::connect(port.addr()).await.expect("it listens");
    let (mut behind, _) = listener.accept().await.expect("a connection");
    let began = Instant::now();
    let path = format!("/drain_endpoint?cluster=origin&address={origin}");
    let request = Request::post(path).header("host", "localhost");
    let request = request.body(Empty::new()).expect("valid");
    let answer = bench::client::http1(proxy.admin(), request)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200);
    client.write_all(b"still").await.expect("it is open");
    let mut buffer = [0; 5];
    behind.read_exact(&mut buffer).await.expect("it passes");
    let mut rest = [0; 1];
    let (up, down) = (client.read(&mut buffer), behind.read(&mut rest));
    let both = soon("both ends", async { tokio::join!(up, down) }).await;
    assert_eq!((both.0.expect("an end"), both.1.expect("an end")), (0, 0));
    assert!(began.elapsed() >= DRAIN_TIME);
    proxy.stop().await;
}

/// The command a person types, against a proxy of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_drained_and_taken_back_by_hand() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("whole"));
    let admin = ReservedPort::new().expect("a free port");
    let text = |port| {
        bootstrap::fixed(port, origin.addr(), false).replacen(
            "port_value: 0",
            &format!("port_value: {}", admin.number()),
            1,
        )
    };
    let child = Child::start(weir(), text).await;
    let ask = async || {
        let request = Request::get("/").header("host", "flow");
        let request = request.body(Empty::<Bytes>::new()).expect("valid");
        let answer = bench::client::http1(child.addr(), request).await;
        answer.expect("an answer").status.as_u16()
    };
    let run = async |command: &str, more: &[&str]| {
        let (admin, address) = (admin.addr().to_string(), origin.addr().to_string());
        let mut weir = weir();
        weir.args(["endpoint", command, &admin, "origin", &address]);
        weir.args(more);
        let ended = tokio::task::spawn_blocking(move || weir.output());
        let output = soon("the command", ended).await.expect("no panic");
        let output = output.expect("it was built");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        said
    };
    assert_eq!(ask().await, 200);
    let said = run("drain", &["--wait"]).await;
    assert!(said.contains("takes nothing new"), "{said}");
    assert!(said.contains("nothing runs on"), "{said}");
    assert_eq!(ask().await, 503);
    let left = departing(admin.addr()).await;
    assert_eq!(
        (left.len(), &left[0]["cause"]),
        (1, &Value::from("drained"))
    );
    let said = run("undrain", &[]).await;
    assert!(said.contains("takes requests again"), "{said}");
    assert_eq!(ask().await, 200);
    assert_eq!(departing(admin.addr()).await, Vec::<Value>::new());
}
