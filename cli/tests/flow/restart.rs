//! The control plane may go and come back: traffic goes on, and what did not change is not sent
//! again.

use control_plane::subscription::Variant;
use control_plane::types;
use xds_proto::pb::google::protobuf::Any;

use crate::support::child::ControlPlaneChild;
use crate::support::relay::Record;
use crate::support::relay::Relay;
use crate::support::servers::Proxy;
use crate::support::traffic::Traffic;
use crate::support::until;
use crate::support::world::World;

/// Answers that must come while there is no control plane.
const ANSWERS_ALONE: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_delta_nothing_unchanged_is_sent_again() {
    let (before, records) = away_and_back(Variant::Delta).await;
    let removed: Vec<&String> = records.iter().flat_map(|record| &record.removed).collect();
    assert_eq!(removed, Vec::<&String>::new());
    for resource in records.iter().flat_map(|record| &record.resources) {
        assert!(
            !before.contains(resource),
            "sent again: {}",
            resource.type_url
        );
        assert_eq!(resource.type_url, types::ROUTE);
    }
}

/// Of clusters and listeners nothing may come. A stream that begins cannot tell in SotW which
/// assignments and tables it has, so those may be sent once more, as protocol rule S-33 says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_sotw_no_whole_set_is_sent_again() {
    let (_, records) = away_and_back(Variant::Sotw).await;
    let count = |kind: &str| {
        records
            .iter()
            .filter(|record| record.type_url == kind)
            .count()
    };
    assert_eq!((count(types::CLUSTER), count(types::LISTENER)), (0, 0));
    // At most once more, and the table a second time because it changed at the end.
    assert!(
        count(types::ENDPOINT) <= 1 && count(types::ROUTE) <= 2,
        "{records:?}"
    );
}

/// What was served before, and what was sent by the control plane that came back, one change of the
/// route table included. It is a process, and it is killed.
async fn away_and_back(variant: Variant) -> (Vec<Any>, Vec<Record>) {
    let mut world = World::new(21, false);
    for _ in 0..5 {
        world.step();
    }
    let before = world.resources();
    let mut control_plane = ControlPlaneChild::start(&before).await;
    let relay = Relay::start(control_plane.addr()).await;
    let proxy = Proxy::by_ads(relay.addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;
    control_plane.kill().await;
    is_connected(&proxy, false).await;
    traffic.more(ANSWERS_ALONE).await;
    assert!(!relay.take().is_empty());

    control_plane.restart().await;
    is_connected(&proxy, true).await;
    let generation = world.mark();
    control_plane.save(&world.resources());
    traffic.sees(generation).await;
    let records = relay.take();
    let tally = traffic.stop().await;
    assert_eq!(
        (tally.failed, &tally.told, tally.resent),
        (0, &Vec::new(), 0)
    );
    proxy.stop().await;
    (before, records)
}

/// Waits until the proxy has a stream to its control plane, or has none.
async fn is_connected(proxy: &Proxy, expected: bool) {
    until("the stream", async || {
        (proxy.live.xds.facts().connected_state == expected).then_some(())
    })
    .await;
}
