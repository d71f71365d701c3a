//! The current snapshot of every group, and who waits for the next one.
//!
//! A commit replaces what one source says, for all groups at once; it is checked whole before any
//! of it becomes visible. Readers never wait for a commit being built. Keeps no history yet.
//!
//! Policies that were changed by hand ([`crate::balancing`]) stand over the clusters of all sources.
//!
//! A node belongs to the group named like its `node.id`, else like its `node.cluster`, else to the
//! unnamed group that holds only what everybody gets.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;

use tokio::sync::watch;

use crate::balancing::Change;
use crate::balancing::Changed;
use crate::balancing::Overrides;
use crate::balancing::Refused;
use crate::balancing::kept::Kept;
use crate::balancing::rewrite;
use crate::limits::NAMES_TOLD_MAX;
use crate::resource::Resource;
use crate::snapshot::Dangling;
use crate::snapshot::Duplicate;
use crate::snapshot::Snapshot;
use crate::types;

/// Everything one source wants served: by group, the empty name for everybody.
pub type Desired = BTreeMap<String, Vec<Arc<Resource>>>;

/// Shared handle to the state.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Inner>);

/// What one group is served; `None` before the first commit.
type Current = watch::Sender<Option<Arc<Snapshot>>>;

#[derive(Debug, Default)]
struct Inner {
    writer: Mutex<Writer>,
    groups: RwLock<HashMap<Arc<str>, Current>>,
}

#[derive(Debug, Default)]
struct Writer {
    epoch: u64,
    lineages: u64,
    sources: BTreeMap<String, Desired>,
    current: BTreeMap<Arc<str>, Snapshot>,
    overrides: Overrides,
    /// Where those outlive the process, if anywhere.
    kept: Option<Kept>,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Number of the commit.
    pub epoch: u64,
    /// Groups whose snapshot changed.
    pub changed: Vec<Arc<str>>,
    /// References that lead nowhere.
    pub dangling: Vec<Dangling>,
}

impl Store {
    /// A store nothing was committed to: clients get no answer, and keep what they have.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces everything `source` said before. All groups change or none does.
    ///
    /// # Errors
    /// When a name would exist twice for some group; nothing changes then.
    pub fn commit(&self, source: &str, desired: Desired) -> Result<Committed, Duplicate> {
        self.commit_locked(&mut self.writer(), source, desired)
    }

    /// Replaces what `source` said for one group, leaving the others.
    ///
    /// # Errors
    /// When a name would exist twice for some group; nothing changes then.
    pub fn commit_group(
        &self,
        source: &str,
        group: &str,
        resources: Vec<Arc<Resource>>,
    ) -> Result<Committed, Duplicate> {
        let mut writer = self.writer();
        let mut desired = writer.sources.get(source).cloned().unwrap_or_default();
        desired.insert(group.to_owned(), resources);
        self.commit_locked(&mut writer, source, desired)
    }

    /// Keeps changed policies in a directory from now on, and takes in those that are there. For the
    /// time before anything is committed.
    pub(crate) fn keep(&self, (kept, overrides): (Kept, Overrides)) {
        let mut writer = self.writer();
        writer.kept = Some(kept);
        writer.overrides = overrides;
    }

    /// Changes how a cluster balances, whatever its sources say. Waits for the disk.
    ///
    /// # Errors
    /// When the change cannot be; nothing changes then.
    pub fn change_policy(
        &self,
        cluster: &str,
        version: u64,
        change: &Change,
    ) -> Result<Changed, Refused> {
        change.check()?;
        let mut writer = self.writer();
        let is_durable = writer.kept.is_some();
        let changed = |overrides: &Overrides, is_new| Changed {
            now: overrides.get(cluster).cloned().unwrap_or_default(),
            is_new,
            is_durable,
        };
        let Some(next) = writer.overrides.with(cluster, version, change)? else {
            return Ok(changed(&writer.overrides, false));
        };
        writer.check(cluster, &next)?;
        if let Some(kept) = &writer.kept {
            kept.save(&next).map_err(|source| Refused::NotKept {
                path: kept.path().display().to_string(),
                source,
            })?;
        }
        let now = changed(&next, true);
        writer.overrides = next;
        if !writer.current.is_empty() {
            // No name is new, so none is there twice.
            if let Ok(snapshots) = writer.build() {
                self.publish(&mut writer, snapshots);
            }
        }
        Ok(now)
    }

