//! Nothing of a malformed request reaches an origin, and random bytes do no harm.

use bench::origin::Recorder;
use bench::ports::ReservedPort;
use bytes::Bytes;
use control_plane::subscription::Variant;
use fastrand::Rng;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;

use crate::support::bootstrap;
use crate::support::panics;
use crate::support::raw::Raw;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::Traffic;
use crate::support::world::World;

/// What an origin must never see: every malformed request has it.
const EVIL: &[u8] = b"evil";

/// Heads that are refused: what is wrong, and the bytes.
const HEADS: [(&str, &str); 34] = [
    (
        "bare CR in a value",
        "GET /evil HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
    ),
    ("bare CR as a line end", "GET /evil HTTP/1.1\rhost: a\r\r"),
    (
        "bare LF after the request line",
        "GET /evil HTTP/1.1\nhost: a\r\n\r\n",
    ),
    (
        "bare LF after a field",
        "GET /evil HTTP/1.1\r\nhost: a\nx: evil\r\n\r\n",
    ),
    (
        "bare LF at the end of the head",
        "GET /evil HTTP/1.1\r\nhost: a\r\n\n",
    ),
    (
        "a zero byte in a value",
        "GET /evil HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
    ),
    (
        "a zero byte in the target",
        "GET /evil\0 HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "both framings",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "both framings, the other way round",
        "POST /evil HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil",
    ),
    (
        "a list of lengths",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 5\r\n\r\nevil",
    ),
    (
        "a signed length",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nevil",
    ),
    (
        "a negative length",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: -4\r\n\r\nevil",
    ),
    (
        "a length in hexadecimal",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 0x4\r\n\r\nevil",
    ),
    (
        "an empty length",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\nevil",
    ),
    (
        "a length beyond 64 bits",
        "POST /evil HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\nevil",
    ),
    (
        "an unknown coding",
        "POST /evil HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST /evil HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked that is not",
        "POST /evil HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked on HTTP/1.0",
        "POST /evil HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("no host", "GET /evil HTTP/1.1\r\nx: y\r\n\r\n"),
    (
        "two hosts",
        "GET /evil HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ),
    (
        "the same host twice",
        "GET /evil HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    ),
    (
        "a host with a path",
        "GET /evil HTTP/1.1\r\nhost: a/b\r\n\r\n",
    ),
    (
        "a space before the colon",
        "GET /evil HTTP/1.1\r\nhost: a\r\ncontent-length : 4\r\n\r\nevil",
    ),
    (
        "a space in a name",
        "GET /evil HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    ),
    (
        "a folded line",
        "GET /evil HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
    ),
    (
        "a folded first line",
        "GET /evil HTTP/1.1\r\n host: a\r\n\r\n",
    ),
    (
        "an empty name",
        "GET /evil HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n",
    ),
    (
        "two spaces in the request line",
        "GET  /evil HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "a space in the target",
        "GET /evil evil HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "a tab in the request line",
        "GET\t/evil\tHTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    ("no version", "GET /evil\r\nhost: a\r\n\r\n"),
    (
        "a method that is none",
        "G(T /evil HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_nothing_of_them_reaches_an_origin() {
    let (recorder, port, proxy) = rig().await;
    for (what, head) in HEADS {
        let mut connection = Raw::open(port.addr()).await;
        connection
            .send(b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n")
            .await;
        let good = connection.read_to(b"\r\n\r\nok").await;
        assert!(
            good.starts_with(b"HTTP/1.1 200 "),
            "before {what}: {}",
            text(&good)
        );
        connection.send(head.as_bytes()).await;
        let answer = connection.read_all().await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400 "),
            "{what}: {}",
            text(&answer)
        );
        assert_eq!(count(&answer, b"HTTP/1.1 "), 1, "{what}: {}", text(&answer));

        let mut pipelined = Raw::open(port.addr()).await;
        pipelined
            .send(&[b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n", head.as_bytes()].concat())
            .await;
        let answers = pipelined.read_all().await;
        assert_eq!(
            count(&answers, b"HTTP/1.1 "),
            2,
            "{what}, pipelined: {}",
            text(&answers)
        );
        assert!(
            answers.starts_with(b"HTTP/1.1 200 "),
            "{what}, pipelined: {}",
            text(&answers)
        );
        assert_eq!(
            count(&answers, b"HTTP/1.1 400 "),
            1,
            "{what}, pipelined: {}",
            text(&answers)
        );
    }
    let seen = recorder.connections().concat();
    assert_eq!(count(&seen, EVIL), 0, "{}", text(&seen));
    assert_eq!(
        count(&seen, b"GET /good "),
        2 * HEADS.len(),
        "{}",
        text(&seen)
    );
    proxy.stop().await;
}

/// Bodies that break their framing: what is wrong, and what follows the head of a chunked request.
const CHUNKS: [(&str, &str); 8] = [
    ("a size that is none", "x\r\n"),
    ("a size with a sign", "+4\r\ngood\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "11111111111111111\r\n"),
    ("bare LF after a size", "4\ngood\r\n0\r\n\r\n"),
    ("data longer than its size", "4\r\ngoodevil\r\n0\r\n\r\n"),
    ("bare LF after data", "4\r\ngood\n0\r\n\r\n"),
    ("bare CR in an extension", "4;a\rb\r\ngood\r\n0\r\n\r\n"),
    (
        "a trailer with a space in its name",
        "4\r\ngood\r\n0\r\nx y: evil\r\n\r\n",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_its_framing_never_becomes_a_whole_request() {
    let (recorder, port, proxy) = rig().await;
    for (what, chunks) in CHUNKS {
        let mut connection = Raw::open(port.addr()).await;
        let head = "POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        connection
            .send(
                [head, chunks, "GET /evil HTTP/1.1\r\nhost: a\r\n\r\n"]
                    .concat()
                    .as_bytes(),
            )
            .await;
        let answer = connection.read_all().await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400 "),
            "{what}: {}",
            text(&answer)
        );
        assert_eq!(count(&answer, b"HTTP/1.1 "), 1, "{what}: {}", text(&answer));
    }
    let mut connection = Raw::open(port.addr()).await;
    connection
        .send(b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    connection.read_to(b"\r\n\r\nok").await;
    // Each was one request, counted once.
    let wanted = format!("http.main.downstream_rq_total: {}\n", CHUNKS.len() + 1);
    let stats = admin(&proxy, "/stats?filter=downstream_rq_total").await;
    assert!(stats.contains(&wanted), "{stats}");
    let seen = recorder.connections();
    assert_eq!(count(&seen.concat(), EVIL), 0, "{}", text(&seen.concat()));
    for connection in seen {
        assert_eq!(
            count(&connection, b"\r\n0\r\n"),
            0,
            "it ends: {}",
            text(&connection)
        );
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_every_port_do_no_harm() {
    panics::watch();
    let mut world = World::new(31, false);
    let control_plane = ControlPlane::start().await;
    control_plane
        .handle
        .commit("", &world.resources())
        .expect("valid");
    let proxy = Proxy::by_ads(control_plane.addr, Variant::Delta).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    let mut rng = Rng::with_seed(31);
    for _ in 0..50 {
        for target in [world.addr(), proxy.admin(), control_plane.addr] {
            let mut connection = Raw::open(target).await;
            connection.send(&noise(&mut rng)).await;
            if rng.bool() {
                connection.finish().await;
                connection.read_all().await;
            }
        }
    }
    let ready = admin(&proxy, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
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

/// Bytes that are nothing, or begin like something.
fn noise(rng: &mut Rng) -> Vec<u8> {
    const BEGINNINGS: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // The preface and empty settings.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let mut bytes = BEGINNINGS[rng.usize(0..BEGINNINGS.len())].to_vec();
    let length = rng.usize(1..3_000);
    bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
    bytes
}

/// A stream that is refused is no reason to end the streams beside it, nor those to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_malformed_request_ends_its_stream_alone() {
    let (_recorder, port, proxy) = rig().await;
    let stream = tokio::net::TcpStream::connect(port.addr()).await;
    let stream = TokioIo::new(stream.expect("it listens"));
    let shaken = http2::handshake(TokioExecutor::new(), stream).await;
    let (mut sender, connection) = shaken.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    // In turn, so that a connection that wants to end has the time.
    for _ in 0..20 {
        for (target, expected) in [("/nobody", 400), ("http://a/good", 200)] {
            let request = Request::get(target).body(Empty::<Bytes>::new());
            let answer = sender.send_request(request.expect("it is valid")).await;
            let answer = answer.expect("the connection goes on");
            assert_eq!(answer.status(), expected, "{target}");
            let body = answer.into_body().collect().await;
            body.expect("the connection goes on");
        }
    }
    drop(sender);
    let ended = connection.await.expect("it does not panic");
    ended.expect("it ends because we want it to");
    proxy.stop().await;
}

async fn rig() -> (Recorder, ReservedPort, Proxy) {
    let recorder = Recorder::start().expect("a free port");
    let port = ReservedPort::new().expect("a free port");
    let proxy = Proxy::start(&bootstrap::fixed(port.number(), recorder.addr(), false)).await;
    proxy.listens("main").await;
    (recorder, port, proxy)
}

async fn admin(proxy: &Proxy, path: &str) -> String {
    let mut connection = Raw::open(proxy.admin()).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    connection.send(request.as_bytes()).await;
    text(&connection.read_all().await)
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .filter(|window| *window == part)
        .count()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
