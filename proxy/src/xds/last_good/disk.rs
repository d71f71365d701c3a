//! The state directory: written by one thread that does nothing else, so that a slow or full disk
//! holds nobody up.
//!
//! A file is written under another name, synced, renamed, and its directory synced: whatever happens
//! meanwhile, there is the old one or the new one. What could not be written is tried again, so that what
//! is kept is right again soon after there is room.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::Saved;
use super::format;
use crate::config::limits::STATE_BYTES_MAX;
use crate::telemetry::stats::ControlPlaneStats;

const FILE: &str = "last-good";
const NEW: &str = "last-good.new";
const LOCK: &str = "lock";

/// Only the proxy itself reads it: names and addresses of a mesh are nobody else's business.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// From an attempt that failed to the next, and doubled with each: whoever makes room wants to see that
/// it helped.
const RETRY: Duration = Duration::from_secs(1);

/// A disk that stays full is not written to more often.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where the state of one proxy is.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// That at `path`; it is made when something is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// What is kept there for this node; nothing if it cannot be used, which is told.
    pub fn read(&self, node: &(String, String)) -> Option<Saved> {
        let file = self.0.join(FILE);
        match read(&file, node) {
            Ok(saved) => saved,
            Err(reason) => {
                tracing::warn!(
                    file = %file.display(),
                    reason,
                    "the kept configuration is refused; starting as without it"
                );
                None
            }
        }
    }

    /// Replaces what is kept.
    ///
    /// # Errors
    /// What was there stays.
    pub(super) fn write(&self, saved: &Saved) -> io::Result<()> {
        let bytes = format::encode(saved);
        if bytes.len() as u64 > STATE_BYTES_MAX {
            let len = bytes.len();
            let sentence = format!("it has {len} bytes, {STATE_BYTES_MAX} are kept at most");
            return Err(io::Error::other(sentence));
        }
        let new = self.0.join(NEW);
        let written =
            write_new(&new, &bytes).and_then(|()| std::fs::rename(&new, self.0.join(FILE)));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&new); // a full disk has better uses for it
            return Err(error);
        }
        File::open(&self.0)?.sync_all()
    }

    /// Makes it if it is not there, and is its only writer from now on.
    fn lock(&self) -> io::Result<File> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.0)?;
        let mut options = File::options();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE);
        let lock = options.open(self.0.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another process writes to this directory"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn read(file: &Path, node: &(String, String)) -> Result<Option<Saved>, String> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = file.take(STATE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > STATE_BYTES_MAX {
        return Err(format!("it has more than {STATE_BYTES_MAX} bytes"));
    }
    let saved = format::decode(Bytes::from(bytes))?;
    if saved.node != *node {
        let (id, cluster) = saved.node;
        return Err(format!("it is of another node, {id:?} of {cluster:?}"));
    }
    Ok(Some(saved))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(FILE_MODE);
    let mut file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?; // it may have been there
    file.write_all(bytes)?;
    file.sync_all()
}

/// Hands what is to be kept to the thread that writes it; of several that wait the last one counts.
#[derive(Debug)]
pub struct Writer(Arc<Slot>);

#[derive(Debug, Default)]
struct Slot {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    saved: Option<Saved>,
    is_over: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(directory: Directory, stats: Arc<ControlPlaneStats>) -> io::Result<Self> {
        let slot = Arc::<Slot>::default();
        let its = Arc::clone(&slot);
        std::thread::Builder::new()
            .name("weir-state".to_owned())
            .spawn(move || write_all(&directory, &its, &stats))?;
        Ok(Self(slot))
    }

    /// Keeps this, once what is being written is done.
    pub fn save(&self, saved: Saved) {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.saved = Some(saved);
        self.0.woken.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.is_over = true;
        self.0.woken.notify_one();
    }
}

/// What could not be written, and is tried again.
struct Failed {
    saved: Saved,
    reason: String,
    wait: Duration,
}

/// Writes whatever comes; what cannot be written is told once for each reason, and tried again until it
/// can, or until there is something newer.
fn write_all(directory: &Directory, slot: &Slot, stats: &ControlPlaneStats) {
    let mut lock = None;
    let mut failed: Option<Failed> = None;
    while let Some(next) = next(slot, failed.as_ref().map(|failed| failed.wait)) {
        let before = failed.take();
        let told = before.as_ref().map(|before| before.reason.clone());
        let wait = match (&next, &before) {
            (None, Some(before)) => (before.wait * 2).min(RETRY_MAX),
            _ => RETRY,
        };
        let Some(saved) = next.or_else(|| before.map(|before| before.saved)) else {
            continue;
        };
        let locked = match &lock {
            Some(_) => Ok(()),
            None => directory.lock().map(|file| lock = Some(file)),
        };
        let directory_name = directory.0.display();
        match locked.and_then(|()| directory.write(&saved)) {
            Ok(()) => {
                stats.config_saved().inc();
                if told.is_some() {
                    tracing::info!(directory = %directory_name, "the configuration is kept again");
                }
            }
            Err(error) => {
                stats.config_save_failed().inc();
                let reason = error.to_string();
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(directory = %directory_name, reason, "the configuration cannot be kept; serving goes on");
                }
                failed = Some(Failed {
                    saved,
                    reason,
                    wait,
                });
            }
        }
    }
}

/// What is to be written, or nothing once it was waited for that long; none at the end.
fn next(slot: &Slot, wait: Option<Duration>) -> Option<Option<Saved>> {
    let mut waiting = slot.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(saved) = waiting.saved.take() {
            return Some(Some(saved));
        }
        if waiting.is_over {
            return None;
        }
        let Some(wait) = wait else {
            let woken = slot.woken.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let woken = slot.woken.wait_timeout(waiting, wait);
        let (found, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
        waiting = found;
        if timeout.timed_out() && waiting.saved.is_none() && !waiting.is_over {
            return Some(None);
        }
    }
}