    /// Policies that stand over what was written.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        self.writer().overrides.clone()
    }

    /// The group a node belongs to at this moment.
    #[must_use]
    pub fn group_of(&self, node_id: &str, node_cluster: &str) -> Arc<str> {
        let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
        let named = [node_id, node_cluster].into_iter().find_map(|name| {
            if name.is_empty() {
                None
            } else {
                groups.get_key_value(name)
            }
        });
        named.map_or_else(|| Arc::from(""), |(group, _)| Arc::clone(group))
    }

    /// Follows a group. The value is `None` until the first commit; the channel closes when the
    /// group disappears, and wakes without a change when a group appears.
    #[must_use]
    pub fn watch(&self, group: &str) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut groups = self
            .0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let name = if groups.contains_key(group) {
            group
        } else {
            ""
        };
        groups
            .entry(Arc::from(name))
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe()
    }

    /// The current snapshot of every group.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups
            .values()
            .filter_map(|sender| sender.borrow().clone())
            .collect()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_locked(
        &self,
        writer: &mut Writer,
        source: &str,
        desired: Desired,
    ) -> Result<Committed, Duplicate> {
        let previous = writer.sources.insert(source.to_owned(), desired);
        match writer.build() {
            Ok(next) => Ok(self.publish(writer, next)),
            Err(duplicate) => {
                match previous {
                    Some(previous) => writer.sources.insert(source.to_owned(), previous),
                    None => writer.sources.remove(source),
                };
                Err(duplicate)
            }
        }
    }

    fn publish(&self, writer: &mut Writer, next: BTreeMap<Arc<str>, Snapshot>) -> Committed {
        let epoch = writer.epoch;
        let mut groups = self
            .0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let known = groups.len();
        // Dropping the sender tells the group's clients to look for another group.
        groups.retain(|name, _| next.contains_key(name));
        let is_regrouping = groups.len() != known || next.len() != known;
        let mut changed = Vec::new();
        for (name, snapshot) in &next {
            let sender = groups
                .entry(Arc::clone(name))
                .or_insert_with(|| watch::Sender::new(None));
            let is_new = sender
                .borrow()
                .as_ref()
                .is_none_or(|s| s.epoch() != snapshot.epoch());
            if is_new {
                sender.send_replace(Some(Arc::new(snapshot.clone())));
                changed.push(Arc::clone(name));
            } else if is_regrouping {
                sender.send_modify(|_| ());
            }
        }
        drop(groups);
        let dangling = next.values().flat_map(Snapshot::dangling).collect();
        writer.current = next;
        Committed {
            epoch,
            changed,
            dangling: dedup(dangling),
        }
    }
}

impl Writer {
    /// Every cluster, as its sources wrote it.
    fn written(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let all = self.sources.values().flat_map(BTreeMap::values).flatten();
        all.filter(|resource| &**resource.type_url() == types::CLUSTER)
    }

    /// Clusters whose policy was changed, by what was written.
    fn changed(&self) -> HashMap<*const Resource, Arc<Resource>> {
        let changed = |resource: &Arc<Resource>| {
            let over = self.overrides.get(resource.name())?;
            let changed = rewrite::rewritten(resource, over)?;
            Some((Arc::as_ptr(resource), Arc::new(changed)))
        };
        self.written().filter_map(changed).collect()
    }

    /// Whether what stands over a cluster can. Whether it is there does not matter for nothing.
    fn check(&self, cluster: &str, overrides: &Overrides) -> Result<(), Refused> {
        let over = overrides.get(cluster).cloned().unwrap_or_default();
        let mut is_known = over.is_empty();
        for resource in self.written().filter(|each| &**each.name() == cluster) {
            rewrite::check(resource, &over)?;
            is_known = true;
        }
        if is_known {
            return Ok(());
        }
        let mut names: Vec<&str> = self.written().map(|resource| &**resource.name()).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len() > NAMES_TOLD_MAX;
        names.truncate(NAMES_TOLD_MAX);
        let mut known = names.join(", ");
        if more {
            known.push_str(", ...");
        }
        Err(Refused::Unknown {
            cluster: cluster.to_owned(),
            known,
        })
    }

    /// The next snapshot of every group any source names.
    fn build(&mut self) -> Result<BTreeMap<Arc<str>, Snapshot>, Duplicate> {
        let epoch = self.epoch + 1;
        let mut names: Vec<&str> = self
            .sources
            .values()
            .flat_map(|d| d.keys().map(|k| &**k))
            .collect();
        names.push("");
        names.sort_unstable();
        names.dedup();
        let changed = self.changed();
        let mut lineages = self.lineages;
        let mut next = BTreeMap::new();
        for name in names {
            let empty;
            let previous = if let Some(snapshot) = self.current.get(name) {
                snapshot
            } else {
                lineages += 1;
                empty = Snapshot::empty(Arc::from(name), lineages);
                &empty
            };
            let parts = self.sources.values().flat_map(|desired| {
                let own = if name.is_empty() {
                    None
                } else {
                    desired.get(name)
                };
                desired.get("").into_iter().chain(own).flatten()
            });
            let parts = parts.map(|part| changed.get(&Arc::as_ptr(part)).unwrap_or(part));
            let snapshot = previous.next(parts, epoch)?;
            next.insert(Arc::clone(snapshot.group()), snapshot);
        }
        self.lineages = lineages;
        self.epoch = epoch;
        Ok(next)
    }
}

