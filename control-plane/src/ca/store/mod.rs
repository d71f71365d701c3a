//! The directory of the authority. Whatever happens, it loads again or says which file is wrong.
//!
//! ```text
//! DIR/                  0700; every file 0600
//!   state               certificates, counters, revocations; replaced as a whole
//!   ID.key              private keys, PKCS#8 in PEM
//!   tokens.key          what join tokens are signed with
//!   issued.log          a line per leaf that has not expired long ago
//!   audit.log           a line per issue, refusal, rotation, revocation, token
//!   lock                locked while somebody changes anything
//! ```
//!
//! The order that makes it safe: a key is written and synced before the state that names it; the
//! state is written aside, synced, renamed over the old one, and the directory synced; a key is
//! removed after the state no longer names it; serial numbers are reserved in the state before the
//! first of them is used; a line of the index is synced before its leaf is handed out.
//!
//! Processes may share a directory: each step takes the lock and, if somebody else changed the
//! state, reads it again first.

use std::io;
use std::path::PathBuf;

use super::disk::Disk;
use super::disk::Stamp;
use super::secret::Secret;
use crate::limits::CA_STATE_BYTES_MAX;
use crate::limits::SERIALS_RESERVED;

pub(super) mod audit;
mod issued;
mod logs;
mod serial;
pub(super) mod state;

use audit::Budget;
use serial::Block;
use serial::COUNTER_MAX;
use state::KEY_SUFFIX;
use state::State;

pub use issued::Record;
pub use serial::Serial;
pub use serial::SerialError;

/// Why the directory cannot be used, or a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error("{}: another process is changing this authority; try again", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("{}: {reason}", file.display())]
    Corrupt {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is one already.
    #[error("{}: there is an authority already; choose another directory", path.display())]
    Exists {
        /// Its state.
        path: PathBuf,
    },
    /// Others could read the keys.
    #[error("{}: others than the owner may use it (mode {mode:03o}); run chmod go-rwx on it", path.display())]
    Exposed {
        /// Directory or file.
        path: PathBuf,
        /// Their rights.
        mode: u32,
    },
    /// More than the state may hold.
    #[error("there are {count} {what} already, and no more are kept")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// The file system says no.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Nothing there.
    #[error("{}: there is no authority here; make one with weir ca init", path.display())]
    Missing {
        /// Where its state would be.
        path: PathBuf,
    },
}

/// The open directory.
#[derive(Debug)]
pub(super) struct Store {
    disk: Box<dyn Disk>,
    state: State,
    stamp: Option<Stamp>,
    serials: Block,
    budget: Budget,
}

