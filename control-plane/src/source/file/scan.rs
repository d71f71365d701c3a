//! Reads the files of a directory as they were at one moment.
//!
//! A set that changes while it is read is read again: half of a Kubernetes volume before the swap
//! and half after it was never anybody's intention.

use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use super::Mistake;
use crate::limits::FILE_BYTES_MAX;
use crate::limits::FILES_MAX;

/// One file.
#[derive(Debug)]
pub(super) struct Found {
    /// Group it speaks to; empty for everybody.
    pub(super) group: String,
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What is in the directory: its groups, even empty ones, and its files.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) groups: Vec<String>,
    pub(super) files: Vec<Found>,
}

/// Reads everything.
pub(super) fn scan(dir: &Path) -> Result<Scan, Vec<Mistake>> {
    let mut before = list(dir)?;
    for _ in 0..ATTEMPTS {
        let read = read_all(&before);
        let after = list(dir)?;
        if before == after {
            let groups = before.groups;
            return read.map(|files| Scan { groups, files });
        }
        before = after;
    }
    Err(vec![Mistake::other(
        dir,
        "the directory keeps changing while it is read",
    )])
}

/// Names and identities, without contents.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    groups: Vec<String>,
    files: Vec<(String, PathBuf, Identity)>,
}

/// Changes whenever the file does.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn list(dir: &Path) -> Result<Listing, Vec<Mistake>> {
    let mut listing = Listing {
        groups: Vec::new(),
        files: Vec::new(),
    };
    let mut mistakes = Vec::new();
    for (name, path, metadata) in entries(dir).map_err(|e| vec![Mistake::io(dir, &e)])? {
        if metadata.is_dir() {
            match entries(&path) {
                Ok(inner) => inner.for_each(|entry| listing.add(&name, entry)),
                Err(error) => mistakes.push(Mistake::io(&path, &error)),
            }
            listing.groups.push(name);
        } else {
            listing.add("", (name, path, metadata));
        }
    }
    if listing.files.len() > FILES_MAX {
        mistakes.push(Mistake::other(dir, "too many files"));
    }
    listing.groups.sort();
    listing.files.sort_by(|a, b| a.1.cmp(&b.1));
    if mistakes.is_empty() {
        Ok(listing)
    } else {
        Err(mistakes)
    }
}

type Entry = (String, PathBuf, fs::Metadata);

/// Visible entries with a readable name; a file that vanishes meanwhile is not there.
fn entries(dir: &Path) -> io::Result<impl Iterator<Item = Entry>> {
    let entries = fs::read_dir(dir)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        if name.starts_with('.') {
            return None;
        }
        let path = entry.path();
        let metadata = fs::metadata(&path).ok()?;
        Some((name, path, metadata))
    });
    Ok(entries)
}

impl Listing {
    fn add(&mut self, group: &str, (_, path, metadata): Entry) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !metadata.is_file() || !extension.is_some_and(|e| EXTENSIONS.contains(&e)) {
            return;
        }
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        self.files.push((group.to_owned(), path, identity));
    }
}

fn read_all(listing: &Listing) -> Result<Vec<Found>, Vec<Mistake>> {
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    for (group, path, _) in &listing.files {
        match read(path) {
            Ok(text) => {
                files.push(Found {
                    group: group.clone(),
                    path: path.clone(),
                    text,
                });
            }
            Err(error) => mistakes.push(Mistake::io(path, &error)),
        }
    }
    if mistakes.is_empty() {
        Ok(files)
    } else {
        Err(mistakes)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// A swap takes microseconds; who writes longer than this many reads is not done yet, and the
/// next notification will come.
const ATTEMPTS: usize = 5;
