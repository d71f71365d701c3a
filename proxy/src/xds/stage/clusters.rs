//! Clusters and their members: which are warm, which are still warming, which are about to leave.
//!
//! It does not know who names a cluster; the stage tells it who may leave. Invariants: a slot has an
//! active or a warming cluster; `users` lists exactly the service names of all slots; `assignments`
//! holds only names of `users`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Cluster;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::Snapshot;
use crate::config::cluster::Discovery;
use crate::config::cluster::Dns;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretRef;
use crate::xds::resource::DnsQuery;
use crate::xds::stage::references::secrets_of_cluster;

/// How long a cluster still warms after the control plane said that its assignment does not exist. A
/// push that overtakes another takes the assignment away before the removal of its cluster is seen;
/// the next message sets that right within a round trip.
pub(super) const MISSING_WAITS: Duration = Duration::from_secs(2);

/// Longest time a removed cluster stays for the routes that still name it. A control plane that
/// removes before it reroutes is wrong for one push, rarely for longer; 15 s is what xDS clients
/// wait for anything.
pub const LEAVE_AFTER: Duration = Duration::from_secs(15);

/// What [`super::Stage`] has to hand out.
#[derive(Debug, Default)]
pub(super) struct Dirt {
    /// More than members changed.
    pub(super) snapshot: bool,
    /// A secret changed.
    pub(super) secrets: bool,
    /// Active clusters whose members changed.
    pub(super) members: BTreeSet<Name>,
}

#[derive(Debug, Default)]
pub(super) struct Clusters {
    slots: BTreeMap<Name, Slot>,
    /// Slots with a warming cluster, so that nothing scans all slots.
    warming: BTreeSet<Name>,
    /// Those of them for which something has changed since the last look.
    candidates: BTreeSet<Name>,
    /// Those of them whose members are to be checked, and are not yet.
    checking: BTreeSet<Name>,
    /// [`Self::checks`] may differ from what it was.
    has_new_checks: bool,
    /// Slots that are about to leave.
    leaving: BTreeSet<Name>,
    /// EDS, by service name.
    assignments: BTreeMap<Name, Assignment>,
    /// Service name to clusters.
    users: BTreeMap<Name, BTreeSet<Name>>,
}

#[derive(Debug, Default)]
struct Slot {
    active: Option<Active>,
    warming: Option<Warming>,
    leaves_at: Option<Duration>,
    /// Answers to the DNS queries of the active and the warming cluster.
    resolved: Vec<(Dns, Option<Arc<Endpoints>>)>,
}

#[derive(Debug)]
struct Active {
    cluster: Arc<Cluster>,
    members: Arc<Endpoints>,
}

#[derive(Debug)]
struct Warming {
    cluster: Arc<Cluster>,
    deadline: Option<Duration>,
    /// Its members were checked, or need not be.
    is_checked: bool,
}

#[derive(Debug)]
enum Assignment {
    Held(Arc<Endpoints>),
    /// The control plane says there is none.
    Missing,
}

impl Clusters {
    /// A new or changed cluster; `deadline` is when it is taken as warm though nothing arrived.
    pub(super) fn upsert(&mut self, name: Name, cluster: Arc<Cluster>, deadline: Option<Duration>) {
        self.unlink(&name);
        let slot = self.slots.entry(name.clone()).or_default();
        slot.leaves_at = None;
        self.leaving.remove(&name);
        if slot.active.as_ref().is_some_and(|a| a.cluster == cluster) {
            slot.warming = None;
            self.warming.remove(&name);
            self.has_new_checks |= self.checking.remove(&name);
        } else if slot.warming.as_ref().is_some_and(|w| w.cluster == cluster) {
            // The same again: what it waits for goes on.
        } else {
            // A cluster that is pushed again and again must not wait for ever.
            let deadline = match &slot.warming {
                Some(w) if w.cluster.discovery == cluster.discovery => w.deadline,
                _ => deadline,
            };
            let active = slot.active.as_ref();
            let is_checked = !cluster.checks_members()
                || active.is_some_and(|active| cluster.has_members_of(&active.cluster));
            slot.warming = Some(Warming {
                cluster,
                deadline,
                is_checked,
            });
            self.has_new_checks |= self.checking.remove(&name);
            self.warming.insert(name.clone());
            self.candidates.insert(name.clone());
        }
        slot.forget_unused_answers();
        self.link(&name);
    }

    /// The control plane took the cluster away. It stays for those who name it (see
    /// [`Self::dismiss`]).
    pub(super) fn remove(&mut self, name: &Name, now: Duration) {
        self.unlink(name);
        self.warming.remove(name);
        self.has_new_checks |= self.checking.remove(name);
        if let Some(slot) = self.slots.get_mut(name) {
            slot.warming = None;
            if slot.active.is_some() {
                slot.leaves_at.get_or_insert(now + LEAVE_AFTER);
                self.leaving.insert(name.clone());
            } else {
                self.slots.remove(name);
            }
        }
        self.link(name);
    }

