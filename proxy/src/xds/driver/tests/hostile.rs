//! Control planes that do not behave: the client survives, and goes on to one that does.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::rig::Client;
use super::rig::ControlPlane;
use super::rig::config;
use super::rig::soon;
use super::rig::target;
use crate::config::limits::XDS_MESSAGE_BYTES_MAX;
use crate::xds::client::Target;
use crate::xds::resource::ResourceType;
use crate::xds::session::Variant;

const CDS: ResourceType = ResourceType::Cluster;
const LDS: ResourceType = ResourceType::Listener;

/// A server that does the same to every connection; dropping the set ends it.
async fn server<F, Fut>(handle: F) -> (Target, JoinSet<()>)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(handle(stream));
        }
    });
    (target, tasks)
}

/// A gRPC server whose response stream is these bytes, then an OK status.
async fn grpc(body: Bytes) -> (Target, JoinSet<()>) {
    let (seen, _) = mpsc::channel(1);
    grpc_seen(body, seen).await
}

/// The same; each connection is announced.
async fn grpc_seen(body: Bytes, seen: mpsc::Sender<()>) -> (Target, JoinSet<()>) {
    server(move |stream| {
        let body = body.clone();
        let _ = seen.try_send(());
        async move {
            let respond = service_fn(move |_| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let body = Full::new(body.clone()).with_trailers(async move { Some(Ok(trailers)) });
                let response = Response::builder().header("content-type", "application/grpc");
                async move { Ok::<_, Infallible>(response.body(body).unwrap()) }
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), respond).await;
        }
    })
    .await
}

/// The client leaves the bad server for the good one, and works.
async fn check_survives(variant: Variant, bad: Target) -> Client {
    let mut good = ControlPlane::start().await;
    let mut client = Client::start(config(variant, vec![bad, good.target.clone()]));
    match variant {
        Variant::Sotw => {
            let mut stream = good.sotw().await;
            stream.expect(CDS).await;
            stream.expect(LDS).await;
            stream.send(LDS, "1", &[]).await;
            stream.expect_ack(LDS, "1").await;
        }
        Variant::Delta => {
            let mut stream = good.delta().await;
            stream.expect(CDS).await;
            stream.expect(LDS).await;
            stream.send(LDS, "1", &[]).await;
            assert_eq!(stream.expect(LDS).await.response_nonce, "1");
        }
    }
    let failures = client.status.facts().types[&CDS].clone();
    assert!(failures.update_failure >= 1, "{failures:?}");
    assert!(client.changes.try_recv().is_err());
    client
}

async fn check_both(bad: Target) {
    check_survives(Variant::Sotw, bad.clone()).await;
    check_survives(Variant::Delta, bad).await;
}

fn frame(length: usize, content: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(length).unwrap().to_be_bytes());
    frame.extend(content);
    frame.into()
}

#[tokio::test]
async fn b11_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    check_both(target(address)).await;
    check_survives(Variant::Sotw, Target::Unix("/nonexistent/xds.sock".into())).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once() {
    let (bad, _tasks) = server(|stream| async move { drop(stream) }).await;
    check_both(bad).await;
}

#[tokio::test]
async fn something_that_is_not_http2() {
    let (bad, _tasks) = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.write_all(&[0xff; 4096]).await;
    })
    .await;
    check_both(bad).await;
}

#[tokio::test]
async fn a_message_that_is_not_protobuf() {
    let (bad, _tasks) = grpc(frame(64, &[0xff; 64])).await;
    check_both(bad).await;
}

#[tokio::test]
async fn a_message_that_is_cut_short() {
    let (bad, _tasks) = grpc(frame(64, &[0x0a; 10])).await;
    check_both(bad).await;
}

#[tokio::test]
async fn a_message_that_is_too_large() {
    let (bad, _tasks) = grpc(frame(XDS_MESSAGE_BYTES_MAX + 1, &[0; 1024])).await;
    let client = check_survives(Variant::Sotw, bad).await;
    let error = client.status.facts().types[&CDS].last_error.clone();
    assert!(error.unwrap().contains("message length"), "it says why");
}

#[tokio::test]
async fn a_response_without_type_or_content() {
    // An empty message is a valid DiscoveryResponse of no type.
    let (seen_tx, mut seen) = mpsc::channel(1);
    let (bad, _tasks) = grpc_seen(frame(0, &[]), seen_tx).await;
    let client = Client::start(config(Variant::Sotw, vec![bad]));
    // It answers and ends in order, so the client comes back to it again and again.
    for _ in 0..3 {
        soon("a connection", seen.recv()).await.unwrap();
    }
    assert!(!client.task.is_finished());
    assert_eq!(
        client.status.facts().types.get(&CDS),
        None,
        "nothing happened"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left_after_the_keepalive() {
    let (silent, _tasks) = server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let next = target(listener.local_addr().unwrap());
    let client = Client::start(config(Variant::Sotw, vec![silent, next]));
    let started = tokio::time::Instant::now();
    let (stream, _) = listener.accept().await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(60),
        "{took:?}"
    );
    let error = client.status.facts().types[&CDS]
        .last_error
        .clone()
        .unwrap();
    assert!(error.contains("keep-alive"), "{error}");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn c8_b11_it_tries_for_ever_without_spinning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = config(Variant::Sotw, vec![target(address)]);
    if let Some(ads) = &mut config.ads {
        ads.backoff_base = Duration::from_millis(500);
        ads.backoff_max = Duration::from_secs(30);
    }
    let client = Client::start(config);
    // Virtual time.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let attempts = client.status.facts().types[&CDS].update_failure;
    // Full jitter up to 30 s is 15 s on average.
    assert!((150..400).contains(&attempts), "{attempts}");
    assert!(!client.task.is_finished());
    assert!(
        client.status.is_initialized(),
        "C-77: it starts with what it has"
    );
}
