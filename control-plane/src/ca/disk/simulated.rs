//! A directory in memory that fails on command and forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use super::Disk;
use super::Stamp;

/// What is left of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process died: everything that was written is there.
    Kill,
    /// The machine died: only what was synced is there.
    Power,
    /// The machine died, having written all names, but only the content that was synced.
    PowerLate,
    /// The process died within the last write: half of it is there.
    Torn,
}

pub(crate) const CRASHES: [Crash; 4] = [Crash::Kill, Crash::Power, Crash::PowerLate, Crash::Torn];

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    synced: Vec<u8>,
    number: u64,
}

#[derive(Debug, Default)]
struct Content {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Changing steps so far.
    steps: usize,
    /// The step that fails, and all after it.
    fails_at: Option<usize>,
    is_torn: bool,
}

/// Clones share the content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(Arc<Mutex<Content>>);

impl Simulated {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub(crate) fn steps(&self) -> usize {
        self.content().steps
    }

    /// Lets so many more changes happen.
    pub(crate) fn fail_after(&self, changes: usize) {
        let mut content = self.content();
        content.fails_at = Some(content.steps.saturating_add(changes));
    }

    /// A copy that fails at its `step`th change from now, counted from zero.
    pub(crate) fn failing_at(&self, step: usize, crash: Crash) -> Self {
        let now = self.content();
        let content = Content {
            inodes: now.inodes.clone(),
            names: now.names.clone(),
            synced_names: now.synced_names.clone(),
            steps: 0,
            fails_at: Some(step),
            is_torn: crash == Crash::Torn,
        };
        Self(Arc::new(Mutex::new(content)))
    }

    /// What the next start finds.
    pub(crate) fn after(&self, crash: Crash) -> Self {
        let now = self.content();
        let mut content = Content {
            inodes: now.inodes.clone(),
            ..Content::default()
        };
        content.names = match crash {
            Crash::Power => now.synced_names.clone(),
            Crash::Kill | Crash::PowerLate | Crash::Torn => now.names.clone(),
        };
        content.synced_names.clone_from(&content.names);
        for inode in &mut content.inodes {
            if matches!(crash, Crash::Power | Crash::PowerLate) {
                inode.content.clone_from(&inode.synced);
            }
            inode.synced.clone_from(&inode.content);
        }
        Self(Arc::new(Mutex::new(content)))
    }

    /// Writes over a file, as an outsider would.
    pub(crate) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content();
        let index = content.names[name];
        let inode = &mut content.inodes[index];
        change(&mut inode.content);
        inode.synced.clone_from(&inode.content);
        inode.number += 1_000;
    }

    pub(crate) fn forget(&self, name: &str) {
        let mut content = self.content();
        content.names.remove(name);
        content.synced_names.remove(name);
    }

    /// Everything in all files, synced or not.
    pub(crate) fn text(&self, name: &str) -> String {
        let content = self.content();
        let Some(index) = content.names.get(name) else {
            return String::new();
        };
        String::from_utf8_lossy(&content.inodes[*index].content).into_owned()
    }
}

impl Content {
    /// Counts a change; the failing one and all that follow do not happen.
    fn step(&mut self) -> io::Result<()> {
        let fails = self.fails_at.is_some_and(|at| self.steps >= at);
        self.steps += 1;
        if fails {
            return Err(io::Error::other("the simulated disk failed"));
        }
        Ok(())
    }

    /// How many bytes of a failing write arrive.
    fn torn(&self, len: usize) -> Option<usize> {
        let is_first = self.fails_at.is_some_and(|at| self.steps == at + 1);
        (self.is_torn && is_first).then_some(len / 2)
    }

    fn find(&mut self, name: &str) -> io::Result<&mut Inode> {
        let index = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[index])
    }

    fn new_inode(&mut self, name: &str) {
        let number = self.inodes.len() as u64;
        self.names.insert(name.to_owned(), self.inodes.len());
        self.inodes.push(Inode {
            number,
            ..Inode::default()
        });
    }
}

impl Disk for Simulated {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn stamp(&self, name: &str) -> io::Result<Stamp> {
        let mut content = self.content();
        let inode = content.find(name)?;
        Ok(Stamp(inode.number, 0, inode.content.len() as u64))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.content().names.keys().cloned().collect())
    }

    fn exposure(&self, _: &str) -> io::Result<u32> {
        Ok(0)
    }

    fn read(&self, name: &str, _: u64) -> io::Result<Vec<u8>> {
        Ok(self.content().find(name)?.content.clone())
    }

    fn create(&self, name: &str, written: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        let done = content.step();
        let arrived = match &done {
            Ok(()) => Some(written.len()),
            Err(_) => content.torn(written.len()),
        };
        if let Some(arrived) = arrived {
            if !content.names.contains_key(name) {
                content.new_inode(name);
            }
            content.find(name)?.content = written[..arrived].to_vec();
        }
        done
    }

    fn append(&self, name: &str, written: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        let done = content.step();
        let arrived = match &done {
            Ok(()) => Some(written.len()),
            Err(_) => content.torn(written.len()),
        };
        if let Some(arrived) = arrived {
            if !content.names.contains_key(name) {
                content.new_inode(name);
            }
            let inode = content.find(name)?;
            inode.content.extend_from_slice(&written[..arrived]);
        }
        done
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self
            .content()
            .find(name)
            .map_or(0, |inode| inode.content.len() as u64))
    }

    fn ends_whole(&self, name: &str) -> io::Result<bool> {
        let mut content = self.content();
        let last = content
            .find(name)
            .ok()
            .and_then(|inode| inode.content.last());
        Ok(last.is_none_or(|last| *last == b'\n'))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut content = self.content();
        content.step()?;
        let len = usize::try_from(len).unwrap();
        content.find(name)?.content.truncate(len);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut content = self.content();
        content.step()?;
        let inode = content.find(name)?;
        inode.synced.clone_from(&inode.content);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut content = self.content();
        content.step()?;
        let index = content.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        content.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut content = self.content();
        content.step()?;
        content.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut content = self.content();
        content.step()?;
        content.synced_names = content.names.clone();
        Ok(())
    }
}
