//! The state on disk: one file, replaced as a whole, synced before anybody is told of a change.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use prost::Message;
use xds_proto::pb::weir::control_plane::v1::ListPoliciesResponse;
use xds_proto::pb::weir::control_plane::v1::PolicyOverride;
use xxhash_rust::xxh3::xxh3_64;

use super::Override;
use super::Overrides;
use crate::limits::OVERRIDES_BYTES_MAX;

const FILE: &str = "policies";
const NEW: &str = "policies.new";
const LOCK: &str = "policies.lock";

/// Bytes of the checksum at the end.
const SUM: usize = 8;

/// A directory, held by this process alone.
#[derive(Debug)]
pub(crate) struct Kept {
    dir: PathBuf,
    _lock: File,
}

impl Kept {
    /// What was kept in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be used, another process uses it, or the file was damaged; in a
    /// sentence.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Overrides), String> {
        let trouble = |error: io::Error| format!("{}: {error}", dir.display());
        std::fs::create_dir_all(dir).map_err(trouble)?;
        let lock = File::create(dir.join(LOCK)).map_err(trouble)?;
        if lock.try_lock().is_err() {
            let dir = dir.display();
            return Err(format!("{dir}: another control plane keeps its state here"));
        }
        let kept = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        let overrides = kept.read()?;
        Ok((kept, overrides))
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Durable when it returns.
    pub(crate) fn save(&self, overrides: &Overrides) -> io::Result<()> {
        let mut bytes = message(overrides).encode_to_vec();
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        let new = self.dir.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, self.path())?;
        File::open(&self.dir)?.sync_all()
    }

    fn read(&self) -> Result<Overrides, String> {
        let path = self.path();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Overrides::default());
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
            Ok(file) => {
                let read = file.take(OVERRIDES_BYTES_MAX).read_to_end(&mut bytes);
                read.map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        decoded(&bytes).ok_or_else(|| {
            let path = path.display();
            format!("{path}: the file is damaged; bring it back from a copy, or remove it and set the policies anew")
        })
    }
}

fn decoded(bytes: &[u8]) -> Option<Overrides> {
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if xxh3_64(bytes).to_le_bytes() != *sum {
        return None;
    }
    let message = ListPoliciesResponse::decode(bytes).ok()?;
    let mut overrides = Overrides::default();
    for one in message.overrides {
        let PolicyOverride {
            cluster,
            version,
            policy,
            shadow,
        } = one;
        let over = Override {
            version,
            policy,
            shadow,
        };
        overrides.insert(&cluster, over);
    }
    Some(overrides)
}

/// As the API and the disk have it.
pub(crate) fn message(overrides: &Overrides) -> ListPoliciesResponse {
    let one = |(cluster, over): (&std::sync::Arc<str>, &Override)| wire(cluster, over.clone());
    ListPoliciesResponse {
        overrides: overrides.iter().map(one).collect(),
    }
}

/// The same of one cluster.
pub(crate) fn wire(cluster: &str, over: Override) -> PolicyOverride {
    let Override {
        version,
        policy,
        shadow,
    } = over;
    PolicyOverride {
        cluster: cluster.to_owned(),
        version,
        policy,
        shadow,
    }
}
