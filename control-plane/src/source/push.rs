//! The in-process source: a program commits resources directly.
//!
//! What the handle commits for a group replaces what the handle said for that group before, and
//! stands beside what other sources say. The network API over it is a later matter.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::watch;
use xds_proto::pb::google::protobuf::Any;

use crate::resource::ReferenceError;
use crate::resource::Resource;
use crate::snapshot::Duplicate;
use crate::source::file::SourceStatus;
use crate::status::ClientStatus;
use crate::status::Registry;
use crate::store::Committed;
use crate::store::Store;

/// Commits resources and reads the status of a running server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    store: Store,
    registry: Registry,
    files: Option<Files>,
}

/// The directory source, seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) status: watch::Receiver<SourceStatus>,
    pub(crate) asked: Arc<Notify>,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// One name twice.
    #[error(transparent)]
    Duplicate(#[from] Duplicate),
    /// A resource that cannot be served.
    #[error(transparent)]
    Resource(#[from] ReferenceError),
}

impl Handle {
    pub(crate) fn new(store: Store, registry: Registry, files: Option<Files>) -> Self {
        Self {
            store,
            registry,
            files,
        }
    }

    /// Makes `resources` everything this handle says for `group`; the empty group is everybody.
    /// The set becomes visible as a whole or not at all.
    ///
    /// # Errors
    /// When a resource is malformed or a name occurs twice; nothing changes then.
    pub fn commit(&self, group: &str, resources: &[Any]) -> Result<Committed, CommitError> {
        let resources: Result<Vec<_>, _> = resources
            .iter()
            .map(|any| Resource::new(any).map(Arc::new))
            .collect();
        self.commit_resources(group, resources?)
    }

    /// Like [`Self::commit`] with resources prepared by the caller: own names, TTLs, origins.
    ///
    /// # Errors
    /// When a name occurs twice; nothing changes then.
    pub fn commit_resources(
        &self,
        group: &str,
        resources: Vec<Arc<Resource>>,
    ) -> Result<Committed, CommitError> {
        Ok(self.store.commit_group(SOURCE, group, resources)?)
    }

    /// Every connected stream.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.registry.clients()
    }

    /// Who is connected, with a way to wait for changes.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where the resource directory stands, if there is one, with a way to wait for changes.
    #[must_use]
    pub fn files(&self) -> Option<watch::Receiver<SourceStatus>> {
        self.files.as_ref().map(|files| files.status.clone())
    }

    /// Has the resource directory read now, whether or not a change was noticed; files that are the
    /// same as before are not parsed again. Does nothing without a directory.
    pub fn reread_files(&self) {
        if let Some(files) = &self.files {
            files.asked.notify_one();
        }
    }

    /// What is served.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

const SOURCE: &str = "push";
