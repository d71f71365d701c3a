//! The directory source: files of resources, followed as they change.
//!
//! ```text
//! resources/
//!   clusters.yaml        everybody
//!   routes.json          everybody
//!   edge/                nodes whose node.id or node.cluster is "edge" (the id wins)
//!     listeners.yaml
//! ```
//!
//! Each file is shaped like Envoy's file-based discovery response: a `resources` list with `@type`
//! entries; the same file serves Envoy's `path_config_source`. Files are `.yaml`, `.yml` or
//! `.json`; names that begin with a dot are not read, which skips editors' leavings and the
//! `..data` links of Kubernetes volumes (their swap is noticed all the same).
//!
//! A set is committed as a whole or not at all: one mistake anywhere, and what was served stays
//! served, while the mistake is logged and shown in [`SourceStatus`]. Writes nothing.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::limits::Limits;
use crate::snapshot::Dangling;
use crate::store::Committed;
use crate::store::Desired;
use crate::store::Store;

mod load;
mod mistake;
mod scan;
mod watcher;

use load::Loader;
use load::Rules;
use watcher::Watcher;

pub use load::load_dir;
pub use mistake::Mistake;

/// Where the directory stands.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// The directory.
    pub dir: PathBuf,
    /// How often it was read, successfully or not.
    pub reads: u64,
    /// Commit that is served; 0 before the first good set.
    pub epoch: u64,
    /// Resources in that commit.
    pub resources: usize,
    /// References in it that lead nowhere.
    pub dangling: Vec<Dangling>,
    /// What is wrong with the newest state of the directory; empty when that state is served.
    pub mistakes: Vec<Mistake>,
}

/// Follows one directory.
pub(crate) struct FileSource {
    dir: PathBuf,
    store: Store,
    limits: Limits,
    rules: Rules,
    loader: Loader,
    watcher: Option<Watcher>,
    /// Somebody wants the directory read now.
    asked: Arc<Notify>,
    status: watch::Sender<SourceStatus>,
}

impl FileSource {
    /// Certificates must carry signed timestamps of at least `logs_least` logs.
    pub(crate) fn new(dir: &Path, store: Store, limits: Limits, logs_least: usize) -> Self {
        let status = SourceStatus {
            dir: dir.to_owned(),
            ..SourceStatus::default()
        };
        Self {
            dir: dir.to_owned(),
            store,
            limits,
            rules: Rules { logs_least },
            loader: Loader::default(),
            watcher: None,
            asked: Arc::default(),
            status: watch::Sender::new(status),
        }
    }

    pub(crate) fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Notify it to have the directory read now, changed or not.
    pub(crate) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Reads the directory for the first time. Watches before reading, so nothing is missed.
    pub(crate) async fn start(&mut self) {
        self.follow();
        self.read().await;
    }

    /// Follows the directory; never returns.
    pub(crate) async fn run(mut self) {
        loop {
            self.changed().await;
            self.follow();
            self.read().await;
        }
    }

    /// Waits until the directory is to be read again.
    async fn changed(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            // No notifications: the directory is away, or the kernel's watches are used up.
            let rescan = tokio::time::sleep(RESCAN_INTERVAL);
            tokio::select! {
                () = rescan => {}
                () = self.asked.notified() => {}
            }
            return;
        };
        tokio::select! {
            () = watcher.changed() => {}
            () = self.asked.notified() => return,
        }
        // While the directory settles there is time to get ready.
        let mut loader = std::mem::take(&mut self.loader);
        let prepared = tokio::task::spawn_blocking(move || {
            loader.prepare();
            loader
        });
        watcher.settled(&self.limits).await;
        match prepared.await {
            Ok(loader) => self.loader = loader,
            Err(_) => error!("getting ready to read the resource directory failed"),
        }
    }

    /// Watches what the path means now: it may have been replaced since.
    fn follow(&mut self) {
        if self
            .watcher
            .as_ref()
            .is_some_and(|watcher| watcher.is_current(&self.dir))
        {
            return;
        }
        let was_watching = self.watcher.take().is_some() || self.status.borrow().reads == 0;
        match Watcher::new(&self.dir) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) if was_watching => {
                let dir = self.dir.display();
                warn!(%dir, %error, "cannot watch the directory; looking at it now and then");
            }
            Err(_) => {}
        }
    }

    async fn read(&mut self) {
        let mut loader = std::mem::take(&mut self.loader);
        let (dir, rules) = (self.dir.clone(), self.rules.clone());
        // Reading and parsing can take long; the streams share this thread.
        let read = tokio::task::spawn_blocking(move || {
            let desired = loader.load(&dir, &rules);
            (loader, desired)
        });
        let Ok((loader, desired)) = read.await else {
            // Only a panic in the loader ends here, and the cache is gone with it.
            error!("reading the resource directory failed");
            return;
        };
        self.loader = loader;
        match desired.and_then(|desired| self.commit(desired)) {
            Ok(()) => {}
            Err(mistakes) => self.refuse(mistakes),
        }
    }

    fn commit(&self, desired: Desired) -> Result<(), Vec<Mistake>> {
        let resources = desired.values().map(Vec::len).sum();
        let committed = self
            .store
            .commit(SOURCE, desired)
            .map_err(|d| vec![Mistake::from(d)])?;
        let Committed {
            epoch,
            changed,
            dangling,
        } = committed;
        if !changed.is_empty() {
            info!(
                epoch,
                resources,
                groups = changed.len(),
                "serving a new set"
            );
            dangling.iter().for_each(|dangling| warn!("{dangling}"));
        }
        self.status.send_modify(|status| {
            status.reads += 1;
            (status.epoch, status.resources) = (epoch, resources);
            (status.dangling, status.mistakes) = (dangling, Vec::new());
        });
        Ok(())
    }

    fn refuse(&self, mistakes: Vec<Mistake>) {
        let is_known = self.status.borrow().mistakes == mistakes;
        if !is_known {
            mistakes.iter().for_each(|mistake| error!("{mistake}"));
            let serving = self.status.borrow().epoch;
            warn!(
                mistakes = mistakes.len(),
                serving, "the last good set stays"
            );
        }
        self.status.send_modify(|status| {
            status.reads += 1;
            status.mistakes = mistakes;
        });
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

const SOURCE: &str = "file";

/// Without notifications: often enough for a person who waits, rare enough to cost nothing.
const RESCAN_INTERVAL: Duration = Duration::from_secs(1);
