//! The few things the CA asks of a file system, so that a test can let any of them fail.
//!
//! One flat directory. Nothing here is durable before it is synced, and a name is not durable
//! before [`Disk::sync_names`]; the order is the store's business.

use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::CA_LOCK_PATIENCE;

#[cfg(test)]
pub(super) mod simulated;

/// Changes when a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64, i64, u64);

/// One directory of files.
pub(super) trait Disk: fmt::Debug + Send {
    /// Where a file is, for people.
    fn path(&self, name: &str) -> PathBuf;
    /// Keeps every other process out until the result is dropped.
    fn lock(&self) -> io::Result<Box<dyn Send>>;
    fn stamp(&self, name: &str) -> io::Result<Stamp>;
    fn names(&self) -> io::Result<Vec<String>>;
    /// Bits of the mode that let others than the owner in; of the directory if the name is empty.
    fn exposure(&self, name: &str) -> io::Result<u32>;
    /// Refuses files of more than `bytes_max`.
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Writes a whole file, over what may be there.
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Makes the file if there is none.
    fn append(&self, name: &str, content: &[u8]) -> io::Result<()>;
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Whether the file is empty, absent, or ends with a line's end.
    fn ends_whole(&self, name: &str) -> io::Result<bool>;
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    fn sync(&self, name: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Makes the directory, closed to others.
    pub(super) fn make(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.path)
    }
}

impl Disk for Directory {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        }
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let file = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(LOCK))?;
        let deadline = Instant::now() + CA_LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                // The kernel knows no lock with a deadline; changes take milliseconds.
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(LOCK_RETRY),
            }
        }
    }

    fn stamp(&self, name: &str) -> io::Result<Stamp> {
        let meta = std::fs::metadata(self.path(name))?;
        let nanos = meta.mtime().wrapping_mul(1_000_000_000) + meta.mtime_nsec();
        Ok(Stamp(meta.ino(), nanos, meta.len()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn exposure(&self, name: &str) -> io::Result<u32> {
        let permissions: Permissions = std::fs::metadata(self.path(name))?.permissions();
        Ok(permissions.mode() & 0o077)
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(name))?;
        // At once as large as it must be: one that grows leaves copies of a key behind.
        let len = file.metadata()?.len().min(bytes_max);
        let mut content = Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1);
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            let text = format!("the file is longer than {bytes_max} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(content)
    }

    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut options = private();
        options.write(true).create(true).truncate(true);
        options.open(self.path(name))?.write_all(content)
    }

    fn append(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut options = private();
        options.append(true).create(true);
        options.open(self.path(name))?.write_all(content)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        match std::fs::metadata(self.path(name)) {
            Ok(meta) => Ok(meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn ends_whole(&self, name: &str) -> io::Result<bool> {
        if self.len(name)? == 0 {
            return Ok(true);
        }
        let mut file = File::open(self.path(name))?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last == *b"\n")
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(len)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Name of the file that is locked; it stays empty.
pub(super) const LOCK: &str = "lock";

const LOCK_RETRY: Duration = Duration::from_millis(5);
