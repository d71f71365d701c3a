//! Facts about the conversation with the control plane, for admin and statistics to read.
//!
//! Written by the driver only. Nothing on the data path reads it, so plain mutexes are fine; none is
//! held across an await.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::SystemTime;

use super::resource::ResourceType;
use super::store::Store;
use crate::config::secret::SecretSource;

/// Facts about one resource type; the names are Envoy's (B-11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Attempts: responses and failed connections.
    pub update_attempt: u64,
    /// Responses accepted.
    pub update_success: u64,
    /// Connections lost or refused.
    pub update_failure: u64,
    /// Responses refused.
    pub update_rejected: u64,
    /// Resources that did not come in time.
    pub init_fetch_timeout: u64,
    /// Version last accepted.
    pub version: String,
    /// When something was last accepted.
    pub update_time: Option<SystemTime>,
    /// Why the last response was refused, or the last connection failed.
    pub last_error: Option<String>,
}

/// What [`XdsStatus`] says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A stream to the control plane stands (`control_plane.connected_state`).
    pub connected_state: bool,
    /// Who it says it is (`control_plane.identifier`).
    pub identifier: String,
    /// Since when no control plane has confirmed what is in force, if none does now.
    pub stale_since: Option<SystemTime>,
    /// What is in force was read from disk, and no control plane was there since.
    pub is_restored: bool,
    /// Everything needed to start has arrived, or was waited for long enough.
    pub is_initialized: bool,
    /// What is still waited for, one line each.
    pub waiting_for: Vec<String>,
    /// By type.
    pub types: BTreeMap<ResourceType, TypeStatus>,
}

/// The state of the xDS client, shared with whoever shows it.
#[derive(Debug, Default)]
pub struct XdsStatus {
    facts: Mutex<Facts>,
    store: Mutex<Store>,
    secrets: Mutex<SecretStores>,
}

/// Secrets that do not come over the aggregated stream, by source.
pub type SecretStores = BTreeMap<SecretSource, Store>;

impl XdsStatus {
    /// A copy of the facts.
    pub fn facts(&self) -> Facts {
        self.lock_facts().clone()
    }

    /// Everything needed to start has arrived, or was waited for long enough.
    pub fn is_initialized(&self) -> bool {
        self.lock_facts().is_initialized
    }

    /// Lets `read` look at the resources received. The driver waits meanwhile: be quick.
    pub fn with_store<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.lock_store())
    }

    /// Lets `read` look at the secrets of other sources. The driver waits meanwhile: be quick.
    pub fn with_secrets<T>(&self, read: impl FnOnce(&SecretStores) -> T) -> T {
        read(&self.lock_secrets())
    }

    pub(super) fn update_secrets<T>(&self, write: impl FnOnce(&mut SecretStores) -> T) -> T {
        write(&mut self.lock_secrets())
    }

    pub(super) fn update(&self, write: impl FnOnce(&mut Facts)) {
        write(&mut self.lock_facts());
    }

    pub(super) fn update_type(&self, t: ResourceType, write: impl FnOnce(&mut TypeStatus)) {
        write(self.lock_facts().types.entry(t).or_default());
    }

    pub(super) fn update_store<T>(&self, write: impl FnOnce(&mut Store) -> T) -> T {
        write(&mut self.lock_store())
    }

    // A reader that panicked has changed nothing, so a poisoned lock is as good as any.
    fn lock_facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_secrets(&self) -> MutexGuard<'_, SecretStores> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
