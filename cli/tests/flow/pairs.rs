//! Bodies through all four HTTP pairs: exactly, in bounded memory, no faster than they are read, and
//! no longer than they are wanted.
//!
//! The size of a streamed body is 64 MiB, and 1 GiB with `WEIR_FULL=1`, which wants `WEIR_BIN` to name
//! a release build.

use bench::origin::Origin;
use bench::origin::Reply;
use bench::pattern::Pattern;
use bench::pattern::checksum;
use bench::ports::ReservedPort;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use crate::support::PATIENCE;
use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::streams::Connection;
use crate::support::streams::Counted;
use crate::support::streams::StreamOrigin;

const MIB: u64 = 1024 * 1024;

/// How much the proxy may grow while a body of any size passes: windows and buffers of both sides.
const GROWTH_MAX: u64 = 12 * MIB;

/// How much may be on its way between an origin that sends and a client that does not read: the
/// socket buffers of four ends, which Linux lets grow to 6 MiB, and HTTP/2 windows.
const IN_TRANSIT_MAX: u64 = 40 * MIB;

/// Between two looks at the memory.
const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_millis(10);

/// HTTP/2 in front, HTTP/2 behind.
const PAIRS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn size() -> u64 {
    if std::env::var_os("WEIR_FULL").is_some() {
        1024 * MIB
    } else {
        64 * MIB
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_arrive_exactly_with_resident_memory_flat() {
    for (down, up) in PAIRS {
        Box::pin(stream_both_ways(down, up)).await;
    }
}

async fn stream_both_ways(is_http2_down: bool, is_http2_up: bool) {
    let pair = format!("HTTP/2 down: {is_http2_down}, up: {is_http2_up}");
    let bytes = size();
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::stream(MIB));
    let child = Child::proxy(origin.addr(), is_http2_up).await;
    let mut client = Connection::open(child.addr(), is_http2_down).await;
    let warm = exchange(&mut client, MIB).await;
    assert_eq!(warm, (MIB, checksum(MIB)));
    let before = child.process.memory().expect("it runs").rss;

    origin.reply(Reply::stream(bytes));
    let (stop, stopped) = oneshot::channel::<()>();
    let watched = async {
        let mut stopped = std::pin::pin!(stopped);
        let mut largest = before;
        while tokio::time::timeout(SAMPLE_EVERY, &mut stopped)
            .await
            .is_err()
        {
            largest = largest.max(child.process.memory().expect("it runs").rss);
        }
        largest
    };
    let streamed = async {
        let got = exchange(&mut client, bytes).await;
        drop(stop);
        got
    };
    let patience = PATIENCE * u32::try_from(bytes / (64 * MIB)).unwrap_or(1);
    let both = Box::pin(async { tokio::join!(watched, streamed) });
    let both = tokio::time::timeout(patience, both);
    let (largest, got) = both.await.expect("in time");
    let whole = (bytes, checksum(bytes));
    assert_eq!(got, whole, "{pair}: download");
    let seen = origin.seen();
    let seen = seen.last().expect("two requests");
    assert_eq!(
        (seen.body_bytes, seen.body_checksum),
        whole,
        "{pair}: upload"
    );
    assert_eq!(seen.version == "HTTP/2.0", is_http2_up, "{pair}");
    let growth = largest - before;
    assert!(
        growth <= GROWTH_MAX,
        "{pair}: {growth} bytes more than {before}"
    );
}

/// Length and checksum of the answer to a body of `bytes` bytes of the pattern.
async fn exchange(client: &mut Connection, bytes: u64) -> (u64, u64) {
    let request = Request::post("/")
        .body(Counted::of(Pattern::new(bytes)))
        .expect("valid");
    let mut response = client.send(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut sum = bench::pattern::Checksum::new();
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.expect("a whole body").into_data() {
            sum.update(&data);
        }
    }
    (sum.bytes(), sum.value())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pauses_stops_the_upstream_from_being_read() {
    for (down, up) in PAIRS {
        let mut rig = Rig::start(up).await;
        let mut client = rig.client(down).await;
        let mut response = client.send(get("/endless")).await.expect("an answer");
        response
            .body_mut()
            .frame()
            .await
            .expect("it goes on")
            .expect("a chunk");
        let paused = rig.origin.sent.settles("a pause of the origin").await;
        assert!(paused < IN_TRANSIT_MAX, "{down} {up}: {paused}");
        let mut read = 0;
        while read < paused + MIB {
            let frame = response
                .body_mut()
                .frame()
                .await
                .expect("it goes on")
                .expect("a chunk");
            read += frame.into_data().map_or(0, |data| data.len() as u64);
        }
        rig.origin
            .sent
            .reaches("more of the body", paused + MIB)
            .await;
        drop(response);
        client.abort();
        rig.origin
            .ended
            .reaches("the end of what nobody reads", 1)
            .await;
        rig.proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_pauses_stops_the_client_from_being_read() {
    for (down, up) in PAIRS {
        let mut rig = Rig::start(up).await;
        let mut client = rig.client(down).await;
        let body = Counted::endless();
        let mut sent = body.taken();
        let task = tokio::spawn(async move {
            let request = Request::post("/hang").body(body).expect("valid");
            let _ = client.send(request).await; // never answered
        });
        rig.origin.began.reaches("the request", 1).await;
        let paused = sent.settles("a pause of the client").await;
        assert!(paused < IN_TRANSIT_MAX, "{down} {up}: {paused}");
        task.abort();
        rig.proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_cancels_the_upstream() {
    for (down, up) in PAIRS {
        let mut rig = Rig::start(up).await;
        let mut client = rig.client(down).await;
        let task = tokio::spawn(async move {
            let _ = client.send(get("/hang")).await; // never answered
            client
        });
        rig.origin.began.reaches("the request", 1).await;
        task.abort();
        rig.origin
            .ended
            .reaches("the end of what nobody waits for", 1)
            .await;

        let mut client = rig.client(down).await;
        let mut response = client.send(get("/endless")).await.expect("an answer");
        response
            .body_mut()
            .frame()
            .await
            .expect("it goes on")
            .expect("a chunk");
        drop(response);
        client.abort();
        rig.origin
            .ended
            .reaches("the end of a body nobody wants", 2)
            .await;
        rig.proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_arrive_both_ways() {
    for (down, up) in PAIRS {
        let origin = Origin::start("origin").expect("a free port");
        let declared = Reply::stream(100_000)
            .with_header("trailer", "x-sum")
            .with_trailer("x-sum", "down");
        origin.reply(declared);
        let port = ReservedPort::new().expect("a free port");
        let proxy = Proxy::start(&bootstrap::fixed(port.number(), origin.addr(), up)).await;
        proxy.listens("main").await;
        let mut client = Connection::open(port.addr(), down).await;
        let trailers = HeaderMap::from_iter([(
            "x-sum".parse().expect("a name"),
            HeaderValue::from_static("up"),
        )]);
        let body = Counted::of(Pattern::new(100_000)).with_trailers(trailers);
        let request = Request::post("/")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .body(body);
        let response = soon("an answer", client.send(request.expect("valid")))
            .await
            .expect("an answer");
        let body = response.into_body().collect().await.expect("a whole body");
        let got = body.trailers().and_then(|fields| fields.get("x-sum"));
        assert_eq!(
            got,
            Some(&HeaderValue::from_static("down")),
            "HTTP/2 down: {down}, up: {up}"
        );
        let seen = origin.seen();
        let sent = &seen.first().expect("one request").trailers;
        assert_eq!(
            *sent,
            [("x-sum".to_owned(), "up".to_owned())],
            "HTTP/2 down: {down}, up: {up}"
        );
        proxy.stop().await;
    }
}

/// A proxy in this process before an origin that counts.
struct Rig {
    origin: StreamOrigin,
    proxy: Proxy,
    port: ReservedPort,
}

impl Rig {
    async fn start(is_http2_up: bool) -> Self {
        let origin = StreamOrigin::start().await;
        let port = ReservedPort::new().expect("a free port");
        let proxy = Proxy::start(&bootstrap::fixed(port.number(), origin.addr, is_http2_up)).await;
        proxy.listens("main").await;
        Self {
            origin,
            proxy,
            port,
        }
    }

    async fn client(&self, is_http2: bool) -> Connection {
        Connection::open(self.port.addr(), is_http2).await
    }
}

fn get(path: &str) -> Request<Counted> {
    Request::get(path).body(Counted::empty()).expect("valid")
}
