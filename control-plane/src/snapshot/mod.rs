//! What one node group is served: an immutable set per type, with the log of what changed.
//!
//! A client that has seen an older set of the same group finds the difference in the log, at a
//! cost of the changes alone; one that is further behind compares the sets. Sets that did not
//! change are shared between snapshots. Does not decide who is served.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::limits::CHANGE_LOG_MAX;
use crate::resource::Reference;
use crate::resource::Resource;
use crate::resource::Version;

/// All resources of one type for one group.
#[derive(Default)]
pub struct TypeSet {
    resources: BTreeMap<Arc<str>, Arc<Resource>>,
    version: Option<Version>,
    lineage: u64,
    epoch: u64,
    log: VecDeque<(u64, Arc<str>)>,
    log_floor: u64,
    has_ttl: bool,
}

impl TypeSet {
    /// The resource of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// All resources, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The version of the whole set.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version.unwrap_or_else(|| Version::of_set([]))
    }

    /// Whether any resource expires.
    #[must_use]
    pub fn has_ttl(&self) -> bool {
        self.has_ttl
    }

    /// Names whose content differs between `older` and `self`.
    #[must_use]
    pub fn changed_since(&self, older: &Self) -> Vec<Arc<str>> {
        if std::ptr::eq(self, older) {
            return Vec::new();
        }
        let same_line = self.lineage == older.lineage && self.lineage != 0;
        if same_line && older.epoch <= self.epoch && older.epoch >= self.log_floor {
            let recent = self
                .log
                .iter()
                .rev()
                .take_while(|(epoch, _)| *epoch > older.epoch);
            let names: BTreeSet<&Arc<str>> = recent.map(|(_, name)| name).collect();
            return names
                .into_iter()
                .filter(|name| self.differs(older, name))
                .cloned()
                .collect();
        }
        self.compare(older)
    }

    fn compare(&self, older: &Self) -> Vec<Arc<str>> {
        let names: BTreeSet<&Arc<str>> = self
            .resources
            .keys()
            .chain(older.resources.keys())
            .collect();
        names
            .into_iter()
            .filter(|name| self.differs(older, name))
            .cloned()
            .collect()
    }

    fn differs(&self, older: &Self, name: &str) -> bool {
        match (self.find(name), older.find(name)) {
            (Some(new), Some(old)) => !Arc::ptr_eq(new, old) && !new.is_same(old),
            (None, None) => false,
            _ => true,
        }
    }

    /// The set that follows `self`, or `None` when nothing changed.
    fn next(
        &self,
        mut resources: BTreeMap<Arc<str>, Arc<Resource>>,
        at: (u64, u64),
    ) -> Option<Self> {
        let (lineage, epoch) = at;
        for (name, resource) in &mut resources {
            // One allocation per content, and pointer equality for the comparison below.
            if let Some(old) = self.find(name).filter(|old| old.is_same(resource)) {
                *resource = Arc::clone(old);
            }
        }
        let mut next = Self {
            version: Some(Version::of_set(resources.values().map(|r| r.version()))),
            has_ttl: resources.values().any(|r| r.ttl().is_some()),
            resources,
            lineage,
            epoch,
            log: self.log.clone(),
            log_floor: self.log_floor,
        };
        let changed = next.compare(self);
        if changed.is_empty() {
            return None;
        }
        next.append(changed);
        Some(next)
    }

    fn append(&mut self, changed: Vec<Arc<str>>) {
        let epoch = self.epoch;
        self.log
            .extend(changed.into_iter().map(|name| (epoch, name)));
        while self.log.len() > CHANGE_LOG_MAX {
            if let Some((dropped, _)) = self.log.pop_front() {
                self.log_floor = dropped;
            }
        }
    }
}

impl fmt::Debug for TypeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Everything one group is served.
#[derive(Clone, Debug)]
pub struct Snapshot {
    group: Arc<str>,
    lineage: u64,
    epoch: u64,
    types: BTreeMap<Arc<str>, Arc<TypeSet>>,
}

/// One name written twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{type_url} \"{name}\" is defined twice for {}: {first} and {second}",
    group_label(group)
)]
pub struct Duplicate {
    /// Type of both.
    pub type_url: Arc<str>,
    /// Name of both.
    pub name: Arc<str>,
    /// Group that would see both; empty for everybody.
    pub group: Arc<str>,
    /// Where one stands.
    pub first: String,
    /// Where the other stands.
    pub second: String,
}

/// A reference that leads nowhere. Served all the same: the target may live in another source, and
/// the client handles its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// Where the reference stands.
    pub origin: String,
    /// Type of the resource that refers.
    pub from_type: Arc<str>,
    /// Its name.
    pub from: Arc<str>,
    /// Type that is missing.
    pub to_type: &'static str,
    /// Name that is missing.
    pub to: Arc<str>,
}

