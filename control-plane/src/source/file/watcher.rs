//! Tells that a directory changed, once it has been quiet for a moment. Does not say what changed:
//! whoever reads finds out.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use notify::Event;
use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::limits::Limits;

/// Watches a directory tree until dropped.
pub(super) struct Watcher {
    changes: mpsc::Receiver<()>,
    /// What the path meant when the watch was set: device and inode, since a directory may be
    /// replaced by another under the same name.
    target: (u64, u64),
    _watcher: RecommendedWatcher,
}

impl Watcher {
    pub(super) fn new(dir: &Path) -> notify::Result<Self> {
        // One place is enough: a change that finds it taken will be read together with the first.
        let (sender, changes) = mpsc::channel(1);
        let identity = identity(dir)?;
        let target = dir.canonicalize()?;
        let link = dir
            .file_name()
            .filter(|_| dir.is_symlink())
            .map(OsStr::to_owned);
        let filter = (target.clone(), link.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| {
                matters(&event, &filter.0, filter.1.as_deref())
            }) {
                // Full means that a wake-up is already on its way.
                let _ = sender.try_send(());
            }
        })?;
        watcher.watch(&target, RecursiveMode::Recursive)?;
        if let Some(parent) = dir.parent().filter(|_| link.is_some()) {
            // A directory that is a link may be pointed elsewhere.
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            changes,
            target: identity,
            _watcher: watcher,
        })
    }

    /// Whether `dir` still means what is watched.
    pub(super) fn is_current(&self, dir: &Path) -> bool {
        !self.changes.is_closed() && identity(dir).is_ok_and(|target| target == self.target)
    }

    /// Waits for a change, or for the end of the watch.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn changed(&mut self) {
        let _ = self.changes.recv().await; // `is_current` tells the two apart
    }

    /// Waits for the silence after a change.
    pub(super) async fn settled(&mut self, limits: &Limits) {
        let latest = Instant::now() + limits.settle_max;
        loop {
            let quiet = Instant::now() + limits.settle_quiet;
            match timeout_at(quiet.min(latest), self.changes.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                _ => return,
            }
        }
    }
}

fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(dir)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Reading a file is no change; neither is what happens beside a linked directory.
fn matters(event: &Event, target: &Path, link: Option<&OsStr>) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.is_empty()
        || event
            .paths
            .iter()
            .any(|path| path.starts_with(target) || path.file_name() == link)
}
