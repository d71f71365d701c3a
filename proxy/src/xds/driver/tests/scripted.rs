//! Control planes that behave; names cite the rule ids of the xDS reference.

use std::fs;
use std::time::Duration;

use tonic::Code;
use tonic::Status;

use super::rig::Client;
use super::rig::ControlPlane;
use super::rig::Sotw;
use super::rig::config;
use super::rig::soon;
use crate::config::Change;
use crate::xds::driver::Source;
use crate::xds::file::PathSource;
use crate::xds::resource::ResourceType;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;
use crate::xds::stage::fixtures;
use crate::xds::store::ClientStatus;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::RouteConfig;

/// Brings one cluster, listener and route table to life.
async fn bring_up(stream: &mut Sotw, client: &mut Client) {
    let first = stream.expect(CDS).await;
    assert_eq!(first.node.unwrap().id, "me");
    assert_eq!(stream.expect(LDS).await.node, None);
    stream.send(CDS, "c1", &["a svc"]).await;
    stream.expect_ack(CDS, "c1").await;
    assert_eq!(stream.expect(EDS).await.resource_names, ["svc"]);
    stream.send(EDS, "e1", &["svc 1"]).await;
    stream.expect_ack(EDS, "e1").await;
    assert_eq!(client.snapshot().await.clusters.len(), 1);
    stream.send(LDS, "l1", &["l r"]).await;
    stream.expect_ack(LDS, "l1").await;
    assert_eq!(stream.expect(RDS).await.resource_names, ["r"]);
    stream.send(RDS, "r1", &["r a"]).await;
    stream.expect_ack(RDS, "r1").await;
    let snapshot = client.snapshot().await;
    assert_eq!((snapshot.listeners.len(), snapshot.routes.len()), (1, 1));
}

#[tokio::test]
async fn c20_sotw_from_nothing_to_serving() {
    let mut server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    bring_up(&mut stream, &mut client).await;
    assert!(client.status.is_initialized());
    stream.send(EDS, "e2", &["svc 2"]).await;
    stream.expect_ack(EDS, "e2").await;
    match soon("members", client.changes.recv()).await {
        Some(Change::Endpoints { cluster, endpoints }) => {
            assert_eq!((&*cluster, &*endpoints), ("a", &fixtures::endpoints(2)));
        }
        other => panic!("{other:?}"),
    }
    let facts = client.status.facts();
    assert!(facts.connected_state);
    assert_eq!(facts.types[&EDS].update_success, 2);
    assert_eq!(facts.types[&EDS].version, "e2");
}

#[tokio::test]
async fn b50_delta_from_nothing_to_serving_and_back_after_a_reconnect() {
    let mut server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Delta, vec![server.target.clone()]));
    let mut stream = server.delta().await;
    assert!(
        stream
            .expect(CDS)
            .await
            .initial_resource_versions
            .is_empty()
    );
    stream.expect(LDS).await;
    stream.send(CDS, "c1", &["a svc"]).await;
    assert_eq!(stream.expect(CDS).await.response_nonce, "c1");
    assert_eq!(stream.expect(EDS).await.resource_names_subscribe, ["svc"]);
    stream.send(EDS, "e1", &["svc 1"]).await;
    assert_eq!(stream.expect(EDS).await.response_nonce, "e1");
    client.snapshot().await;
    stream.fail(Status::unavailable("moving")).await;

    let mut stream = server.delta().await;
    let first = stream.expect(CDS).await;
    assert_eq!(first.node.unwrap().id, "me");
    assert_eq!(first.initial_resource_versions["a"], "c1", "C-54");
    let eds = stream.expect(EDS).await;
    assert_eq!(eds.initial_resource_versions["svc"], "e1");
    assert_eq!(eds.resource_names_subscribe, ["svc"]);
    assert!(client.changes.try_recv().is_err(), "B-11: nothing changed");
}

#[tokio::test]
async fn c21_nack_names_every_bad_resource() {
    let mut server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    bring_up(&mut stream, &mut client).await;
    stream
        .send(CDS, "c2", &["a svc", "x bad", "y bad", "b svc"])
        .await;
    let nack = stream.expect(CDS).await;
    let error = nack.error_detail.unwrap();
    assert_eq!(error.code, Code::Internal as i32);
    assert!(
        error
            .message
            .contains("x: some.field: bad; y: some.field: bad"),
        "{error:?}"
    );
    assert_eq!(
        (&*nack.version_info, &*nack.response_nonce),
        ("c1", "nonce-c2")
    );
    let snapshot = client.snapshot().await;
    assert_eq!(
        fixtures::names(snapshot.clusters.keys()),
        ["a", "b"],
        "C-90"
    );
    let facts = client.status.facts();
    assert_eq!(facts.types[&CDS].update_rejected, 1);
    assert!(
        facts.types[&CDS]
            .last_error
            .as_ref()
            .unwrap()
            .contains("x: some.field: bad")
    );
    let statuses = client.status.with_store(|s| {
        s.resources(CDS)
            .map(|(n, r)| (n.to_string(), r.status))
            .collect::<Vec<_>>()
    });
    let nacked = |n: &str| (n.to_owned(), ClientStatus::Nacked);
    let acked = |n: &str| (n.to_owned(), ClientStatus::Acked);
    assert_eq!(statuses, [acked("a"), acked("b"), nacked("x"), nacked("y")]);
}

