//! What a response means: which resources apply, which go, and whether it is refused.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Answer;
use super::Response;
use super::ServerError;
use super::Session;
use super::incoming::Body;
use super::incoming::Incoming;
use super::incoming::Item;
use super::nack;
use super::subscription::Subscription;
use crate::config::Name;
use crate::config::limits::RESOURCES_MAX;
use crate::xds::resource::Refusal;
use crate::xds::resource::ResourceType;

/// What one response changed. It applies whether or not the response was refused (C-90).
#[derive(Debug)]
pub struct Update<R> {
    /// Of which type.
    pub resource_type: ResourceType,
    /// The response's own version.
    pub version: String,
    /// New or changed resources.
    pub accepted: Vec<Accepted<R>>,
    /// Resources that are no more.
    pub removed: Vec<Removal>,
    /// Resources that were not accepted; their last good version stays.
    pub refused: Vec<Refusal>,
    /// What the control plane says it cannot give; what is cached stays.
    pub errors: Vec<ServerError>,
    /// The NACK's text, if it is one.
    pub nack: Option<String>,
    /// How many NACKs in a row this is.
    pub rejections: u32,
}

/// One resource that applies.
#[derive(Debug)]
pub struct Accepted<R> {
    /// Its name.
    pub name: Name,
    /// Its version (SotW: the response's).
    pub version: String,
    /// The bytes it was decoded from.
    pub body: Bytes,
    /// What `accept` made of it.
    pub value: R,
}

/// One resource that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: Name,
    /// It was held until now; otherwise it was asked for and the server says it is not there.
    pub was_held: bool,
}

impl<R> Update<R> {
    pub(in crate::xds) fn new(resource_type: ResourceType, version: String) -> Self {
        Self {
            resource_type,
            version,
            accepted: Vec::new(),
            removed: Vec::new(),
            refused: Vec::new(),
            errors: Vec::new(),
            nack: None,
            rejections: 0,
        }
    }

    fn refuse(&mut self, name: &str, detail: String) {
        self.refused.push(Refusal {
            name: name.into(),
            detail,
        });
    }
}

/// Decodes and judges one resource: its name and value, or why not.
pub type Accept<'a, R> = dyn FnMut(ResourceType, &Bytes) -> Result<(Name, R), Refusal> + 'a;

/// What is kept of an accepted resource's wrapper until it is filed.
type Ttls = BTreeMap<Name, Option<Duration>>;

impl Session {
    /// Takes in one response. `accept` decodes and judges one resource; it is not asked about
    /// resources that are known to be unwanted.
    ///
    /// None if the response is of a type that was not asked for on this stream: it changes nothing
    /// and gets no answer.
    pub fn on_response<R>(
        &mut self,
        response: Response,
        now: Duration,
        accept: &mut Accept<'_, R>,
    ) -> Option<Update<R>> {
        let incoming = Incoming::new(response);
        let resource_type = incoming.resource_type()?;
        let subscription = self.types.get_mut(&resource_type)?;
        if !self.is_connected || !subscription.is_open() {
            return None;
        }
        let mut update = Update::new(resource_type, incoming.version);
        let mut ttls = Ttls::new();
        for item in incoming.items {
            subscription.receive_item(item, &mut update, &mut ttls, now, accept);
        }
        refuse_conflicts(&mut update, &incoming.removed);
        subscription.refuse_surplus(&mut update);
        update.errors = incoming.errors;
        update
            .errors
            .retain(|e| subscription.interest.covers(&e.name));
        update.removed = if incoming.is_delta {
            subscription.named_removals(incoming.removed, &update)
        } else if resource_type.is_complete_set() {
            subscription.absences(&update, &ttls)
        } else {
            Vec::new()
        };
        subscription.file(&mut update, &ttls, now);
        self.enqueue(&mut update, incoming.nonce, now);
        Some(update)
    }

    /// Queues the one answer this response gets.
    fn enqueue<R>(&mut self, update: &mut Update<R>, nonce: String, now: Duration) {
        let resource_type = update.resource_type;
        let subscription = self.types.entry(resource_type).or_default();
        let mut not_before = now;
        if update.refused.is_empty() {
            subscription.rejections = 0;
            update.version.clone_into(&mut subscription.version);
            // The older NACKs held back the trouble, which is over; they must leave first.
            let older = self
                .answers
                .iter_mut()
                .filter(|a| a.resource_type == resource_type);
            older.for_each(|a| a.not_before = now);
        } else {
            subscription.rejections = subscription.rejections.saturating_add(1);
            not_before += nack::delay(subscription.rejections);
            update.nack = Some(nack::text(&update.refused));
        }
        update.rejections = subscription.rejections;
        self.answers.push_back(Answer {
            resource_type,
            nonce,
            error: update.nack.clone(),
            not_before,
            version: subscription.version.clone(),
        });
    }
}

impl Subscription {
    fn receive_item<R>(
        &mut self,
        item: Item,
        update: &mut Update<R>,
        ttls: &mut Ttls,
        now: Duration,
        accept: &mut Accept<'_, R>,
    ) {
        if item.name.as_ref().is_some_and(|n| !self.interest.covers(n)) {
            return; // C-30
        }
        let body = match (item.body, &item.name) {
            (Body::Resource(body), _) => body,
            (Body::Heartbeat, Some(name)) => {
                self.keep_alive(name, item.ttl, now);
                ttls.insert(name.clone(), item.ttl);
                return;
            }
            (Body::Heartbeat, None) => {
                return update.refuse("", "neither name nor body".to_owned());
            }
            (Body::Malformed(e), name) => return update.refuse(name.as_deref().unwrap_or(""), e),
        };
        let (name, value) = match accept(update.resource_type, &body) {
            Ok(found) => found,
            Err(mut refusal) => {
                if let Some(name) = item.name {
                    refusal.name = name;
                }
                if refusal.name.is_empty() || self.interest.covers(&refusal.name) {
                    update.refused.push(refusal);
                }
                return;
            }
        };
        if let Some(outer) = item.name.filter(|outer| *outer != name) {
            return update.refuse(
                &outer,
                format!("the resource itself says its name is {name}"),
            );
        }
        if self.interest.covers(&name) {
            ttls.insert(name.clone(), item.ttl);
            update.accepted.push(Accepted {
                name,
                version: item.version,
                body,
                value,
            });
        }
    }

