//! No push fails a request: clients send without pause while everything behind them changes.

use control_plane::subscription::Variant;

use crate::support::hostile::Hostile;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::Tally;
use crate::support::traffic::Traffic;
use crate::support::world::World;

/// Pushes of our own control plane.
const PUSHES: u32 = 1_000;

/// Pushes that also change the listener under the traffic, or come in a hostile order.
const FEWER_PUSHES: u32 = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pushes_by_sotw_fail_no_request() {
    pushes(Variant::Sotw, 1, PUSHES, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pushes_by_delta_fail_no_request() {
    pushes(Variant::Delta, 2, PUSHES, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_that_drain_the_listener_fail_no_request() {
    pushes(Variant::Delta, 3, FEWER_PUSHES, true).await;
}

async fn pushes(variant: Variant, seed: u64, count: u32, touches_listener: bool) {
    let mut world = World::new(seed, touches_listener);
    let control_plane = ControlPlane::start().await;
    let commit = |world: &World| {
        control_plane
            .handle
            .commit("", &world.resources())
            .expect("valid")
    };
    commit(&world);
    let proxy = Proxy::by_ads(control_plane.addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    for at in 0..count {
        world.step();
        // Most pushes are waited for, so that they do not melt into one; some come in a row.
        let is_waited_for = !world.chance(4) || at + 1 == count;
        let marked = is_waited_for.then(|| world.mark());
        commit(&world);
        if let Some(generation) = marked {
            traffic.sees(generation).await;
        }
    }
    let tally = traffic.stop().await;
    check(&tally, &proxy, touches_listener);
    proxy.stop().await;
    control_plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_in_any_order_by_sotw_fail_no_request() {
    any_order(Variant::Sotw, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_in_any_order_by_delta_fail_no_request() {
    any_order(Variant::Delta, 12).await;
}

async fn any_order(variant: Variant, seed: u64) {
    let mut world = World::new(seed, false);
    let hostile = Hostile::start(seed).await;
    hostile.publish(&world.resources()).await;
    let proxy = Proxy::by_ads(hostile.addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    for at in 0..FEWER_PUSHES {
        world.step();
        let is_waited_for = !world.chance(4) || at + 1 == FEWER_PUSHES;
        let marked = is_waited_for.then(|| world.mark());
        hostile.publish(&world.resources()).await;
        if let Some(generation) = marked {
            traffic.sees(generation).await;
        }
    }
    let tally = traffic.stop().await;
    assert_eq!(hostile.refusals(), Vec::<String>::new());
    check(&tally, &proxy, false);
    proxy.stop().await;
}

fn check(tally: &Tally, proxy: &Proxy, may_resend: bool) {
    assert_eq!(
        (tally.failed, &tally.told),
        (0, &Vec::new()),
        "{} answered",
        tally.answered
    );
    assert!(may_resend || tally.resent == 0, "{tally:?}");
    assert!(tally.answered > 1_000, "{tally:?}");
    for (kind, facts) in proxy.live.xds.facts().types {
        assert_eq!(
            (facts.update_rejected, facts.last_error),
            (0, None),
            "{kind}"
        );
    }
}