impl fmt::Display for Dangling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            from_type,
            from,
            to_type,
            to,
        } = self;
        let (from_type, to_type) = (short_type(from_type), short_type(to_type));
        write!(
            f,
            "{origin}: {from_type} \"{from}\" names {to_type} \"{to}\", which is missing"
        )
    }
}

impl Snapshot {
    /// A group without any resource yet.
    #[must_use]
    pub fn empty(group: Arc<str>, lineage: u64) -> Self {
        Self {
            group,
            lineage,
            epoch: 0,
            types: BTreeMap::new(),
        }
    }

    /// The snapshot that follows `self` when the group's resources are exactly `resources`.
    ///
    /// # Errors
    /// When a name occurs twice within a type.
    pub fn next<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a Arc<Resource>>,
        epoch: u64,
    ) -> Result<Self, Duplicate> {
        let mut by_type: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<Resource>>> = BTreeMap::new();
        for resource in resources {
            let set = by_type.entry(Arc::clone(resource.type_url())).or_default();
            if let Some(first) = set.insert(Arc::clone(resource.name()), Arc::clone(resource)) {
                return Err(self.duplicate(&first, resource));
            }
        }
        // A type whose last resource went away stays, so that its log tells of the removals.
        for type_url in self.types.keys() {
            by_type.entry(Arc::clone(type_url)).or_default();
        }
        let mut next = self.clone();
        let none = TypeSet::default();
        for (type_url, resources) in by_type {
            let old = self.types.get(&type_url).map_or(&none, |set| &**set);
            if let Some(set) = old.next(resources, (self.lineage, epoch)) {
                next.types.insert(type_url, Arc::new(set));
                next.epoch = epoch;
            }
        }
        Ok(next)
    }

    /// The same with `own` resources of one type for one client alone. What is in the snapshot wins:
    /// somebody wrote it there.
    #[must_use]
    pub fn overlaid(&self, type_url: &str, own: &[Arc<Resource>]) -> Self {
        let shared = self.types.get(type_url);
        let mut resources = shared.map(|set| set.resources.clone()).unwrap_or_default();
        for resource in own {
            let name = Arc::clone(resource.name());
            resources
                .entry(name)
                .or_insert_with(|| Arc::clone(resource));
        }
        // Without a lineage, so that any two of these are compared whole; they are small.
        let set = TypeSet {
            version: Some(Version::of_set(resources.values().map(|r| r.version()))),
            has_ttl: resources.values().any(|r| r.ttl().is_some()),
            resources,
            ..TypeSet::default()
        };
        let mut overlaid = self.clone();
        overlaid.types.insert(Arc::from(type_url), Arc::new(set));
        overlaid
    }

    fn duplicate(&self, first: &Resource, second: &Resource) -> Duplicate {
        let place = |r: &Resource| r.origin().unwrap_or("an unnamed source").to_owned();
        Duplicate {
            type_url: Arc::clone(first.type_url()),
            name: Arc::clone(first.name()),
            group: Arc::clone(&self.group),
            first: place(first),
            second: place(second),
        }
    }

    /// The group; empty for nodes without one of their own.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// The commit that last changed anything here.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The resources of one type.
    #[must_use]
    pub fn set(&self, type_url: &str) -> Option<&Arc<TypeSet>> {
        self.types.get(type_url)
    }

    /// All types that have or had resources.
    pub fn types(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<TypeSet>)> {
        self.types.iter()
    }

    /// References to clusters, assignments, routes and secrets that are not in the snapshot.
    #[must_use]
    pub fn dangling(&self) -> Vec<Dangling> {
        let resources = self.types.values().flat_map(|set| set.iter());
        let references = resources.flat_map(|r| r.references().iter().map(move |to| (r, to)));
        let is_missing = |to: &Reference| {
            self.set(to.type_url)
                .is_none_or(|set| set.find(&to.name).is_none())
        };
        let missing = references.filter(|(_, to)| is_missing(to));
        let describe = |(from, to): (&Arc<Resource>, &Reference)| Dangling {
            origin: from.origin().unwrap_or("an unnamed source").to_owned(),
            from_type: Arc::clone(from.type_url()),
            from: Arc::clone(from.name()),
            to_type: to.type_url,
            to: Arc::clone(&to.name),
        };
        missing.map(describe).collect()
    }
}

/// The last part of a type URL, for people.
#[must_use]
pub fn short_type(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}

fn group_label(group: &str) -> String {
    if group.is_empty() {
        "everybody".to_owned()
    } else {
        format!("group \"{group}\"")
    }
}

#[cfg(test)]
mod tests;