    pub(super) fn assign(&mut self, service: &Name, endpoints: Arc<Endpoints>, dirt: &mut Dirt) {
        let Some(users) = self.users.get(service) else {
            return;
        };
        if let Some(Assignment::Held(old)) = self.assignments.get(service)
            && *old == endpoints
        {
            return;
        }
        for name in users {
            self.candidates.insert(name.clone());
            let active = self.slots.get_mut(name).and_then(|s| s.active.as_mut());
            if let Some(active) = active.filter(|a| a.cluster.service_name() == Some(service)) {
                active.members = Arc::clone(&endpoints);
                dirt.members.insert(name.clone());
            }
        }
        self.assignments
            .insert(service.clone(), Assignment::Held(endpoints));
    }

    /// The control plane has no such assignment. One that is in use stays, as in Envoy. Who warms
    /// waits a little longer: the answer may be about a later state than the cluster is of.
    pub(super) fn assignment_missing(&mut self, service: &Name, now: Duration) {
        if let Some(users) = self.users.get(service) {
            for name in users {
                let slot = self.slots.get_mut(name);
                if let Some(warming) = slot.and_then(|slot| slot.warming.as_mut()) {
                    let until = now + MISSING_WAITS;
                    warming.deadline = Some(warming.deadline.map_or(until, |at| at.min(until)));
                }
            }
            self.assignments
                .entry(service.clone())
                .or_insert(Assignment::Missing);
        }
    }

    /// The resolver's answer; `None` is a failure, which leaves what was known.
    pub(super) fn resolved(
        &mut self,
        query: &DnsQuery,
        endpoints: Option<Endpoints>,
        dirt: &mut Dirt,
    ) {
        let Some(slot) = self.slots.get_mut(&query.cluster) else {
            return;
        };
        let is_asked = slot.queries().any(|dns| *dns == query.dns);
        if !is_asked {
            return; // an answer to an older question
        }
        self.candidates.insert(query.cluster.clone());
        let at = slot.resolved.iter().position(|(dns, _)| *dns == query.dns);
        let entry = match at {
            Some(at) => &mut slot.resolved[at].1,
            None => {
                slot.resolved.push((query.dns.clone(), None));
                &mut slot.resolved.last_mut().expect("just pushed").1
            }
        };
        let Some(endpoints) = endpoints else {
            return;
        };
        if entry.as_ref().is_some_and(|old| **old == endpoints) {
            return;
        }
        let endpoints = Arc::new(endpoints);
        *entry = Some(Arc::clone(&endpoints));
        if let Some(active) = slot
            .active
            .as_mut()
            .filter(|a| a.cluster.dns() == Some(&query.dns))
        {
            active.members = endpoints;
            dirt.members.insert(query.cluster.clone());
        }
    }

    /// Time has passed: look at all that is warming at the next [`Self::settle`].
    pub(super) fn check_all(&mut self) {
        self.candidates.clone_from(&self.warming);
    }

