//! `path_config_source`: resources from a file, again at every change.
//!
//! Reading and parsing is the [`Loader`]'s; what a file says goes the same way as a response of a
//! control plane, so a bad file leaves the last good one in force.
//!
//! Both a file moved into place (Envoy's only trigger, C-7) and one edited in place are noticed; the
//! latter is why changes are let settle first. Kubernetes volumes, where a directory link is moved,
//! need `watched_directory` or the file beside the link.

mod directories;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use notify::Event;
use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::resource::ResourceType;
pub(super) use directories::Directories;

/// Silence after which a file is taken as written: editors and `cp` write in several steps within a
/// few milliseconds.
const SETTLE: Duration = Duration::from_millis(100);

/// Events waited through before a file that is written without end is read all the same.
const SETTLE_EVENTS_MAX: u32 = 50;

/// What Kubernetes calls the link it moves to publish a new version of a volume.
const KUBERNETES_LINK: &str = "..data";

/// `core.v3.PathConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSource {
    /// The file.
    pub path: PathBuf,
    /// Any change in this directory is a reason to read the file again.
    pub watched_directory: Option<PathBuf>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileContent {
    /// Its `version_info`, or what stands for it.
    pub version: String,
    /// The value of each resource's `Any`.
    pub bodies: Vec<Bytes>,
}

/// Reads and parses a file of resources. Blocking; it is called off the runtime's threads.
pub trait Loader: Send + Sync {
    /// All resources of one type that stand in the file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, with places.
    fn load(&self, resource_type: ResourceType, path: &Path) -> Result<FileContent, String>;
}

/// One reading.
#[derive(Debug)]
pub(super) struct FileUpdate {
    pub(super) resource_type: ResourceType,
    pub(super) result: Result<FileContent, String>,
}

/// A watched file; dropping it ends the watching.
#[derive(Debug)]
pub(super) struct FileWatch {
    task: JoinHandle<()>,
}

impl FileWatch {
    pub(super) fn start(
        resource_type: ResourceType,
        source: PathSource,
        loader: Arc<dyn Loader>,
        updates: mpsc::Sender<FileUpdate>,
    ) -> Self {
        Self {
            task: tokio::spawn(run(resource_type, source, loader, updates)),
        }
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    resource_type: ResourceType,
    source: PathSource,
    loader: Arc<dyn Loader>,
    updates: mpsc::Sender<FileUpdate>,
) {
    // One place is enough: it says that something changed, not what.
    let (changed, mut changes) = mpsc::channel(1);
    // Watching comes before reading, or a change in between is lost.
    let watcher = watcher(&source, changed);
    if let Err(e) = &watcher {
        warn!(path = %source.path.display(), error = %e, "file is read once and not watched");
    }
    loop {
        let loader = Arc::clone(&loader);
        let path = source.path.clone();
        let load = tokio::task::spawn_blocking(move || loader.load(resource_type, &path));
        let result = load
            .await
            .unwrap_or_else(|e| Err(format!("the reader failed: {e}")));
        let update = FileUpdate {
            resource_type,
            result,
        };
        if updates.send(update).await.is_err() {
            return;
        }
        if watcher.is_err() || changes.recv().await.is_none() {
            return;
        }
        let mut events = 0;
        while events < SETTLE_EVENTS_MAX && timeout(SETTLE, changes.recv()).await.is_ok() {
            events += 1;
        }
    }
}

fn watcher(source: &PathSource, changed: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let file = source.path.file_name().map(ToOwned::to_owned);
    let directory = source.watched_directory.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may hide a change (a full queue does), so it counts as one.
        let is_change = match &event {
            Ok(event) => is_change(event, file.as_deref(), directory.as_deref()),
            Err(_) => true,
        };
        if is_change {
            // Full: a change is announced already.
            let _ = changed.try_send(());
        }
    })?;
    let parent = source.path.parent().filter(|p| !p.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    if let Some(directory) = source
        .watched_directory
        .as_deref()
        .filter(|d| Some(*d) != parent)
    {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn is_change(event: &Event, file: Option<&OsStr>, directory: Option<&Path>) -> bool {
    // Reading the file is an event too.
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.is_empty()
        || event.paths.iter().any(|path| {
            path.file_name() == file
                || path.file_name() == Some(OsStr::new(KUBERNETES_LINK))
                || directory.is_some_and(|d| path.starts_with(d))
        })
}
