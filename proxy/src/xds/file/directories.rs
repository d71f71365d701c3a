//! Directories with files that secrets were read from: tells in which of them something changed.
//!
//! One watcher serves all, as the system has few. What changed in a directory is not told: whoever
//! reads the files again sees it.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use notify::Event;
use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tracing::warn;

/// Silence is not waited for, as a certificate and its key are renamed into place within
/// microseconds; those that are caught in between do not fit each other and are read again.
const SETTLE: Duration = Duration::from_millis(20);

/// The directories that are watched.
#[derive(Debug)]
pub(in crate::xds) struct Directories {
    /// Made when the first directory is to be watched.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// One place is enough: it says that something changed.
    signal: mpsc::Sender<()>,
    signals: mpsc::Receiver<()>,
    /// When the change that was signaled is told.
    due: Option<Instant>,
}

impl Default for Directories {
    fn default() -> Self {
        let (signal, signals) = mpsc::channel(1);
        Self {
            watcher: None,
            watched: BTreeSet::new(),
            changed: Arc::default(),
            signal,
            signals,
            due: None,
        }
    }
}

impl Directories {
    /// Watches these and no others. A new one counts as changed, as it may have been since its files
    /// were read.
    pub(in crate::xds) fn watch(&mut self, wanted: BTreeSet<PathBuf>) {
        if wanted == self.watched {
            return;
        }
        if self.watcher.is_none() {
            self.watcher = self.start();
        }
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.watched.difference(&wanted) {
            let _ = watcher.unwatch(gone); // it may have been removed
        }
        let mut fresh = BTreeSet::new();
        for new in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                warn!(directory = %new.display(), %error, "not watched, its secrets are not read again");
            }
            fresh.insert(new.clone());
        }
        self.watched = wanted;
        if !fresh.is_empty() {
            note(&self.changed, fresh, &self.signal);
        }
    }

    /// Those in which something changed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(in crate::xds) async fn next(&mut self) -> BTreeSet<PathBuf> {
        let due = match self.due {
            Some(due) => due,
            None => {
                // The sender is ours, so there is no end.
                let _ = self.signals.recv().await;
                *self.due.insert(Instant::now() + SETTLE)
            }
        };
        sleep_until(due).await;
        self.due = None;
        std::mem::take(&mut *lock(&self.changed))
    }

    fn start(&self) -> Option<RecommendedWatcher> {
        let (changed, signal) = (Arc::clone(&self.changed), self.signal.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            // Reading a file is an event too.
            if !matches!(event.kind, EventKind::Access(_)) {
                let places = event.paths.iter();
                let parents = places.filter_map(|path| path.parent().map(Path::to_owned));
                note(&changed, parents.collect(), &signal);
            }
        });
        watcher
            .inspect_err(|error| warn!(%error, "files of secrets are read once and not watched"))
            .ok()
    }
}

fn note(
    changed: &Mutex<BTreeSet<PathBuf>>,
    directories: BTreeSet<PathBuf>,
    signal: &mpsc::Sender<()>,
) {
    lock(changed).extend(directories);
    let _ = signal.try_send(()); // full: it is signaled already
}

fn lock(changed: &Mutex<BTreeSet<PathBuf>>) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
    changed.lock().unwrap_or_else(PoisonError::into_inner)
}