#[tokio::test]
async fn c75_a_dynamic_resource_with_a_static_name_is_refused() {
    let mut server = ControlPlane::start().await;
    let mut config = config(Variant::Sotw, vec![server.target.clone()]);
    config.statics = StaticResources {
        clusters: vec![fixtures::cluster("s", fixtures::fixed(1), 1)],
        listeners: Vec::new(),
        ..StaticResources::default()
    };
    let mut client = Client::start(config);
    client.snapshot().await;
    let mut stream = server.sotw().await;
    stream.expect(CDS).await;
    stream.expect(LDS).await;
    stream.send(CDS, "1", &["s svc"]).await;
    let error = stream.expect(CDS).await.error_detail.unwrap();
    assert!(
        error
            .message
            .contains("s: a resource of this name stands in the bootstrap")
    );
}

#[tokio::test]
async fn s33_c9_an_orderly_end_leads_to_a_new_stream_with_the_old_versions() {
    let mut server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    bring_up(&mut stream, &mut client).await;
    drop(stream);
    let mut stream = server.sotw().await;
    for (t, version) in [(CDS, "c1"), (EDS, "e1"), (LDS, "l1"), (RDS, "r1")] {
        let request = stream.expect(t).await;
        assert_eq!(
            (&*request.version_info, &*request.response_nonce),
            (version, "")
        );
    }
    // The same state again is no change; what follows is.
    stream.send(CDS, "c1", &["a svc"]).await;
    stream.expect_ack(CDS, "c1").await;
    stream.send(CDS, "c2", &["a svc", "b svc"]).await;
    assert_eq!(client.snapshot().await.clusters.len(), 2);
    assert_eq!(
        client.status.facts().types[&CDS].update_failure,
        0,
        "C-9: no error"
    );
}

#[tokio::test]
async fn c10_servers_take_turns_and_b11_the_config_survives() {
    let mut second = ControlPlane::start().await;
    let mut first = ControlPlane::start().await;
    let servers = vec![first.target.clone(), second.target.clone()];
    let mut client = Client::start(config(Variant::Sotw, servers));
    let mut stream = first.sotw().await;
    bring_up(&mut stream, &mut client).await;
    stream.fail(Status::unavailable("going down")).await;
    drop(first);
    let mut stream = second.sotw().await;
    assert_eq!(stream.expect(CDS).await.version_info, "c1");
    assert!(client.changes.try_recv().is_err());
    assert!(client.status.facts().types[&CDS].update_failure >= 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = ControlPlane::start_unix(&dir.path().join("xds.sock"));
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    bring_up(&mut stream, &mut client).await;
}

#[tokio::test]
async fn a_slow_consumer_gets_the_sum_of_the_changes() {
    let mut server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    bring_up(&mut stream, &mut client).await;
    // One change fits the channel; the others add up.
    for i in 2..12 {
        let version = format!("e{i}");
        stream.send(EDS, &version, &[&format!("svc {i}")]).await;
        stream.expect_ack(EDS, &version).await;
    }
    let mut seen = 0;
    loop {
        match soon("members", client.changes.recv()).await {
            Some(Change::Endpoints { endpoints, .. }) if *endpoints == fixtures::endpoints(11) => {
                break;
            }
            Some(Change::Endpoints { .. }) => seen += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(seen <= 2, "{seen}");
}

#[tokio::test]
async fn dropping_the_driver_ends_the_stream() {
    let mut server = ControlPlane::start().await;
    let client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    let mut stream = server.sotw().await;
    stream.expect(CDS).await;
    stream.expect(LDS).await;
    drop(client);
    stream.end().await;
}

#[tokio::test]
async fn a_gone_consumer_ends_the_driver() {
    let server = ControlPlane::start().await;
    let mut client = Client::start(config(Variant::Sotw, vec![server.target.clone()]));
    client.changes.close();
    let task = &mut client.task;
    soon("the end", task).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c77_without_an_answer_it_is_initialized_after_the_timeout() {
    let mut config = config(Variant::Sotw, Vec::new());
    config.statics.listeners = vec![fixtures::listener("l", fixtures::rds("r"))];
    let started = tokio::time::Instant::now();
    let mut client = Client::start(config);
    let snapshot = client.snapshot().await;
    assert!(snapshot.routes["r"].virtual_hosts.is_empty());
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(15) && took < Duration::from_secs(16),
        "{took:?}"
    );
    assert!(client.status.is_initialized());
}

#[tokio::test]
async fn c7_files_feed_the_same_stage_and_keep_the_last_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let source = |name: &str| {
        Source::File(PathSource {
            path: path(name),
            watched_directory: None,
        })
    };
    fs::write(path("cds"), "a svc\nx bad").unwrap();
    let mut server = ControlPlane::start().await;
    let mut config = config(Variant::Sotw, vec![server.target.clone()]);
    config.cds = source("cds");
    config.lds = Source::None;
    let mut client = Client::start(config);
    let mut stream = server.sotw().await;
    assert_eq!(stream.expect(EDS).await.resource_names, ["svc"]);
    stream.send(EDS, "1", &["svc 1"]).await;
    assert_eq!(client.snapshot().await.clusters.len(), 1);
    assert_eq!(client.status.facts().types[&CDS].update_rejected, 1);
    fs::write(path("new"), "a bad\nb svc").unwrap();
    fs::rename(path("new"), path("cds")).unwrap();
    let snapshot = client.snapshot().await;
    assert_eq!(
        fixtures::names(snapshot.clusters.keys()),
        ["a", "b"],
        "the last good a stays"
    );
    fs::write(path("new"), "b svc").unwrap();
    fs::rename(path("new"), path("cds")).unwrap();
    assert_eq!(
        fixtures::names(client.snapshot().await.clusters.keys()),
        ["b"]
    );
}
