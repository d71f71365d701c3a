//! Listeners: the active version of each, and the one that waits for its routes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::clusters::Dirt;
use super::references::ListenerReferences;
use super::references::secrets_of_listener;
use super::tables::TABLE_WAITS;
use super::tables::Tables;
use super::waits::Waits;
use crate::config::Listener;
use crate::config::Name;
use crate::config::Snapshot;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretRef;

/// Invariant: a slot has an active or a pending listener.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    slots: BTreeMap<Name, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    active: Option<Entry>,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Entry {
    listener: Arc<Listener>,
    references: ListenerReferences,
}

#[derive(Debug)]
struct Pending {
    entry: Entry,
    /// When it stops waiting for route tables that have not arrived.
    tables_until: Option<Duration>,
    /// When it stops waiting for clusters.
    clusters_until: Duration,
    is_late: bool,
}

impl Listeners {
    pub(super) fn upsert(
        &mut self,
        name: Name,
        listener: Arc<Listener>,
        fetch_timeout: Option<Duration>,
        now: Duration,
    ) {
        let references = ListenerReferences::new(&listener);
        let slot = self.slots.entry(name).or_default();
        let mut pending = Pending {
            entry: Entry {
                listener,
                references,
            },
            tables_until: fetch_timeout.map(|t| now + t),
            clusters_until: now + TABLE_WAITS,
            is_late: false,
        };
        // The wait of the version it replaces goes on, or a busy control plane starves it.
        if let Some(old) = &slot.pending {
            pending.clusters_until = old.clusters_until;
            if old.entry.references.tables == pending.entry.references.tables {
                pending.tables_until = old.tables_until;
                pending.is_late = old.is_late;
            }
        }
        slot.pending = Some(pending);
    }

    pub(super) fn remove(&mut self, name: &Name, dirt: &mut Dirt) {
        if let Some(slot) = self.slots.remove(name) {
            dirt.snapshot |= slot.active.is_some();
        }
    }

    /// Makes every pending listener active whose routes and secrets are there, or were waited for
    /// long enough; says whether there was one.
    pub(super) fn settle(
        &mut self,
        tables: &mut Tables,
        waits: &mut Waits,
        (is_cluster_active, has_secret): (impl Fn(&str) -> bool, impl Fn(&SecretKey) -> bool),
        now: Duration,
        dirt: &mut Dirt,
    ) -> bool {
        let mut has_changed = false;
        for slot in self.slots.values_mut() {
            let Some(pending) = &mut slot.pending else {
                continue;
            };
            pending.is_late |= pending.tables_until.is_some_and(|at| at <= now);
            let references = &pending.entry.references;
            let has_clusters = waits.are_over(&references.clusters, &is_cluster_active, now)
                || pending.clusters_until <= now;
            let is_settled = |name| tables.is_settled(name, pending.is_late);
            let has_secrets =
                secrets_of_listener(&pending.entry.listener).all(|named| has_secret(&named.key));
            if !has_clusters || !has_secrets || !references.tables.iter().all(is_settled) {
                continue;
            }
            for name in &references.tables {
                tables.fill_in(name);
            }
            slot.active = slot.pending.take().map(|p| p.entry);
            has_changed = true;
        }
        dirt.snapshot |= has_changed;
        has_changed
    }

    /// Every table some listener names, active or pending.
    pub(super) fn tables(&self) -> BTreeSet<Name> {
        let entries = self.slots.values().flat_map(|slot| {
            let pending = slot.pending.iter().map(|p| &p.entry);
            slot.active.iter().chain(pending)
        });
        entries
            .flat_map(|e| e.references.tables.iter().cloned())
            .collect()
    }

    /// Every secret some listener names, active or pending.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let slots = self.slots.values();
        let listeners = slots.flat_map(|slot| {
            let pending = slot.pending.iter().map(|p| &p.entry);
            slot.active.iter().chain(pending)
        });
        listeners.flat_map(|entry| secrets_of_listener(&entry.listener))
    }

    /// The secrets that are not there, and who names them.
    pub(super) fn missing_secrets(
        &self,
        is_there: impl Fn(&SecretKey) -> bool,
    ) -> impl Iterator<Item = String> {
        self.slots.iter().flat_map(move |(name, slot)| {
            let pending = slot.pending.iter().map(|p| &p.entry);
            let entries = slot.active.iter().chain(pending);
            let named = entries.flat_map(|entry| secrets_of_listener(&entry.listener));
            let missing: BTreeSet<&SecretKey> = named
                .map(|named| &named.key)
                .filter(|key| !is_there(key))
                .collect();
            let lines = missing.into_iter();
            lines.map(move |key| format!("listener {name}: {key}"))
        })
    }

    /// Clusters named in the tables inside live listeners.
    pub(super) fn active_clusters(&self) -> impl Iterator<Item = &Name> {
        let active = self.slots.values().filter_map(|s| s.active.as_ref());
        active.flat_map(|e| &e.references.clusters)
    }

    /// Clusters named in the tables inside waiting listeners.
    pub(super) fn pending_clusters(&self) -> impl Iterator<Item = &Name> {
        let pending = self.slots.values().filter_map(|s| s.pending.as_ref());
        pending.flat_map(|p| &p.entry.references.clusters)
    }

    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        for (name, slot) in &self.slots {
            if let Some(entry) = &slot.active {
                snapshot
                    .listeners
                    .insert(name.clone(), Arc::clone(&entry.listener));
            }
        }
    }

    /// Listeners that never were active, and what they wait for.
    pub(super) fn waiting_for(
        &self,
        tables: &Tables,
        is_active: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut out = Vec::new();
        for (name, slot) in self.slots.iter().filter(|(_, s)| s.active.is_none()) {
            let Some(pending) = &slot.pending else {
                continue;
            };
            let references = &pending.entry.references;
            for table in references
                .tables
                .iter()
                .filter(|t| !tables.is_settled(t, pending.is_late))
            {
                out.push(format!(
                    "listener {name}: {}",
                    tables.waiting_for(table, &is_active)
                ));
            }
            for cluster in references.clusters.iter().filter(|c| !is_active(c)) {
                out.push(format!("listener {name}: cluster {cluster}"));
            }
        }
        out
    }

    pub(super) fn has_unserved(&self) -> bool {
        self.slots.values().any(|s| s.active.is_none())
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let pending = self.slots.values().filter_map(|s| s.pending.as_ref());
        pending.flat_map(|p| {
            let tables = p.tables_until.filter(|_| !p.is_late);
            let has_clusters = !p.entry.references.clusters.is_empty();
            tables
                .into_iter()
                .chain(has_clusters.then_some(p.clusters_until))
        })
    }
}
