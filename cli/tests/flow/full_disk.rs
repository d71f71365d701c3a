//! A full disk: what is served goes on, what is kept stays what it was, and both agree again once there
//! is room. On a file system in memory, in a mount namespace of the test's own.
//!
//! The test starts itself again inside the namespace, because nobody else is to see what it mounts.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use control_plane::subscription::Variant;
use http::Request;
use http_body_util::Empty;

use crate::support::bootstrap;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::Traffic;
use crate::support::until;
use crate::support::world::World;

/// Set for the process inside the namespace.
const INSIDE: &str = "WEIR_TEST_INSIDE_NAMESPACE";

/// Enough for a few kept configurations.
const SIZE: &str = "size=1m";

#[test]
fn a_full_disk_keeps_the_last_good_state_and_recovers() {
    if std::env::var_os(INSIDE).is_some() {
        return; // the other test is meant
    }
    let mount = ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"];
    let possible = Command::new("unshare").args(mount).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        let missing = "nothing can be mounted in a namespace";
        let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
        return;
    }
    let program = std::env::current_exe().expect("it runs");
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(program)
        .args(["--exact", "full_disk::inside", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("it was there just now");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

async fn proxy(control_plane: &ControlPlane, state: &Path) -> Proxy {
    let text = bootstrap::ads(control_plane.addr, Variant::Delta);
    Proxy::with(&text, |options| {
        options.state_dir = Some(state.to_owned());
    })
    .await
}

async fn count(proxy: &Proxy, name: &str) -> u64 {
    let path = format!("/stats?filter={name}$");
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).expect("valid");
    let answer = bench::client::http1(proxy.admin(), request).await;
    let text = answer.expect("an answer").text();
    let value = text.trim_end().rsplit_once(": ");
    value.map_or(0, |(_, value)| value.parse().expect("a number"))
}

/// Waits until it counts more than before.
async fn counts_more(proxy: &Proxy, name: &str, before: u64) {
    until(name, async || {
        (count(proxy, name).await > before).then_some(())
    })
    .await;
}

const SAVED: &str = "control_plane.config_saved";
const FAILED: &str = "control_plane.config_save_failed";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other test, in a mount namespace"]
async fn inside() {
    let folder = tempfile::tempdir().expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", SIZE, "none"])
        .arg(folder.path())
        .status();
    assert!(mounted.expect("it is there").success());
    let state = folder.path().join("state");
    let kept = || std::fs::read(state.join("last-good")).expect("it is kept");
    let mut world = World::new(35, false);
    let control_plane = ControlPlane::start().await;
    let commit = |world: &World| {
        let all = world.resources();
        control_plane.handle.commit("", &all).expect("valid");
    };
    commit(&world);
    let proxy = proxy(&control_plane, &state).await;
    proxy.listens("main").await;
    counts_more(&proxy, SAVED, 0).await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(1).await;

    let before = kept();
    let filler = folder.path().join("filler");
    let filled = std::fs::write(&filler, vec![0; 2 * 1024 * 1024]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let generation = world.mark();
    commit(&world);
    traffic.sees(generation).await;
    counts_more(&proxy, FAILED, 0).await;
    assert!(kept() == before, "what was kept is whole");
    assert!(!state.join("last-good.new").exists());

    let saved = count(&proxy, SAVED).await;
    std::fs::remove_file(&filler).expect("it is there");
    counts_more(&proxy, SAVED, saved).await;
    assert!(kept() != before, "what is served is kept");
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    proxy.stop().await;

    // It is what was served last.
    let addr = control_plane.addr;
    let text = bootstrap::ads(addr, Variant::Delta);
    control_plane.stop().await;
    let proxy = Proxy::with(&text, |options| options.state_dir = Some(state.clone())).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    traffic.sees(generation).await;
    assert_eq!(traffic.stop().await.failed, 0);
    proxy.stop().await;
    let unmounted = Command::new("umount").arg(folder.path()).status();
    assert!(unmounted.expect("it is there").success());
}
