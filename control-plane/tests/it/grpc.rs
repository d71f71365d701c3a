//! All four variants against one running server.

use control_plane::Limits;
use control_plane::Server;
use control_plane::stream::SyncState;
use control_plane::types::CLUSTER;
use control_plane::types::ENDPOINT;
use tonic::Code;
use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;

use crate::peer::Peer;
use crate::peer::Running;
use crate::peer::VARIANTS;
use crate::peer::Variant;
use crate::peer::assignment;
use crate::peer::cluster;
use crate::peer::within;

#[tokio::test]
async fn b1_subscribe_update_and_remove_in_every_variant() {
    for variant in VARIANTS {
        let server = Running::default().await;
        server
            .handle
            .commit("", &[cluster("a", "1"), assignment("a")])
            .unwrap();
        let mut peer = Peer::new(variant, server.address);
        peer.subscribe(CLUSTER, &[]).await.unwrap();
        let first = peer.accept(CLUSTER, &[]).await;
        assert_eq!(first.names, ["a"], "{variant:?}");
        assert_eq!(first.resources, [cluster("a", "1")]);
        assert!(first.identifier.starts_with("weir/"));
        peer.subscribe(ENDPOINT, &["a"]).await.unwrap();
        assert_eq!(
            peer.accept(ENDPOINT, &["a"]).await.resources,
            [assignment("a")]
        );

        server
            .handle
            .commit("", &[cluster("b", "1"), cluster("a", "1"), assignment("a")])
            .unwrap();
        let second = peer.accept(CLUSTER, &[]).await;
        assert!(second.names.contains(&"b".to_owned()));
        assert_ne!(first.version, second.version);

        server
            .handle
            .commit("", &[cluster("b", "1"), assignment("a")])
            .unwrap();
        let third = peer.accept(CLUSTER, &[]).await;
        match variant {
            Variant::SotwAds | Variant::SotwSeparate => assert_eq!(third.names, ["b"]),
            Variant::DeltaAds | Variant::DeltaSeparate => assert_eq!(third.removed, ["a"]),
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn s23_a_refused_version_is_not_resent_in_any_variant() {
    for variant in VARIANTS {
        let server = Running::default().await;
        server.handle.commit("", &[cluster("a", "1")]).unwrap();
        let mut peer = Peer::new(variant, server.address);
        peer.subscribe(CLUSTER, &[]).await.unwrap();
        let refused = peer.refuse(CLUSTER, &[], "a is bad").await;
        server
            .until(|clients| {
                clients.iter().flat_map(|c| &c.types).any(|t| {
                    let refusal = t.report.refusal.as_ref();
                    t.state == SyncState::Error && refusal.is_some_and(|r| r.message == "a is bad")
                })
            })
            .await;
        // Whatever the server had to say about the refused version would come before this.
        server.handle.commit("", &[cluster("a", "2")]).unwrap();
        let next = peer.accept(CLUSTER, &[]).await;
        assert_eq!(next.resources, [cluster("a", "2")], "{variant:?}");
        assert_ne!(next.version, refused.version);
        server
            .until(|clients| {
                let mut types = clients.iter().flat_map(|c| &c.types);
                types.all(|t| t.state == SyncState::Synced && t.report.refusal.is_none())
            })
            .await;
        server.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_said_until_something_was_committed() {
    for variant in VARIANTS {
        let server = Running::default().await;
        let mut peer = Peer::new(variant, server.address);
        // The response headers come with the stream; the first message must be the commit.
        peer.subscribe(CLUSTER, &[]).await.unwrap();
        server.handle.commit("", &[cluster("a", "1")]).unwrap();
        assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn groups_are_chosen_by_id_then_by_cluster_and_followed_when_they_appear() {
    let server = Running::default().await;
    server.handle.commit("", &[cluster("all", "1")]).unwrap();
    server.handle.commit("web", &[cluster("web", "1")]).unwrap();
    server
        .handle
        .commit("special", &[cluster("special", "1")])
        .unwrap();
    for (id, group, expected) in [
        ("peer", "web", vec!["all", "web"]),
        ("special", "web", vec!["all", "special"]),
        ("peer", "other", vec!["all"]),
    ] {
        let mut peer = Peer::new(Variant::DeltaAds, server.address).named(id, group);
        peer.subscribe(CLUSTER, &[]).await.unwrap();
        assert_eq!(peer.accept(CLUSTER, &[]).await.names, expected);
    }
    let mut peer = Peer::new(Variant::DeltaAds, server.address).named("late", "none");
    peer.subscribe(CLUSTER, &[]).await.unwrap();
    peer.accept(CLUSTER, &[]).await;
    server
        .handle
        .commit("late", &[cluster("late", "1")])
        .unwrap();
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["late"]);
    server.stop().await;
}

#[tokio::test]
async fn status_shows_who_is_connected_until_they_leave() {
    let server = Running::default().await;
    server.handle.commit("", &[cluster("a", "1")]).unwrap();
    let mut peer = Peer::new(Variant::DeltaAds, server.address);
    peer.subscribe(CLUSTER, &[]).await.unwrap();
    let sent = peer.accept(CLUSTER, &[]).await;
    server
        .until(|clients| {
            clients
                .iter()
                .flat_map(|c| &c.types)
                .any(|t| t.state == SyncState::Synced)
        })
        .await;
    let client = server.handle.clients().remove(0);
    assert_eq!(
        (&*client.node_id, &*client.node_cluster, &*client.group),
        ("peer", "web", "")
    );
    assert!(client.peer.unwrap().ip().is_loopback());
    assert_eq!(client.types[0].report.acknowledged, Some(sent.version));
    drop(peer);
    server.until(<[_]>::is_empty).await;
    server.stop().await;
}

#[tokio::test]
async fn s4_s5_bad_first_requests_are_invalid_arguments() {
    let server = Running::default().await;
    server.handle.commit("", &[cluster("a", "1")]).unwrap();
    let node = Some(Node {
        id: "n".to_owned(),
        ..Default::default()
    });
    for request in [
        DiscoveryRequest {
            type_url: CLUSTER.to_owned(),
            ..Default::default()
        },
        DiscoveryRequest {
            node,
            ..Default::default()
        },
    ] {
        let mut peer = Peer::new(Variant::SotwAds, server.address);
        peer.send_raw(request).await;
        let status = peer.receive(CLUSTER).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test]
async fn streams_and_requests_are_bounded() {
    let limits = Limits {
        streams_max: 1,
        request_bytes_max: 1_000,
        ..Limits::default()
    };
    let server = Running::start(Server::builder().limits(limits)).await;
    server.handle.commit("", &[cluster("a", "1")]).unwrap();
    let mut first = Peer::new(Variant::SotwAds, server.address);
    first.subscribe(CLUSTER, &[]).await.unwrap();
    first.accept(CLUSTER, &[]).await;
    let mut second = Peer::new(Variant::SotwAds, server.address);
    let status = second.subscribe(CLUSTER, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);

    let name = "x".repeat(2_000);
    first.subscribe(CLUSTER, &[&name]).await.unwrap();
    let status = first.receive(CLUSTER).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    // The place is free again once the stream is gone.
    server.until(<[_]>::is_empty).await;
    second.subscribe(CLUSTER, &[]).await.unwrap();
    assert_eq!(second.accept(CLUSTER, &[]).await.names, ["a"]);
    server.stop().await;
}

#[tokio::test]
async fn fetch_is_unimplemented() {
    let server = Running::default().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address));
    let channel = within(channel.unwrap().connect()).await.unwrap();
    let mut client = ClusterDiscoveryServiceClient::new(channel);
    let fetched = client.fetch_clusters(DiscoveryRequest::default());
    assert_eq!(
        within(fetched).await.unwrap_err().code(),
        Code::Unimplemented
    );
    server.stop().await;
}

#[tokio::test]
async fn shutdown_ends_open_streams() {
    let server = Running::default().await;
    server.handle.commit("", &[cluster("a", "1")]).unwrap();
    let mut peer = Peer::new(Variant::DeltaAds, server.address);
    peer.subscribe(CLUSTER, &[]).await.unwrap();
    peer.accept(CLUSTER, &[]).await;
    server.stop().await;
    assert_eq!(
        peer.receive(CLUSTER).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn s61_thousands_of_clusters_arrive_in_messages_any_client_takes() {
    let server = Running::default().await;
    let body = "x".repeat(1_000);
    let many: Vec<_> = (0..5_000)
        .map(|n| cluster(&format!("c{n}"), &body))
        .collect();
    server.handle.commit("", &many).unwrap();
    let mut peer = Peer::new(Variant::DeltaAds, server.address);
    peer.subscribe(CLUSTER, &[]).await.unwrap();
    let mut names = Vec::new();
    while names.len() < many.len() {
        let part = peer.accept(CLUSTER, &[]).await;
        let bytes: usize = part.resources.iter().map(|any| any.value.len()).sum();
        assert!(bytes <= 2 << 20);
        names.extend(part.names);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), many.len());
    server.stop().await;
}