/// Nobody else changes anything while this lives.
pub(super) struct Locked(#[expect(dead_code, reason = "held, not read")] Box<dyn Send>);

impl Store {
    /// Makes a new authority of a state and its keys, by file name.
    pub(super) fn create(
        disk: Box<dyn Disk>,
        state: State,
        keys: &[(String, Secret)],
    ) -> Result<Self, StoreError> {
        let mut store = Self {
            disk,
            state,
            stamp: None,
            serials: Block::default(),
            budget: Budget::default(),
        };
        store.check_exposure("")?;
        let _lock = store.lock()?;
        if store.disk.stamp(STATE).is_ok() {
            let path = store.disk.path(STATE);
            return Err(StoreError::Exists { path });
        }
        for (file, text) in keys {
            store.write_key(file, text)?;
        }
        let state = store.state.clone();
        store.commit(state)?;
        Ok(store)
    }

    /// Opens what [`Self::create`] made, and mends what a crash may have left.
    pub(super) fn open(disk: Box<dyn Disk>) -> Result<Self, StoreError> {
        if let Err(error) = disk.stamp(STATE) {
            let path = disk.path(STATE);
            return Err(match error.kind() {
                io::ErrorKind::NotFound => StoreError::Missing { path },
                _ => failed(&*disk, STATE, "read it")(error),
            });
        }
        let lock = lock(&*disk)?;
        let mut store = Self {
            state: read_state(&*disk)?,
            stamp: None,
            serials: Block::default(),
            budget: Budget::default(),
            disk,
        };
        store.check_exposure("")?;
        store.stamp = Some(store.read_stamp()?);
        store.recover_index()?;
        store.recover_audit()?;
        store.remove_leavings()?;
        drop(lock);
        Ok(store)
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Keeps other processes out, and catches up with what they did. Says whether there was
    /// anything.
    pub(super) fn enter(&mut self) -> Result<(Locked, bool), StoreError> {
        let lock = self.lock()?;
        let stamp = self.read_stamp()?;
        let is_changed = self.stamp != Some(stamp);
        if is_changed {
            self.state = read_state(&*self.disk)?;
            self.stamp = Some(stamp);
        }
        Ok((lock, is_changed))
    }

    /// Replaces the state on disk, then here. The caller has entered.
    pub(super) fn commit(&mut self, state: State) -> Result<(), StoreError> {
        let bytes = state
            .to_bytes()
            .map_err(|error| self.corrupt(STATE, &error))?;
        if bytes.len() > CA_STATE_BYTES_MAX {
            return Err(StoreError::Full {
                what: "bytes of state",
                count: bytes.len(),
            });
        }
        // Forgotten first: if a step fails, the next entry reads what is really there.
        self.stamp = None;
        self.done(STATE_NEW, "write it", self.disk.create(STATE_NEW, &bytes))?;
        self.done(STATE_NEW, "sync it", self.disk.sync(STATE_NEW))?;
        self.done(STATE, "replace it", self.disk.rename(STATE_NEW, STATE))?;
        self.done("", "sync it", self.disk.sync_names())?;
        self.state = state;
        self.stamp = Some(self.read_stamp()?);
        Ok(())
    }

    /// Writes a private key, durably, before anything needs it.
    pub(super) fn write_key(&self, file: &str, key: &Secret) -> Result<(), StoreError> {
        let text = key.expose().as_bytes();
        self.done(file, "write it", self.disk.create(file, text))?;
        self.done(file, "sync it", self.disk.sync(file))?;
        self.done("", "sync it", self.disk.sync_names())
    }

    /// Reads a private key.
    pub(super) fn read_key(&self, file: &str) -> Result<Secret, StoreError> {
        self.check_exposure(file)?;
        let bytes = self.disk.read(file, KEY_BYTES_MAX);
        let bytes = bytes.map_err(failed(&*self.disk, file, "read it"))?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| self.corrupt(file, &"it is not text"))?;
        Ok(Secret::new(text))
    }

    /// Removes the key of an authority the state no longer names.
    pub(super) fn remove_key(&self, file: &str) -> Result<(), StoreError> {
        match self.disk.remove(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => self.done(file, "remove it", result),
        }
    }

    /// Makes sure that so many serial numbers can be given away. The caller has entered.
    pub(super) fn reserve_serials(&mut self, count: u64) -> Result<(), StoreError> {
        if self.serials.left() >= count {
            return Ok(());
        }
        let from = self.state.serials_until;
        let until = from.saturating_add(count.max(SERIALS_RESERVED));
        if until > COUNTER_MAX {
            return Err(self.corrupt(STATE, &"its serial numbers are used up"));
        }
        let mut state = self.state.clone();
        state.serials_until = until;
        self.commit(state)?;
        self.serials = Block::new(from..until);
        Ok(())
    }

    /// A number of the reserved ones; it is never given again.
    pub(super) fn next_serial(&mut self, random: [u8; 8]) -> Result<Serial, StoreError> {
        self.reserve_serials(1)?;
        let number = self.serials.take();
        let number = number.ok_or_else(|| self.corrupt(STATE, &"it has no serial numbers"))?;
        Ok(Serial::new(number, random))
    }

    pub(super) fn corrupt(&self, file: &str, reason: &dyn ToString) -> StoreError {
        StoreError::Corrupt {
            file: self.disk.path(file),
            reason: reason.to_string(),
        }
    }

    fn lock(&self) -> Result<Locked, StoreError> {
        lock(&*self.disk)
    }

    fn read_stamp(&self) -> Result<Stamp, StoreError> {
        let stamp = self.disk.stamp(STATE);
        stamp.map_err(failed(&*self.disk, STATE, "read it"))
    }

    fn check_exposure(&self, name: &str) -> Result<(), StoreError> {
        let mode = self.disk.exposure(name);
        match mode.map_err(failed(&*self.disk, name, "read it"))? {
            0 => Ok(()),
            mode => Err(StoreError::Exposed {
                path: self.disk.path(name),
                mode,
            }),
        }
    }

    /// What a crash left half done, and keys nothing needs.
    fn remove_leavings(&self) -> Result<(), StoreError> {
        let names = self.disk.names();
        let needed: Vec<String> = self.state.key_files().collect();
        for name in names.map_err(failed(&*self.disk, "", "list it"))? {
            let is_key = name.ends_with(KEY_SUFFIX) && name != TOKENS_KEY;
            let is_leaving = name == STATE_NEW || name == ISSUED_NEW;
            if is_leaving || (is_key && !needed.contains(&name)) {
                self.remove_key(&name)?;
            }
        }
        Ok(())
    }

    fn done(
        &self,
        file: &str,
        action: &'static str,
        result: io::Result<()>,
    ) -> Result<(), StoreError> {
        result.map_err(failed(&*self.disk, file, action))
    }
}

fn lock(disk: &dyn Disk) -> Result<Locked, StoreError> {
    match disk.lock() {
        Ok(lock) => Ok(Locked(lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::Busy {
            path: disk.path(super::disk::LOCK),
        }),
        Err(error) => Err(failed(disk, super::disk::LOCK, "lock it")(error)),
    }
}

fn read_state(disk: &dyn Disk) -> Result<State, StoreError> {
    let bytes = disk.read(STATE, CA_STATE_BYTES_MAX as u64);
    let bytes = bytes.map_err(failed(disk, STATE, "read it"))?;
    State::from_bytes(&bytes).map_err(|reason| StoreError::Corrupt {
        file: disk.path(STATE),
        reason,
    })
}

fn failed(disk: &dyn Disk, file: &str, action: &'static str) -> impl Fn(io::Error) -> StoreError {
    let file = disk.path(file);
    move |source| StoreError::Io {
        file: file.clone(),
        action,
        source,
    }
}

/// What join tokens are signed with.
pub(super) const TOKENS_KEY: &str = "tokens.key";

pub(super) const STATE: &str = "state";
const STATE_NEW: &str = "state.new";
const ISSUED: &str = "issued.log";
const ISSUED_NEW: &str = "issued.log.new";
const AUDIT: &str = "audit.log";

/// An RSA key of 8,192 bits in PEM has about 7 KiB.
const KEY_BYTES_MAX: u64 = 64 << 10;