    /// Makes every warming cluster that is warm by now active; says whether there was one.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        has_secret: impl Fn(&SecretKey) -> bool,
        dirt: &mut Dirt,
    ) -> bool {
        let mut has_warmed = false;
        for name in std::mem::take(&mut self.candidates) {
            if !self.has_secrets(&name, &has_secret) {
                continue;
            }
            if self.is_warm(&name, now) {
                self.activate(&name);
                has_warmed = true;
            } else if self.can_be_checked(&name) {
                self.checking.insert(name);
                self.has_new_checks = true; // or its members have changed
            }
        }
        dirt.snapshot |= has_warmed;
        has_warmed
    }

    fn is_warm(&self, name: &Name, now: Duration) -> bool {
        let Some((slot, warming)) = self
            .slots
            .get(name)
            .and_then(|s| Some((s, s.warming.as_ref()?)))
        else {
            return false;
        };
        let is_whole = slot.has_members(&self.assignments, &warming.cluster);
        is_whole && warming.is_checked || warming.deadline.is_some_and(|at| at <= now)
    }

    /// Its members are there, and nobody has checked them.
    fn can_be_checked(&self, name: &Name) -> bool {
        let slot = self.slots.get(name);
        slot.and_then(|slot| Some((slot, slot.warming.as_ref()?)))
            .is_some_and(|(slot, warming)| {
                !warming.is_checked && slot.has_members(&self.assignments, &warming.cluster)
            })
    }

    /// The clusters whose members are to be checked, if they may differ from those of the last call.
    pub(super) fn take_new_checks(&mut self) -> Option<Vec<(Arc<Cluster>, Arc<Endpoints>)>> {
        if !std::mem::take(&mut self.has_new_checks) {
            return None;
        }
        let checks = self.checking.iter().filter_map(|name| {
            let slot = self.slots.get(name)?;
            let cluster = &slot.warming.as_ref()?.cluster;
            let members = slot.members(&self.assignments, cluster);
            Some((Arc::clone(cluster), members.unwrap_or_else(no_members)))
        });
        Some(checks.collect())
    }

    /// Every member of the cluster was checked once.
    pub(super) fn checked(&mut self, cluster: &Arc<Cluster>) {
        let slot = self.slots.get_mut(&cluster.name);
        let warming = slot.and_then(|slot| slot.warming.as_mut());
        if let Some(warming) = warming.filter(|warming| Arc::ptr_eq(&warming.cluster, cluster)) {
            warming.is_checked = true;
            self.candidates.insert(Arc::clone(&cluster.name));
        }
    }

    fn has_secrets(&self, name: &Name, has_secret: impl Fn(&SecretKey) -> bool) -> bool {
        let warming = self.slots.get(name).and_then(|slot| slot.warming.as_ref());
        let mut named = warming
            .into_iter()
            .flat_map(|warming| secrets_of_cluster(&warming.cluster));
        named.all(|named| has_secret(&named.key))
    }

    /// Every secret some cluster names, active or warming.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let clusters = self.slots.values().flat_map(Slot::clusters);
        clusters.flat_map(secrets_of_cluster)
    }

    /// The secrets that are not there, and who names them.
    pub(super) fn missing_secrets(
        &self,
        is_there: impl Fn(&SecretKey) -> bool,
    ) -> impl Iterator<Item = String> {
        self.slots.iter().flat_map(move |(name, slot)| {
            let named = slot.clusters().flat_map(secrets_of_cluster);
            let missing: BTreeSet<&SecretKey> = named
                .map(|named| &named.key)
                .filter(|key| !is_there(key))
                .collect();
            let lines = missing.into_iter();
            lines.map(move |key| format!("cluster {name}: {key}"))
        })
    }

    fn activate(&mut self, name: &Name) {
        self.warming.remove(name);
        self.has_new_checks |= self.checking.remove(name);
        self.unlink(name);
        if let Some(slot) = self.slots.get_mut(name)
            && let Some(Warming { cluster, .. }) = slot.warming.take()
        {
            let members = slot.members(&self.assignments, &cluster);
            let members = members.unwrap_or_else(no_members);
            slot.active = Some(Active { cluster, members });
            slot.forget_unused_answers();
        }
        self.link(name);
    }

    /// Lets go of removed clusters nobody names any more, or that were waited for long enough;
    /// returns them.
    pub(super) fn dismiss(
        &mut self,
        now: Duration,
        dirt: &mut Dirt,
        is_named: impl Fn(&Name) -> bool,
    ) -> Vec<Name> {
        let mut dismissed = Vec::new();
        for name in &self.leaving {
            let leaves_at = self.slots.get(name).and_then(|s| s.leaves_at);
            if !is_named(name) || leaves_at.is_none_or(|at| at <= now) {
                dismissed.push(name.clone());
            }
        }
        for name in &dismissed {
            self.unlink(name);
            self.leaving.remove(name);
            self.slots.remove(name);
            dirt.snapshot = true;
        }
        dismissed
    }

    /// Forgets assignments nobody uses. Separate from [`Self::unlink`], which is also half of a
    /// replacement.
    pub(super) fn prune(&mut self) {
        let users = &self.users;
        self.assignments
            .retain(|service, _| users.contains_key(service));
    }

    pub(super) fn is_active(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|s| s.active.is_some())
    }

    /// Some cluster never was active.
    pub(super) fn has_unserved(&self) -> bool {
        let is_unserved = |s: &Slot| s.active.is_none();
        self.warming
            .iter()
            .any(|n| self.slots.get(n).is_some_and(is_unserved))
    }

    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// The service names to subscribe to.
    pub(super) fn services(&self) -> impl Iterator<Item = &Name> {
        self.users.keys()
    }

    /// What is to be resolved.
    pub(super) fn queries(&self) -> Vec<DnsQuery> {
        let slots = self.slots.iter();
        slots
            .flat_map(|(name, slot)| {
                slot.queries().map(|dns| DnsQuery {
                    cluster: name.clone(),
                    dns: dns.clone(),
                })
            })
            .collect()
    }

    pub(super) fn members(&self, name: &str) -> Option<&Arc<Endpoints>> {
        Some(&self.slots.get(name)?.active.as_ref()?.members)
    }

    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        for (name, slot) in &self.slots {
            if let Some(active) = &slot.active {
                snapshot
                    .clusters
                    .insert(name.clone(), Arc::clone(&active.cluster));
                snapshot
                    .endpoints
                    .insert(name.clone(), Arc::clone(&active.members));
            }
        }
    }

    /// Clusters that never were active, and what they wait for.
    pub(super) fn waiting_for(&self) -> impl Iterator<Item = String> {
        self.warming.iter().filter_map(|name| {
            let slot = self.slots.get(name).filter(|s| s.active.is_none())?;
            if self.checking.contains(name) {
                return Some(format!("cluster {name}: health checks"));
            }
            Some(match &slot.warming.as_ref()?.cluster.discovery {
                Discovery::Eds { service_name } => {
                    format!("cluster {name}: endpoints {service_name}")
                }
                Discovery::OriginalDst | Discovery::Static(_) => format!("cluster {name}"),
                Discovery::StrictDns(_) => format!("cluster {name}: name resolution"),
            })
        })
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let slot = |name: &Name| self.slots.get(name);
        let warming = self
            .warming
            .iter()
            .filter_map(move |n| slot(n)?.warming.as_ref()?.deadline);
        warming.chain(self.leaving.iter().filter_map(move |n| slot(n)?.leaves_at))
    }

    fn unlink(&mut self, name: &Name) {
        for service in self.slots.get(name).into_iter().flat_map(Slot::services) {
            if let Some(users) = self.users.get_mut(service) {
                users.remove(name);
                if users.is_empty() {
                    self.users.remove(service);
                }
            }
        }
    }

    fn link(&mut self, name: &Name) {
        for service in self.slots.get(name).into_iter().flat_map(Slot::services) {
            self.users
                .entry(service.clone())
                .or_default()
                .insert(name.clone());
        }
    }
}

