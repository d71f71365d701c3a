//! A proxy that starts while its control plane is away serves what it was last sent, says so, and
//! converges without a failed request when the control plane is back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use control_plane::subscription::Variant;
use http::Request;
use http_body_util::Empty;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::bootstrap;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::Traffic;
use crate::support::until;
use crate::support::world::World;

async fn proxy(control_plane: SocketAddr, variant: Variant, state: &Path) -> Proxy {
    let text = bootstrap::ads(control_plane, variant);
    Proxy::with(&text, |options| {
        options.state_dir = Some(state.to_owned());
    })
    .await
}

async fn admin(proxy: &Proxy, path: &str) -> (u16, String) {
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).expect("valid");
    let answer = bench::client::http1(proxy.admin(), request).await;
    let answer = answer.expect("an answer");
    (answer.status.as_u16(), answer.text())
}

async fn has_counted(proxy: &Proxy, name: &str) {
    until(name, async || {
        let (_, stats) = admin(proxy, &format!("/stats?filter={name}$")).await;
        (!stats.trim_end().ends_with(": 0")).then_some(())
    })
    .await;
}

/// A world of which a proxy has kept the configuration, without its control plane.
async fn kept(variant: Variant) -> (World, SocketAddr, TempDir) {
    let mut world = World::new(33, false);
    for _ in 0..5 {
        world.step();
    }
    let state = tempfile::tempdir().expect("a directory");
    let control_plane = ControlPlane::start().await;
    let addr = control_plane.addr;
    let all = world.resources();
    control_plane.handle.commit("", &all).expect("valid");
    let proxy = proxy(addr, variant, state.path()).await;
    proxy.listens("main").await;
    has_counted(&proxy, "control_plane.config_saved").await;
    proxy.stop().await;
    control_plane.stop().await;
    (world, addr, state)
}

/// A machine that does something else may take longer to do it, now and then.
const TRIES: usize = 10;

/// Starts it again and again, until it was quick.
async fn serves_within_a_second(world: &World, addr: SocketAddr, variant: Variant, state: &Path) {
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        let began = Instant::now();
        let proxy = proxy(addr, variant, state).await;
        proxy.listens("main").await;
        let mut traffic = Traffic::start(world.addr(), world.paths());
        traffic.sees(1).await;
        quickest = quickest.min(began.elapsed());
        assert_eq!(traffic.stop().await.failed, 0);
        proxy.stop().await;
        if quickest < Duration::from_secs(1) {
            return;
        }
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?} at best");
}

async fn serves_and_converges(variant: Variant) {
    let (mut world, addr, state) = kept(variant).await;
    serves_within_a_second(&world, addr, variant, state.path()).await;
    let proxy = proxy(addr, variant, state.path()).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;
    let (status, ready) = admin(&proxy, "/ready?verbose").await;
    assert_eq!(status, 200);
    assert!(ready.contains("stale for"), "{ready}");
    assert!(ready.contains("read from disk"), "{ready}");
    has_counted(&proxy, "control_plane.serving_kept_config").await;
    has_counted(&proxy, "control_plane.stale_seconds").await;

    let generation = world.mark();
    let control_plane = ControlPlane::start_on(addr).await;
    let all = world.resources();
    control_plane.handle.commit("", &all).expect("valid");
    traffic.sees(generation).await;
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    let (_, ready) = admin(&proxy, "/ready?verbose").await;
    assert!(!ready.contains("stale"), "{ready}");

    // What was removed meanwhile is removed: nothing of another life stays.
    control_plane.handle.commit("", &[]).expect("valid");
    until("no listener", async || {
        (proxy.live.listener_count() == 0).then_some(())
    })
    .await;
    proxy.stop().await;
    control_plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_delta_it_serves_what_was_kept_and_converges() {
    Box::pin(serves_and_converges(Variant::Delta)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_sotw_it_serves_what_was_kept_and_converges() {
    Box::pin(serves_and_converges(Variant::Sotw)).await;
}

/// Not even a refusal comes from it: whoever waits for that waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_says_nothing_is_as_good_as_none() {
    let (world, _, state) = kept(Variant::Delta).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = silent.local_addr().expect("it is bound"); // the system takes connections for it
    serves_within_a_second(&world, addr, Variant::Delta, state.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_file_is_as_good_as_none() {
    let (world, addr, state) = kept(Variant::Delta).await;
    let file = state.path().join("last-good");
    let mut bytes = std::fs::read(&file).expect("it was kept");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    let proxy = proxy(addr, Variant::Delta, state.path()).await;
    has_counted(&proxy, "listener_manager.lds.update_failure").await;
    let (status, ready) = admin(&proxy, "/ready?verbose").await;
    assert_eq!((status, proxy.live.listener_count()), (503, 0), "{ready}");

    let control_plane = ControlPlane::start_on(addr).await;
    let all = world.resources();
    control_plane.handle.commit("", &all).expect("valid");
    proxy.listens("main").await;
    has_counted(&proxy, "control_plane.config_saved").await;
    proxy.stop().await;
    control_plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_written_stops_nobody() {
    let world = World::new(34, false);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("writable");
    let control_plane = ControlPlane::start().await;
    let all = world.resources();
    control_plane.handle.commit("", &all).expect("valid");
    let proxy = proxy(control_plane.addr, Variant::Delta, &file.join("state")).await;
    proxy.listens("main").await;
    has_counted(&proxy, "control_plane.config_save_failed").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;
    assert_eq!(traffic.stop().await.failed, 0);

    // Nothing else has to change for it to be kept once that can be.
    std::fs::remove_file(&file).expect("it is there");
    has_counted(&proxy, "control_plane.config_saved").await;
    proxy.stop().await;
    control_plane.stop().await;
}
