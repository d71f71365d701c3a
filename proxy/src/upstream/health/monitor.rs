//! All clusters that are looked after, and the thread on which that happens.

use std::collections::HashMap;
use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::supervisor;
use crate::upstream::ClusterHandle;
use crate::xds::resource::CheckAnswer;

/// A cluster that is looked after.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The cluster.
    pub cluster: ClusterHandle,
    /// Nobody uses it before every host of it was checked once; that is told.
    pub is_warming: bool,
}

/// The control side's end: says which clusters are looked after. Dropping it ends all of it.
#[derive(Debug)]
pub struct Monitor {
    wanted: watch::Sender<Vec<Watched>>,
    warmed: mpsc::Sender<CheckAnswer>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Looks after nobody yet; `warmed` is told when a warming cluster is warm.
    #[must_use]
    pub fn new(warmed: mpsc::Sender<CheckAnswer>) -> Self {
        Self {
            wanted: watch::Sender::default(),
            warmed,
            thread: None,
        }
    }

    /// Looks after these, and nobody else, from now on.
    pub fn watch(&mut self, clusters: Vec<Watched>) {
        if clusters.is_empty() && self.thread.is_none() {
            return;
        }
        self.wanted.send_replace(clusters);
        if self.thread.is_none() {
            match self.start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => tracing::error!(%error, "health checks cannot be started"),
            }
        }
    }

    fn start(&self) -> io::Result<JoinHandle<()>> {
        let (wanted, warmed) = (self.wanted.subscribe(), self.warmed.clone());
        let run = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let options = tokio::runtime::LocalOptions::default();
            match runtime.enable_all().build_local(options) {
                Ok(runtime) => runtime.block_on(run(wanted, warmed)),
                Err(error) => tracing::error!(%error, "health checks have no runtime"),
            }
        };
        let thread = std::thread::Builder::new().name("weir-health".to_owned());
        thread.spawn(run)
    }

    /// Ends all of it, and waits for that.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the health checks panicked");
        }
    }
}

/// Ends a task with the value.
#[derive(Debug)]
pub(super) struct Task(pub(super) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(mut wanted: watch::Receiver<Vec<Watched>>, warmed: mpsc::Sender<CheckAnswer>) {
    let mut supervisors: HashMap<usize, (bool, Task)> = HashMap::new();
    let began = Instant::now();
    wanted.mark_changed(); // what was said before the thread began
    while wanted.changed().await.is_ok() {
        let clusters = wanted.borrow_and_update().clone();
        let mut old = std::mem::take(&mut supervisors);
        for watched in clusters {
            let key = watched.cluster.key();
            let kept = old.remove(&key);
            let kept = kept.or_else(|| {
                let warmed = watched.is_warming.then(|| warmed.clone());
                let task = supervisor::run(watched.cluster.clone(), warmed, began);
                let task = tokio::task::spawn_local(task).abort_handle();
                Some((watched.is_warming, Task(task)))
            });
            supervisors.extend(kept.map(|kept| (key, kept)));
        }
    }
}
