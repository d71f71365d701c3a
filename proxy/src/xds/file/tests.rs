//! The watcher on real files in a temporary directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::FileContent;
use super::FileUpdate;
use super::FileWatch;
use super::Loader;
use super::PathSource;
use crate::xds::resource::ResourceType;

/// Far more than a change takes to be noticed on a busy machine; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The whole file is one resource.
struct Whole;

impl Loader for Whole {
    fn load(&self, _: ResourceType, path: &Path) -> Result<FileContent, String> {
        let body = fs::read(path).map_err(|e| e.to_string())?;
        Ok(FileContent {
            version: String::new(),
            bodies: vec![body.into()],
        })
    }
}

/// Waits until the file is seen with this content, since one change may be seen in two steps.
async fn expect(updates: &mut mpsc::Receiver<FileUpdate>, content: &str) {
    let seen = async {
        while let Some(update) = updates.recv().await {
            if update
                .result
                .is_ok_and(|c| c.bodies == [content.as_bytes()])
            {
                return;
            }
        }
        panic!("the watch has ended");
    };
    tokio::time::timeout(PATIENCE, seen).await.expect(content);
}

fn start(path: &Path, directory: Option<&Path>) -> (FileWatch, mpsc::Receiver<FileUpdate>) {
    let (tx, rx) = mpsc::channel(1);
    let source = PathSource {
        path: path.to_owned(),
        watched_directory: directory.map(ToOwned::to_owned),
    };
    (
        FileWatch::start(ResourceType::Cluster, source, Arc::new(Whole), tx),
        rx,
    )
}

#[tokio::test]
async fn c7_moves_and_edits_in_place_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cds.yaml");
    fs::write(&path, "one").unwrap();
    let (_watch, mut updates) = start(&path, None);
    expect(&mut updates, "one").await;
    fs::write(&path, "two").unwrap();
    expect(&mut updates, "two").await;
    fs::write(dir.path().join("new"), "three").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    expect(&mut updates, "three").await;
}

#[tokio::test]
async fn a_missing_file_is_an_error_until_it_appears() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cds.yaml");
    let (_watch, mut updates) = start(&path, None);
    assert!(updates.recv().await.unwrap().result.is_err());
    fs::write(&path, "one").unwrap();
    expect(&mut updates, "one").await;
}

#[cfg(unix)]
#[tokio::test]
async fn c7_a_watched_directory_serves_moved_links() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["v1", "v2"] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("cds.yaml"), version).unwrap();
    }
    let link = |to: &str| std::os::unix::fs::symlink(to, dir.path().join("next")).unwrap();
    link("v1");
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    let (_watch, mut updates) = start(&dir.path().join("current/cds.yaml"), Some(dir.path()));
    expect(&mut updates, "v1").await;
    link("v2");
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    expect(&mut updates, "v2").await;
}
