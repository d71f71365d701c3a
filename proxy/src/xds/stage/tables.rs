//! Route tables that come by RDS: the active version of each, and the one that waits for its
//! clusters (C-76).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::clusters::Dirt;
use super::references::clusters_of_routes;
use super::waits::Waits;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::Snapshot;

/// Longest time a new route table waits for clusters it names. After that it is right to say 503
/// for one route rather than to withhold the others.
pub const TABLE_WAITS: Duration = Duration::from_secs(15);

/// Invariant: there is a slot exactly for every name some listener, active or pending, names.
#[derive(Debug, Default)]
pub(super) struct Tables {
    slots: BTreeMap<Name, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    active: Option<Table>,
    pending: Option<(Table, Duration)>,
    /// The control plane says there is none.
    is_missing: bool,
}

#[derive(Debug)]
struct Table {
    routes: Arc<RouteConfig>,
    clusters: BTreeSet<Name>,
}

impl Tables {
    pub(super) fn upsert(&mut self, name: &Name, routes: Arc<RouteConfig>, now: Duration) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let clusters = clusters_of_routes(&routes);
        // The wait of the version it replaces goes on, or a busy control plane starves it.
        let deadline = slot
            .pending
            .as_ref()
            .map_or(now + TABLE_WAITS, |(_, at)| *at);
        slot.pending = Some((Table { routes, clusters }, deadline));
        slot.is_missing = false;
    }

    /// The control plane has no such table. One that is in use stays, as in Envoy.
    pub(super) fn mark_missing(&mut self, name: &Name) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.is_missing = true;
        }
    }

    /// Keeps exactly the tables of these names.
    pub(super) fn want(&mut self, names: &BTreeSet<Name>, dirt: &mut Dirt) {
        self.slots.retain(|name, slot| {
            let is_wanted = names.contains(name);
            dirt.snapshot |= !is_wanted && slot.active.is_some();
            is_wanted
        });
        for name in names {
            if !self.slots.contains_key(name) {
                self.slots.insert(name.clone(), Slot::default());
            }
        }
    }

    /// Makes every pending table active whose clusters are there, or were waited for long enough;
    /// says whether there was one.
    pub(super) fn settle(
        &mut self,
        waits: &mut Waits,
        is_cluster_active: impl Fn(&str) -> bool,
        now: Duration,
        dirt: &mut Dirt,
    ) -> bool {
        let mut has_changed = false;
        for slot in self.slots.values_mut() {
            let Some((table, deadline)) = &slot.pending else {
                continue;
            };
            let is_ready = waits.are_over(&table.clusters, &is_cluster_active, now);
            if is_ready || *deadline <= now {
                slot.active = slot.pending.take().map(|(table, _)| table);
                has_changed = true;
            }
        }
        dirt.snapshot |= has_changed;
        has_changed
    }

    /// The table is live, or it is known that there will be none for now.
    pub(super) fn is_settled(&self, name: &Name, is_late: bool) -> bool {
        self.slots.get(name).is_some_and(|slot| {
            slot.active.is_some() || (slot.pending.is_none() && (slot.is_missing || is_late))
        })
    }

    /// Gives a listener that will not wait any longer an empty table: it answers 404, as Envoy.
    pub(super) fn fill_in(&mut self, name: &Name) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.active.get_or_insert_with(|| Table::empty(name));
        }
    }

    /// A table with a TTL is over.
    pub(super) fn expire(&mut self, name: &Name, dirt: &mut Dirt) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.pending = None;
            slot.is_missing = true;
            if slot.active.is_some() {
                slot.active = Some(Table::empty(name));
                dirt.snapshot = true;
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.slots.keys()
    }

    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        for (name, slot) in &self.slots {
            if let Some(table) = &slot.active {
                snapshot
                    .routes
                    .insert(name.clone(), Arc::clone(&table.routes));
            }
        }
    }

    /// Clusters the live tables name.
    pub(super) fn active_clusters(&self) -> impl Iterator<Item = &Name> {
        self.slots
            .values()
            .filter_map(|s| s.active.as_ref())
            .flat_map(|t| &t.clusters)
    }

    /// Clusters the waiting tables name.
    pub(super) fn pending_clusters(&self) -> impl Iterator<Item = &Name> {
        self.slots
            .values()
            .filter_map(|s| s.pending.as_ref())
            .flat_map(|(t, _)| &t.clusters)
    }

    /// What a table that has no live version waits for.
    pub(super) fn waiting_for(&self, name: &Name, is_active: impl Fn(&str) -> bool) -> String {
        match self.slots.get(name).and_then(|s| s.pending.as_ref()) {
            Some((table, _)) => {
                let missing: Vec<&str> = table
                    .clusters
                    .iter()
                    .map(|c| &**c)
                    .filter(|c| !is_active(c))
                    .collect();
                format!("routes {name}: clusters {}", missing.join(", "))
            }
            None => format!("routes {name}"),
        }
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        self.slots
            .values()
            .filter_map(|s| s.pending.as_ref().map(|(_, at)| *at))
    }
}

impl Table {
    fn empty(name: &Name) -> Self {
        Self {
            routes: Arc::new(RouteConfig {
                name: name.clone(),
                ..RouteConfig::default()
            }),
            clusters: BTreeSet::new(),
        }
    }
}
