//! A member whose checks are made on a connection that is kept is unfit as soon as its certificate is trusted
//! no more, as for everybody else (security case T8).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use proxy::telemetry::stats::Group;
use proxy::telemetry::stats::Reading;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::ended::acceptor;
use super::site;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// A server with TLS that answers everything, connections and answers counted.
struct Member {
    port: u16,
    connections: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
}

impl Member {
    async fn start(leaf: &Leaf) -> Self {
        let acceptor = acceptor(leaf);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let counts = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let [connections, answers] = counts.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), counts.clone()));
            }
        });
        Self {
            port,
            connections,
            answers,
        }
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    [connections, answers]: [Arc<AtomicUsize>; 2],
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    connections.fetch_add(1, Ordering::Relaxed);
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await?;
            stream.flush().await?;
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn healthy(weir: &Weir, wanted: i64) {
    let stats = weir.live().registry.cluster("secure");
    let mut fields = stats.fields().iter();
    let place = fields.position(|field| field.name == "membership_healthy");
    let so = until(|| async {
        let read = place.and_then(|place| stats.read(place));
        let is_so = matches!(read, Some(Reading::Gauge(value)) if value == wanted);
        is_so.then_some(()).ok_or_else(|| format!("not {wanted}"))
    });
    so.await.expect("its health becomes so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_member_that_is_trusted_no_more_is_found_unfit() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let leaf = root.issue("member");
    let member = Member::start(&leaf).await;
    let resources = |root: &Authority| -> Vec<Value> {
        let ads = site::ads();
        let tls = site::upstream(site::named("leaf", &ads), site::named("roots", &ads));
        let mut cluster = site::cluster("secure", member.port, Some(&tls));
        cluster["health_checks"] = json!([{
            "timeout": "2s", "interval": "0.05s", "no_traffic_interval": "0.05s",
            "unhealthy_threshold": 2, "healthy_threshold": 1, "http_health_check": {"path": "/"},
        }]);
        vec![cluster, leaf.secret("leaf"), trust("roots", &[root])]
    };
    let control_plane = ControlPlane::start().await;
    control_plane.commit("weir", &resources(&root));
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    healthy(&weir, 1).await;
    let kept = until(|| async {
        let answers = member.answers.load(Ordering::Relaxed);
        (answers > 5)
            .then_some(())
            .ok_or_else(|| format!("{answers} answers"))
    });
    kept.await.expect("it is asked");
    assert_eq!(member.connections.load(Ordering::Relaxed), 1);
    control_plane.commit("weir", &resources(&other));
    healthy(&weir, 0).await;
    control_plane.commit("weir", &resources(&root));
    healthy(&weir, 1).await;
    weir.stop().await;
}