/// Every group repeats what the shared part lacks; people want to read it once.
fn dedup(mut dangling: Vec<Dangling>) -> Vec<Dangling> {
    let key = |d: &Dangling| (d.origin.clone(), d.from.clone(), d.to_type, d.to.clone());
    dangling.sort_by_cached_key(key);
    dangling.dedup();
    dangling
}

#[cfg(test)]
mod tests {
    use xds_proto::pb::google::protobuf::Any;

    use super::*;

    fn resource(name: &str, body: &str) -> Arc<Resource> {
        let any = Any {
            type_url: "t".to_owned(),
            value: body.as_bytes().to_vec(),
        };
        Arc::new(Resource::named(&any, name).unwrap())
    }

    fn desired(parts: &[(&str, &[(&str, &str)])]) -> Desired {
        let set = |set: &[(&str, &str)]| set.iter().map(|(n, b)| resource(n, b)).collect();
        parts
            .iter()
            .map(|(group, resources)| ((*group).to_owned(), set(resources)))
            .collect()
    }

    fn names(watch: &watch::Receiver<Option<Arc<Snapshot>>>) -> Vec<String> {
        let snapshot = watch.borrow().clone().unwrap();
        snapshot
            .set("t")
            .unwrap()
            .iter()
            .map(|r| r.name().to_string())
            .collect()
    }

    #[test]
    fn groups_see_what_everybody_sees_and_their_own() {
        let store = Store::new();
        assert!(store.watch("").borrow().is_none());
        store
            .commit(
                "f",
                desired(&[("", &[("all", "1")]), ("edge", &[("own", "1")])]),
            )
            .unwrap();
        assert_eq!(&*store.group_of("node-1", "edge"), "edge");
        assert_eq!(&*store.group_of("edge", "other"), "edge");
        assert_eq!(&*store.group_of("node-1", "other"), "");
        assert_eq!(names(&store.watch("edge")), ["all", "own"]);
        assert_eq!(names(&store.watch("")), ["all"]);
    }

    #[test]
    fn only_changed_groups_wake() {
        let store = Store::new();
        store
            .commit("f", desired(&[("x", &[("a", "1")]), ("y", &[("b", "1")])]))
            .unwrap();
        let (x, y) = (store.watch("x"), store.watch("y"));
        let done = store.commit("f", desired(&[("x", &[("a", "2")]), ("y", &[("b", "1")])]));
        assert_eq!(done.unwrap().changed, [Arc::from("x")]);
        assert!(x.has_changed().unwrap());
        assert!(!y.has_changed().unwrap());
    }

    #[test]
    fn a_duplicate_changes_nothing() {
        let store = Store::new();
        store.commit("f", desired(&[("", &[("a", "1")])])).unwrap();
        let watch = store.watch("");
        let two = desired(&[("", &[("b", "1")]), ("g", &[("c", "1"), ("c", "2")])]);
        assert_eq!(&*store.commit("f", two).unwrap_err().name, "c");
        assert_eq!(
            &*store
                .commit_group("push", "", vec![resource("a", "9")])
                .unwrap_err()
                .name,
            "a"
        );
        assert!(!watch.has_changed().unwrap());
        assert_eq!(names(&watch), ["a"]);
        store
            .commit_group("push", "", vec![resource("d", "1")])
            .unwrap();
        assert_eq!(names(&watch), ["a", "d"]);
    }

    #[test]
    fn clients_learn_that_groups_come_and_go() {
        let store = Store::new();
        store.commit("f", desired(&[("", &[("a", "1")])])).unwrap();
        let shared = store.watch("");
        store
            .commit("f", desired(&[("", &[("a", "1")]), ("g", &[("b", "1")])]))
            .unwrap();
        assert!(shared.has_changed().unwrap());
        let own = store.watch("g");
        store.commit("f", desired(&[("", &[("a", "1")])])).unwrap();
        assert!(own.has_changed().is_err());
        assert_eq!(&*store.group_of("g", ""), "");
    }
}
