//! Weights follow latency for gRPC as well: calls of tonic's client over one HTTP/2 connection each, to
//! servers of which one is ten times slower, and then refuses at once with a status of gRPC: as a head that is all
//! there is, and in trailers after a head that says nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::origin::Reply;
use http::StatusCode;
use tonic::Code;
use tonic::Request;
use tonic::transport::Endpoint;
use xds_proto::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;

use crate::latency::POLICY;
use crate::latency::SLOW;
use crate::latency::USUAL;
use crate::latency::World;
use crate::support::bootstrap;

/// A proxy in front of servers of HTTP/2.
pub(crate) fn base(port: u16, admin: u16, first: SocketAddr) -> String {
    let text = bootstrap::fixed(port, first, true).replace("type: STATIC\n", POLICY);
    text.replace("port_value: 0}", &format!("port_value: {admin}}}"))
}

/// An empty message and its status, a status alone in the head, or alone in trailers.
pub(crate) fn reply(status: StatusCode) -> Reply {
    let head =
        |body: &'static [u8]| Reply::body(body).with_header("content-type", "application/grpc");
    match status {
        StatusCode::OK => head(&[0; 5]).with_trailer("grpc-status", "0"),
        StatusCode::BAD_GATEWAY => head(&[]).with_trailer("grpc-status", "14"),
        _ => head(&[]).with_header("grpc-status", "14"),
    }
}

pub(crate) fn calls(
    addr: SocketAddr,
    is_over: Arc<AtomicBool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
        let channel = endpoint.connect().await.expect("it listens");
        let mut client = ClusterDiscoveryServiceClient::new(channel);
        while !is_over.load(Ordering::Relaxed) {
            let answer = client.fetch_clusters(Request::new(DiscoveryRequest::default()));
            match Box::pin(answer).await {
                Ok(_) => {}
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_leave_a_host_in_trouble_and_return() {
    let world = World::start((base, reply), calls).await;
    world.share_is_fair("a fair share").await;
    world.answer(0, StatusCode::OK, SLOW);
    world
        .share_becomes("a slow host to keep two percent", |share| share <= 0.02)
        .await;
    world.percentile_is_of_others().await;
    world.answer(0, StatusCode::OK, USUAL);
    world.share_is_fair("four fifths of a fair share").await;
    world.answer(0, StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    world
        .share_becomes("a failing host to keep two percent", |share| share <= 0.02)
        .await;
    world.answer(0, StatusCode::OK, USUAL);
    world.share_is_fair("four fifths again").await;
    world.answer(0, StatusCode::BAD_GATEWAY, Duration::ZERO);
    world
        .share_becomes("one that fails in trailers to keep two percent", |share| {
            share <= 0.02
        })
        .await;
    world.stop().await;
}
