//! Live route tables: compiled again only if their configuration, or a cluster they name, is another
//! one than before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::apply::clusters::Clusters;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::Snapshot;
use crate::config::route::Action;
use crate::config::route::ClusterSpecifier;
use crate::http::connection_manager::RouteHandle;
use crate::http::router::RouteTable;
use crate::upstream::ClusterHandle;

/// Live route tables by RDS name.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<Name, LiveTable>);

/// A table's cell, with what it was compiled from.
#[derive(Debug)]
pub(super) struct LiveTable {
    pub(super) handle: RouteHandle,
    config: Arc<RouteConfig>,
    uses: BTreeMap<Name, Option<ClusterHandle>>,
}

impl LiveTable {
    /// Compiles `config` for the first time.
    pub(super) fn new(config: &Arc<RouteConfig>, clusters: &Clusters) -> Self {
        let table = RouteTable::new(Arc::clone(config), |name| clusters.get(name).cloned());
        let uses = uses(config, clusters);
        Self {
            handle: RouteHandle::new(table),
            config: Arc::clone(config),
            uses,
        }
    }

    /// Compiles again if something changed.
    pub(super) fn update(&mut self, config: &Arc<RouteConfig>, clusters: &Clusters) {
        let changed = !Arc::ptr_eq(&self.config, config);
        if !changed
            && self
                .uses
                .iter()
                .all(|(name, before)| same(before.as_ref(), clusters.get(name)))
        {
            return;
        }
        self.handle
            .store(RouteTable::new(Arc::clone(config), |name| {
                clusters.get(name).cloned()
            }));
        self.uses = uses(config, clusters);
        self.config = Arc::clone(config);
    }
}

impl Tables {
    /// Makes every table of `snapshot` live, as it is there.
    pub(super) fn update(&mut self, snapshot: &Snapshot, clusters: &Clusters) {
        for (name, config) in &snapshot.routes {
            match self.0.get_mut(name) {
                Some(table) => table.update(config, clusters),
                None => {
                    self.0
                        .insert(Arc::clone(name), LiveTable::new(config, clusters));
                }
            }
        }
    }

    /// Ends the tables that are not in `snapshot`; who still holds one keeps it.
    pub(super) fn remove(&mut self, snapshot: &Snapshot) {
        self.0.retain(|name, _| snapshot.routes.contains_key(name));
    }

    /// The cell of a table; one that answers nothing if it is not there.
    pub(super) fn handle(&self, name: &Name) -> RouteHandle {
        if let Some(table) = self.0.get(name) {
            return table.handle.clone();
        }
        let config = RouteConfig {
            name: Arc::clone(name),
            ..RouteConfig::default()
        };
        RouteHandle::new(RouteTable::new(Arc::new(config), |_| None))
    }
}

fn same(before: Option<&ClusterHandle>, now: Option<&ClusterHandle>) -> bool {
    match (before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => before.is_same(now),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn uses(config: &RouteConfig, clusters: &Clusters) -> BTreeMap<Name, Option<ClusterHandle>> {
    let mut uses = BTreeMap::new();
    let mut add = |name: &Name| {
        uses.insert(Arc::clone(name), clusters.get(name).cloned());
    };
    for route in config.virtual_hosts.iter().flat_map(|host| &host.routes) {
        let Action::Forward(forward) = &route.action else {
            continue;
        };
        match &forward.cluster {
            ClusterSpecifier::Cluster(name) => add(name),
            ClusterSpecifier::Weighted(choices) => {
                choices.iter().for_each(|choice| add(&choice.name));
            }
        }
    }
    uses
}
