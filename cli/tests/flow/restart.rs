//! The control plane may go and come back: traffic goes on, and what did not change is not sent
//! again.

use control_plane::stream::SyncState;
use control_plane::subscription::Variant;
use control_plane::types;
use xds_proto::pb::google::protobuf::Any;

use crate::support::relay::Record;
use crate::support::relay::Relay;
use crate::support::servers::ControlPlane;
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
/// route table included.
async fn away_and_back(variant: Variant) -> (Vec<Any>, Vec<Record>) {
    let mut world = World::new(21, false);
    for _ in 0..5 {
        world.step();
    }
    let before = world.resources();
    let first = ControlPlane::start().await;
    first.handle.commit("", &before).expect("valid");
    let addr = first.addr;
    let relay = Relay::start(addr).await;
    let proxy = Proxy::by_ads(relay.addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;
    first.stop().await;
    until("the end of the stream", async || {
        (!proxy.live.xds.facts().connected_state).then_some(())
    })
    .await;
    traffic.more(ANSWERS_ALONE).await;
    assert!(!relay.take().is_empty());

    let second = ControlPlane::start_on(addr).await;
    second.handle.commit("", &before).expect("valid");
    until("agreement", async || {
        let clients = second.handle.clients();
        let types = &clients.first()?.types;
        let is_synced = types.iter().all(|report| report.state == SyncState::Synced);
        (types.len() == 4 && is_synced).then_some(())
    })
    .await;
    let generation = world.mark();
    second.handle.commit("", &world.resources()).expect("valid");
    traffic.sees(generation).await;
    let records = relay.take();
    let tally = traffic.stop().await;
    assert_eq!(
        (tally.failed, &tally.told, tally.resent),
        (0, &Vec::new(), 0)
    );
    proxy.stop().await;
    second.stop().await;
    (before, records)
}
