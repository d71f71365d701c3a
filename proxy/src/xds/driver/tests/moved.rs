//! The bootstrap read again says that the control plane is elsewhere.

use std::sync::Arc;

use crate::config::Cluster;
use crate::config::cluster::UpstreamProtocol;
use crate::xds::client::Target;
use crate::xds::driver::AdsConfig;
use crate::xds::driver::tests::rig::Client;
use crate::xds::driver::tests::rig::ControlPlane;
use crate::xds::driver::tests::rig::config;
use crate::xds::driver::tests::rig::soon;
use crate::xds::resource::ResourceType::Cluster as CDS;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;
use crate::xds::stage::fixtures;

/// A bootstrap whose cluster `cp` is this server.
fn at(server: &ControlPlane, mark: u64) -> StaticResources {
    let Target::Tcp { port, .. } = server.target else {
        unreachable!("it listens on TCP")
    };
    let cluster = Cluster {
        protocol: UpstreamProtocol::Http2,
        ..Cluster::clone(&fixtures::cluster("cp", fixtures::fixed(port), mark))
    };
    StaticResources {
        clusters: vec![Arc::new(cluster)],
        ..StaticResources::default()
    }
}

#[tokio::test]
async fn the_stream_follows_the_cluster_and_no_other_change_of_it() {
    let mut first = ControlPlane::start().await;
    let mut second = ControlPlane::start().await;
    let mut config = config(Variant::Sotw, Vec::new());
    config.ads = config.ads.map(|ads| AdsConfig {
        clusters: vec!["cp".into()],
        ..ads
    });
    config.statics = at(&first, 1);
    let client = Client::start(config);
    let mut stream = first.sotw().await;
    stream.expect(CDS).await;

    client.statics.send(at(&first, 2)).await.unwrap();
    stream.send(CDS, "c1", &[]).await;
    // The request for listeners, which was on its way, comes between.
    while soon("an answer", stream.request()).await.version_info != "c1" {}

    client.statics.send(at(&second, 2)).await.unwrap();
    stream.end().await;
    let mut stream = second.sotw().await;
    assert_eq!(stream.expect(CDS).await.version_info, "c1");
    assert_eq!(client.status.facts().types[&CDS].update_failure, 0);
}
