//! The directory source behind a running server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use control_plane::Server;
use control_plane::source::file::SourceStatus;
use control_plane::types::CLUSTER;
use control_plane::types::SECRET;
use tempfile::TempDir;

use crate::peer::Peer;
use crate::peer::Running;
use crate::peer::VARIANTS;
use crate::peer::Variant;
use crate::peer::within;

fn clusters(names: &[&str], timeout: &str) -> String {
    let resource = |name: &&str| {
        format!("- '@type': {CLUSTER}\n  name: {name}\n  connect_timeout: {timeout}\n")
    };
    format!(
        "resources:\n{}",
        names.iter().map(resource).collect::<String>()
    )
}

/// Replaces a file in one step, as careful editors do.
fn save(dir: &Path, name: &str, text: &str) {
    let part = dir.join(format!(".{name}.part"));
    fs::write(&part, text).unwrap();
    fs::rename(part, dir.join(name)).unwrap();
}

async fn start(dir: &Path) -> Running {
    Running::start(Server::builder().resources_dir(dir)).await
}

async fn until(server: &Running, wanted: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let mut status = server.handle.files().expect("a directory");
    within(async {
        status
            .wait_for(|status| wanted(status))
            .await
            .unwrap()
            .clone()
    })
    .await
}

async fn subscribed(variant: Variant, server: &Running) -> Peer {
    let mut peer = Peer::new(variant, server.address);
    peer.subscribe(CLUSTER, &[]).await.unwrap();
    peer
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn a_save_reaches_every_variant() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "c.yaml", &clusters(&["a"], "1s"));
    let server = start(dir.path()).await;
    let mut peers = Vec::new();
    for variant in VARIANTS {
        let mut peer = subscribed(variant, &server).await;
        assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a"]);
        peers.push(peer);
    }
    save(dir.path(), "c.yaml", &clusters(&["a"], "2s"));
    let mut versions = Vec::new();
    for peer in &mut peers {
        let response = peer.accept(CLUSTER, &[]).await;
        assert_eq!(response.names, ["a"]);
        versions.push(response.resources);
    }
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]));
    server.stop().await;
}

#[tokio::test]
async fn a_mistake_is_explained_and_the_last_good_set_stays() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "c.yaml", &clusters(&["a"], "1s"));
    let server = start(dir.path()).await;
    let mut peer = subscribed(Variant::DeltaAds, &server).await;
    peer.accept(CLUSTER, &[]).await;

    let wrong = clusters(&["a"], "2s").replace("connect_timeout", "conect_timeout");
    save(dir.path(), "c.yaml", &wrong);
    let status = until(&server, |status| !status.mistakes.is_empty()).await;
    let text = status.mistakes[0].to_string();
    let place = format!("{}:4:3", dir.path().join("c.yaml").display());
    for part in [
        place.as_str(),
        "resources[0].conect_timeout",
        "connect_timeout",
    ] {
        assert!(text.contains(part), "{part} not in:\n{text}");
    }
    let mut late = subscribed(Variant::SotwAds, &server).await;
    assert_eq!(late.accept(CLUSTER, &[]).await.names, ["a"]);

    save(dir.path(), "c.yaml", &clusters(&["a", "b"], "1s"));
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["b"]);
    until(&server, |status| {
        status.mistakes.is_empty() && status.resources == 2
    })
    .await;
    server.stop().await;
}