impl Slot {
    /// The members of a cluster of this slot are known, if perhaps there are none.
    fn has_members(&self, assignments: &BTreeMap<Name, Assignment>, cluster: &Cluster) -> bool {
        match &cluster.discovery {
            Discovery::Eds { service_name } => {
                matches!(assignments.get(service_name), Some(Assignment::Held(_)))
            }
            Discovery::OriginalDst | Discovery::Static(_) => true,
            Discovery::StrictDns(dns) => self.resolved.iter().any(|(d, _)| d == dns),
        }
    }

    fn members(
        &self,
        assignments: &BTreeMap<Name, Assignment>,
        cluster: &Cluster,
    ) -> Option<Arc<Endpoints>> {
        match &cluster.discovery {
            Discovery::Eds { service_name } => match assignments.get(service_name) {
                Some(Assignment::Held(members)) => Some(Arc::clone(members)),
                Some(Assignment::Missing) | None => None,
            },
            Discovery::OriginalDst => None,
            Discovery::Static(members) => Some(Arc::clone(members)),
            Discovery::StrictDns(dns) => self.answer(dns),
        }
    }

    fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        let active = self.active.iter().map(|a| &*a.cluster);
        active.chain(self.warming.iter().map(|w| &*w.cluster))
    }

    fn services(&self) -> impl Iterator<Item = &Name> {
        self.clusters().filter_map(Cluster::service_name)
    }

    fn queries(&self) -> impl Iterator<Item = &Dns> {
        let active = self.active.as_ref().and_then(|a| a.cluster.dns());
        let warming = self.warming.as_ref().and_then(|w| w.cluster.dns());
        active
            .into_iter()
            .chain(warming.filter(|w| active != Some(*w)))
    }

    fn answer(&self, dns: &Dns) -> Option<Arc<Endpoints>> {
        let (_, endpoints) = self.resolved.iter().find(|(d, _)| d == dns)?;
        endpoints.clone()
    }

    fn forget_unused_answers(&mut self) {
        let mut resolved = std::mem::take(&mut self.resolved);
        resolved.retain(|(dns, _)| self.queries().any(|q| q == dns));
        self.resolved = resolved;
    }
}

impl Cluster {
    /// Its members are checked before anybody uses it. Where a client says where it goes, nobody knows
    /// them before.
    fn checks_members(&self) -> bool {
        self.health.check.is_some() && self.discovery != Discovery::OriginalDst
    }

    fn service_name(&self) -> Option<&Name> {
        match &self.discovery {
            Discovery::Eds { service_name } => Some(service_name),
            Discovery::OriginalDst | Discovery::Static(_) | Discovery::StrictDns(_) => None,
        }
    }

    fn dns(&self) -> Option<&Dns> {
        match &self.discovery {
            Discovery::StrictDns(dns) => Some(dns),
            Discovery::Eds { .. } | Discovery::OriginalDst | Discovery::Static(_) => None,
        }
    }
}

/// The members of a cluster whose members never arrived.
pub(super) fn no_members() -> Arc<Endpoints> {
    Arc::new(Endpoints {
        localities: Vec::new(),
        overprovisioning_factor: 140,
        ..Endpoints::default()
    })
}