    /// Refreshes or cancels the TTL of something held; it is no update (B-81).
    fn keep_alive(&mut self, name: &Name, ttl: Option<Duration>, now: Duration) {
        if !self.held.contains_key(name) {
            return;
        }
        match ttl {
            Some(ttl) => self.expiring.insert(name.clone(), now.saturating_add(ttl)),
            None => self.expiring.remove(name),
        };
    }

    /// More than a control plane may make us hold.
    fn refuse_surplus<R>(&self, update: &mut Update<R>) {
        let mut room = RESOURCES_MAX.saturating_sub(self.held.len());
        let mut surplus = Vec::new();
        update.accepted.retain(|a| {
            if self.held.contains_key(&a.name) {
                return true;
            }
            if room > 0 {
                room -= 1;
                return true;
            }
            surplus.push(a.name.clone());
            false
        });
        for name in surplus {
            update.refuse(
                &name,
                format!("more than {RESOURCES_MAX} resources of this type"),
            );
        }
    }

    /// Delta: of the names said to be gone, those that mean something here (C-58).
    fn named_removals<R>(&self, removed: Vec<Name>, update: &Update<R>) -> Vec<Removal> {
        let refused: BTreeSet<&Name> = update.refused.iter().map(|r| &r.name).collect();
        let unique: BTreeSet<Name> = removed.into_iter().collect();
        let known = unique.into_iter().filter(|n| !refused.contains(n));
        known.filter_map(|name| self.removal(name)).collect()
    }

    fn removal(&self, name: Name) -> Option<Removal> {
        let was_held = self.held.contains_key(&name);
        let is_known = was_held || self.waiting.contains_key(&name);
        is_known.then_some(Removal { name, was_held })
    }

    /// SotW, types whose responses are complete: what is not in it is no more (S-27). What was
    /// refused or has an error is not absent; if something could not even be named, nothing is
    /// taken as absent; nor is it if the response only kept TTLs alive.
    fn absences<R>(&self, update: &Update<R>, ttls: &Ttls) -> Vec<Removal> {
        let heartbeats_only = update.accepted.is_empty() && !ttls.is_empty();
        if heartbeats_only || update.refused.iter().any(|r| r.name.is_empty()) {
            return Vec::new();
        }
        let mut present: BTreeSet<&Name> = ttls.keys().collect();
        present.extend(update.refused.iter().map(|r| &r.name));
        present.extend(update.errors.iter().map(|e| &e.name));
        // What is only waited for may be absent because the server had not heard of it yet; its
        // timer decides.
        let absent = self.held.keys().filter(|n| !present.contains(n));
        absent
            .map(|n| Removal {
                name: n.clone(),
                was_held: true,
            })
            .collect()
    }

    /// Remembers what is held now.
    fn file<R>(&mut self, update: &mut Update<R>, ttls: &Ttls, now: Duration) {
        for accepted in &update.accepted {
            self.waiting.remove(&accepted.name);
            self.held
                .insert(accepted.name.clone(), accepted.version.clone());
            let ttl = ttls.get(&accepted.name).copied().flatten();
            self.keep_alive(&accepted.name, ttl, now);
        }
        // A refused resource exists.
        for refused in &update.refused {
            self.waiting.remove(&refused.name);
        }
        for error in update.errors.iter().filter(|e| e.is_data_error()) {
            let is_news = self.waiting.remove(&error.name).is_some();
            if is_news && !update.removed.iter().any(|r| r.name == error.name) {
                update.removed.push(Removal {
                    name: error.name.clone(),
                    was_held: false,
                });
            }
        }
        for removal in &update.removed {
            self.waiting.remove(&removal.name);
            self.held.remove(&removal.name);
            self.expiring.remove(&removal.name);
        }
    }
}

/// Takes out what is in the response twice (C-31), or both sent and removed (C-58).
fn refuse_conflicts<R>(update: &mut Update<R>, removed: &[Name]) {
    let mut counts: BTreeMap<Name, u32> = BTreeMap::new();
    for name in
        (update.accepted.iter().map(|a| &a.name)).chain(update.refused.iter().map(|r| &r.name))
    {
        *counts.entry(name.clone()).or_default() += 1;
    }
    counts.remove("");
    let removed: BTreeSet<&Name> = removed.iter().collect();
    let twice = |n: &Name| counts.get(n).is_some_and(|c| *c > 1);
    let mut conflicts: BTreeMap<Name, &str> = BTreeMap::new();
    for name in update.accepted.iter().map(|a| &a.name) {
        if twice(name) {
            conflicts.insert(name.clone(), "in the response twice");
        } else if removed.contains(name) {
            conflicts.insert(name.clone(), "both sent and removed");
        }
    }
    update.accepted.retain(|a| !conflicts.contains_key(&a.name));
    for (name, detail) in conflicts {
        update.refuse(&name, detail.to_owned());
    }
}