/// A certificate without timestamps is no certificate for the public.
#[tokio::test]
async fn certificates_without_signed_timestamps_are_not_taken_if_they_are_required() {
    let dir = TempDir::new().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let pem = certificate.cert.pem().replace('\n', "\\n");
    let secret = |name: &str, value: &str| {
        format!("resources:\n- '@type': {SECRET}\n  name: {name}\n  {value}\n")
    };
    let own = format!("tls_certificate: {{certificate_chain: {{inline_string: \"{pem}\"}}}}");
    save(dir.path(), "s.yaml", &secret("own", &own));
    let builder = Server::builder().resources_dir(dir.path());
    let server = Running::start(builder.required_timestamps(2)).await;
    let status = until(&server, |status| !status.mistakes.is_empty()).await;
    let text = status.mistakes[0].to_string();
    let reason = "secret \"own\": it carries signed timestamps of 0 logs, and 2 are required";
    assert!(text.contains(reason), "{text}");
    let trust = format!("validation_context: {{trusted_ca: {{inline_string: \"{pem}\"}}}}");
    save(dir.path(), "s.yaml", &secret("trust", &trust));
    until(&server, |status| {
        status.mistakes.is_empty() && status.resources == 1
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_set_becomes_visible_as_a_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "one.yaml", &clusters(&["a"], "1s"));
    save(dir.path(), "two.yaml", &clusters(&["b"], "1s"));
    let server = start(dir.path()).await;
    let mut peer = subscribed(Variant::SotwAds, &server).await;
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a", "b"]);

    // While one file is wrong, the right change in the other is not served either.
    save(dir.path(), "two.yaml", "resources: [");
    until(&server, |status| !status.mistakes.is_empty()).await;
    let reads = server.handle.files().unwrap().borrow().reads;
    save(dir.path(), "one.yaml", &clusters(&["a", "a2"], "1s"));
    until(&server, |status| {
        status.reads > reads && !status.mistakes.is_empty()
    })
    .await;
    save(dir.path(), "two.yaml", &clusters(&["b", "b2"], "1s"));
    assert_eq!(
        peer.accept(CLUSTER, &[]).await.names,
        ["a", "a2", "b", "b2"]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_name_in_two_files_is_a_mistake() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "one.yaml", &clusters(&["a"], "1s"));
    let server = start(dir.path()).await;
    until(&server, |status| status.resources == 1).await;
    save(dir.path(), "two.yaml", &clusters(&["a"], "2s"));
    let status = until(&server, |status| !status.mistakes.is_empty()).await;
    let text = status.mistakes[0].to_string();
    assert!(
        text.contains("one.yaml:2:") && text.contains("two.yaml:2:"),
        "{text}"
    );
    assert_eq!(status.resources, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_kubernetes_volume_is_swapped_in_one_step() {
    let dir = TempDir::new().unwrap();
    let version = |number: &str, names: &[&str]| {
        let real = dir.path().join(format!("..{number}"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join("one.yaml"), clusters(&names[..1], "1s")).unwrap();
        fs::write(real.join("two.yaml"), clusters(&names[1..], "1s")).unwrap();
        symlink(format!("..{number}"), dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    version("1", &["a", "b"]);
    for name in ["one.yaml", "two.yaml"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let server = start(dir.path()).await;
    let mut peer = subscribed(Variant::SotwAds, &server).await;
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a", "b"]);
    version("2", &["c", "d"]);
    // Stale clusters go a moment later (S-70); both new ones come together.
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a", "b", "c", "d"]);
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["c", "d"]);
    server.stop().await;
}

#[tokio::test]
async fn a_linked_directory_may_be_pointed_elsewhere() {
    let dir = TempDir::new().unwrap();
    for (release, names) in [("r1", vec!["a"]), ("r2", vec!["a", "b"])] {
        fs::create_dir(dir.path().join(release)).unwrap();
        save(&dir.path().join(release), "c.yaml", &clusters(&names, "1s"));
    }
    let current = dir.path().join("current");
    symlink("r1", &current).unwrap();
    let server = start(&current).await;
    let mut peer = subscribed(Variant::DeltaAds, &server).await;
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["a"]);
    symlink("r2", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &current).unwrap();
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["b"]);
    // What is watched now is the new directory.
    save(
        &dir.path().join("r2"),
        "c.yaml",
        &clusters(&["a", "b", "c"], "1s"),
    );
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["c"]);
    server.stop().await;
}

#[tokio::test]
async fn a_subdirectory_is_a_group() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "all.yaml", &clusters(&["all"], "1s"));
    let server = start(dir.path()).await;
    let mut peer = subscribed(Variant::DeltaAds, &server).await; // node.cluster is "web"
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["all"]);
    fs::create_dir(dir.path().join("web")).unwrap();
    save(
        &dir.path().join("web"),
        "own.json",
        &clusters(&["own"], "1s"),
    );
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["own"]);
    let mut other = Peer::new(Variant::DeltaAds, server.address).named("x", "y");
    other.subscribe(CLUSTER, &[]).await.unwrap();
    assert_eq!(other.accept(CLUSTER, &[]).await.names, ["all"]);
    let mut late = subscribed(Variant::DeltaAds, &server).await;
    assert_eq!(
        sorted(late.accept(CLUSTER, &[]).await.names),
        ["all", "own"]
    );
    fs::remove_dir_all(dir.path().join("web")).unwrap();
    assert_eq!(peer.accept(CLUSTER, &[]).await.removed, ["own"]);
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_goes_away_takes_nothing_with_it() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("resources");
    fs::create_dir(&dir).unwrap();
    save(&dir, "c.yaml", &clusters(&["a"], "1s"));
    let server = start(&dir).await;
    let mut peer = subscribed(Variant::DeltaAds, &server).await;
    peer.accept(CLUSTER, &[]).await;
    fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
    let status = until(&server, |status| !status.mistakes.is_empty()).await;
    assert_eq!(status.resources, 1);
    let mut late = subscribed(Variant::SotwAds, &server).await;
    assert_eq!(late.accept(CLUSTER, &[]).await.names, ["a"]);
    fs::create_dir(&dir).unwrap();
    save(&dir, "c.yaml", &clusters(&["a", "b"], "1s"));
    assert_eq!(peer.accept(CLUSTER, &[]).await.names, ["b"]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_may_start_before_its_directory() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("resources");
    let server = start(&dir).await;
    until(&server, |status| !status.mistakes.is_empty()).await;
    let mut peer = subscribed(Variant::DeltaAds, &server).await;
    fs::create_dir(&dir).unwrap();
    save(&dir, "c.yaml", &clusters(&["a"], "1s"));
    assert_eq!(sorted(peer.accept(CLUSTER, &[]).await.names), ["a"]);
    server.stop().await;
}

#[test]
fn other_files_are_not_read() {
    let dir = TempDir::new().unwrap();
    save(dir.path(), "c.yaml", &clusters(&["a"], "1s"));
    for name in [".c.yaml.swp", "README.md", "c.yaml~", ".hidden.yaml"] {
        fs::write(dir.path().join(name), "not: [yaml").unwrap();
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    let desired = control_plane::source::file::load_dir(dir.path()).unwrap();
    let counts: Vec<_> = desired
        .iter()
        .map(|(group, all)| (group.as_str(), all.len()))
        .collect();
    assert_eq!(counts, [("", 1), ("empty", 0)]);
}
