//! What can be wrong with a directory of resources, in words for the person who wrote it.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use xds_proto::load::LoadError;

use crate::snapshot::Duplicate;

/// One mistake. Displays with the place, the field and, where known, what to write instead.
#[derive(Clone, Debug, PartialEq)]
pub enum Mistake {
    /// One name twice.
    Duplicate(Duplicate),
    /// A file or the directory cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file says something that cannot be.
    Load(Box<LoadError>),
    /// A resource that cannot be served.
    Resource {
        /// `file:line:column`.
        origin: String,
        /// Why.
        reason: String,
    },
}

impl Mistake {
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn other(path: &Path, reason: &str) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

impl From<Duplicate> for Mistake {
    fn from(duplicate: Duplicate) -> Self {
        Self::Duplicate(duplicate)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(duplicate) => write!(f, "error: {duplicate}"),
            Self::Io { path, reason } => write!(f, "error: {reason}\n --> {}", path.display()),
            Self::Load(error) => error.fmt(f),
            Self::Resource { origin, reason } => write!(f, "error: {reason}\n --> {origin}"),
        }
    }
}

impl std::error::Error for Mistake {}
