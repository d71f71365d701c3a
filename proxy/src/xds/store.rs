//! What was received, per resource: its bytes, version, time and last error.
//!
//! It serves dumps, and tells which resources of a response really changed. It decides nothing
//! about what is live.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::resource::Decoded;
use super::resource::Refusal;
use super::resource::Resource;
use super::resource::ResourceType;
use super::session::Interest;
use super::session::Removal;
use super::session::Update;
use super::stage::Batch;
use crate::config::Name;

/// Resources of one type that are remembered only for their error. They name themselves, so a
/// control plane could make up any number.
const ERROR_ONLY_MAX: usize = 1000;

/// How the client stands to one resource (`envoy.admin.v3.ClientResourceStatus`, B-93).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientStatus {
    /// The last version applies.
    Acked,
    /// There is none.
    DoesNotExist,
    /// The last version was refused.
    Nacked,
    /// The control plane reported an error instead of it.
    ReceivedError,
    /// Asked for.
    #[default]
    Requested,
    /// Asked for, and did not come in time.
    Timeout,
}

/// An error with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredError {
    /// What was wrong.
    pub detail: String,
    /// When.
    pub at: SystemTime,
}

/// One resource as last received.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The last good version; none if there never was one.
    pub good: Option<Good>,
    /// What is wrong with what came after it.
    pub last_error: Option<StoredError>,
    /// How the client stands to it.
    pub status: ClientStatus,
}

/// A good version of a resource.
#[derive(Clone, Debug)]
pub struct Good {
    /// The value of its `Any`.
    pub body: Bytes,
    /// Decoded.
    pub resource: Resource,
    /// Its version.
    pub version: String,
    /// When it came.
    pub last_updated: SystemTime,
    /// Fields that are set and not supported.
    pub warnings: Vec<String>,
}

/// Everything received, by type and name.
#[derive(Debug, Default)]
pub struct Store {
    types: BTreeMap<ResourceType, BTreeMap<Name, Stored>>,
}

impl Store {
    /// The resources of one type, by name.
    pub fn resources(&self, resource_type: ResourceType) -> impl Iterator<Item = (&Name, &Stored)> {
        self.types.get(&resource_type).into_iter().flatten()
    }

    /// One resource.
    pub fn get(&self, resource_type: ResourceType, name: &str) -> Option<&Stored> {
        self.types.get(&resource_type)?.get(name)
    }

    /// Files a response and returns what it changed.
    pub fn file(&mut self, update: Update<Decoded>, at: SystemTime) -> Batch {
        let resource_type = update.resource_type;
        let resources = self.types.entry(resource_type).or_default();
        let mut batch = Batch::empty(resource_type);
        for accepted in update.accepted {
            let stored = resources.entry(accepted.name.clone()).or_default();
            let Decoded {
                resource, warnings, ..
            } = accepted.value;
            let is_same = stored
                .good
                .as_ref()
                .is_some_and(|g| g.body == accepted.body);
            if !is_same {
                batch.upserted.push((accepted.name, resource.clone()));
            }
            stored.good = Some(Good {
                body: accepted.body,
                resource,
                version: accepted.version,
                last_updated: at,
                warnings,
            });
            stored.last_error = None;
            stored.status = ClientStatus::Acked;
        }
        for Removal { name, .. } in update.removed {
            batch.removed.push(name.clone());
            remove(resources, resource_type, name);
        }
        for Refusal { name, detail } in update.refused {
            note_error(
                resources,
                name,
                StoredError { detail, at },
                ClientStatus::Nacked,
            );
        }
        for error in update.errors {
            let detail = format!("status {}: {}", error.code, error.message);
            let error_at = StoredError { detail, at };
            note_error(resources, error.name, error_at, ClientStatus::ReceivedError);
        }
        batch
    }

    /// The same bytes mean something else now, because of the files they name.
    pub fn replace(
        &mut self,
        resource_type: ResourceType,
        name: &Name,
        resource: Resource,
        at: SystemTime,
    ) {
        let stored = self.types.get_mut(&resource_type);
        let stored = stored.and_then(|resources| resources.get_mut(name));
        if let Some(good) = stored.and_then(|stored| stored.good.as_mut()) {
            good.resource = resource;
            good.last_updated = at;
        }
    }

    /// A resource did not come in time.
    pub fn note_timeout(&mut self, resource_type: ResourceType, name: Name) {
        let resources = self.types.entry(resource_type).or_default();
        resources.entry(name).or_default().status = ClientStatus::Timeout;
    }

    /// A resource's time to live is over.
    pub fn expire(&mut self, resource_type: ResourceType, name: &Name) {
        if let Some(resources) = self.types.get_mut(&resource_type) {
            resources.remove(name);
        }
    }

    /// Forgets what is no longer wanted, and notes what is asked for.
    pub fn retain(&mut self, resource_type: ResourceType, interest: &Interest) {
        let resources = self.types.entry(resource_type).or_default();
        resources.retain(|name, _| interest.covers(name));
        for name in &interest.names {
            if !resources.contains_key(name) {
                resources.insert(name.clone(), Stored::default());
            }
        }
    }
}

/// Assignments and route tables in use outlive their removal (`stage` keeps them), so they stay
/// here too: were they forgotten, the same bytes would later pass as a change.
fn remove(resources: &mut BTreeMap<Name, Stored>, resource_type: ResourceType, name: Name) {
    if resource_type.is_complete_set() {
        resources.remove(&name);
    } else {
        resources.entry(name).or_default().status = ClientStatus::DoesNotExist;
    }
}

fn note_error(
    resources: &mut BTreeMap<Name, Stored>,
    name: Name,
    error: StoredError,
    status: ClientStatus,
) {
    let is_known = resources.contains_key(&name);
    if !is_known && resources.values().filter(|s| s.good.is_none()).count() >= ERROR_ONLY_MAX {
        return;
    }
    let stored = resources.entry(name).or_default();
    stored.last_error = Some(error);
    stored.status = status;
}
