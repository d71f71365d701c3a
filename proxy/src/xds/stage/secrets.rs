//! Secrets that clusters and listeners name: which are there, and how long the others are waited for.
//!
//! All who name a secret share one wait, which begins with the first of them, as with Envoy's shared
//! subscriptions. After it they become active without the secret: what needs it lets nobody in until
//! it comes. A secret that is there is never taken away by its absence, only by its TTL.
//!
//! Invariant: there is a slot exactly for every secret that some cluster or listener, active or
//! waiting, named at the last [`Secrets::want`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use super::clusters::Dirt;
use crate::config;
use crate::config::Name;
use crate::config::secret::Secret;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;

#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Those of the bootstrap.
    statics: BTreeMap<Name, Secret>,
    /// Those that are made here, whoever else has one of that name.
    own: BTreeMap<SecretKey, Option<Secret>>,
    slots: BTreeMap<SecretKey, Slot>,
}

#[derive(Debug)]
struct Slot {
    value: Option<Secret>,
    kind: SecretKind,
    /// When it stops to be waited for; none is never.
    until: Option<Duration>,
}

/// Secrets that are named, each with one of those who name it.
pub(super) type Named<'a> = BTreeMap<&'a SecretKey, &'a SecretRef>;

impl Secrets {
    /// The bootstrap's secrets are these now.
    pub(super) fn replace_statics(&mut self, statics: BTreeMap<Name, Secret>, dirt: &mut Dirt) {
        self.statics = statics;
        let statics = &self.statics;
        let of_bootstrap = |key: &SecretKey| key.source == SecretSource::Bootstrap;
        for (key, slot) in self.slots.iter_mut().filter(|(key, _)| of_bootstrap(key)) {
            if let Some(secret) = statics.get(&key.name) {
                slot.set(secret.clone(), dirt);
            }
        }
    }

    /// The bootstrap has a secret of this name, or one is made here.
    pub(super) fn has_static(&self, name: &str) -> bool {
        let mut own = self.own.keys();
        let is_own = |key: &SecretKey| key.source == SecretSource::Bootstrap && *key.name == *name;
        self.statics.contains_key(name) || own.any(is_own)
    }

    /// These are made here.
    pub(super) fn make_own(&mut self, keys: impl IntoIterator<Item = SecretKey>) {
        self.own.extend(keys.into_iter().map(|key| (key, None)));
    }

    /// One that is made here is new, or over.
    pub(super) fn give_own(&mut self, key: &SecretKey, secret: Option<Secret>, dirt: &mut Dirt) {
        self.own.insert(key.clone(), secret.clone());
        match secret {
            Some(secret) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.set(secret, dirt);
                }
            }
            None => self.expire(key, dirt),
        }
    }

    /// Keeps exactly those that are named; says whether that changed which there are. What nobody
    /// names must not linger where it was handed to.
    pub(super) fn want(&mut self, named: &Named<'_>, now: Duration, dirt: &mut Dirt) -> bool {
        let before = self.slots.len();
        self.slots.retain(|key, slot| {
            let is_named = named.contains_key(key);
            dirt.secrets |= !is_named && slot.value.is_some();
            is_named
        });
        let mut has_changed = self.slots.len() != before;
        for (key, wanted) in named {
            if self.slots.contains_key(*key) {
                continue;
            }
            let is_static = key.source == SecretSource::Bootstrap;
            let value = match self.own.get(key) {
                Some(own) => own.as_ref(),
                None => self.statics.get(&key.name).filter(|_| is_static),
            };
            let slot = Slot {
                value: value.cloned(),
                kind: wanted.kind,
                until: wanted.fetch_timeout.map(|timeout| now + timeout),
            };
            self.slots.insert((*key).clone(), slot);
            has_changed = true;
        }
        has_changed
    }

    /// A new or changed secret; somebody else's of a name of ours is none.
    pub(super) fn upsert(&mut self, key: &SecretKey, secret: Secret, dirt: &mut Dirt) {
        if self.own.contains_key(key) {
            return;
        }
        if let Some(slot) = self.slots.get_mut(key) {
            slot.set(secret, dirt);
        }
    }

    /// Its TTL is over: nobody may go on with it.
    pub(super) fn expire(&mut self, key: &SecretKey, dirt: &mut Dirt) {
        if let Some(slot) = self.slots.get_mut(key) {
            dirt.secrets |= slot.value.take().is_some();
        }
    }

    /// It is there, or was waited for long enough.
    pub(super) fn is_settled(&self, key: &SecretKey, now: Duration) -> bool {
        let slot = self.slots.get(key);
        slot.is_some_and(|slot| slot.value.is_some() || slot.until.is_some_and(|at| at <= now))
    }

    /// It is there.
    pub(super) fn is_there(&self, key: &SecretKey) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.value.is_some())
    }

    /// One that is there.
    pub(super) fn get(&self, key: &SecretKey) -> Option<&Secret> {
        self.slots.get(key)?.value.as_ref()
    }

    /// The secrets that are not there.
    pub(super) fn missing(&self) -> impl Iterator<Item = &SecretKey> {
        let missing = self.slots.iter().filter(|(_, slot)| slot.value.is_none());
        missing.map(|(key, _)| key)
    }

    /// What a secret must be for those who name it.
    pub(super) fn kind(&self, key: &SecretKey) -> Option<SecretKind> {
        self.slots.get(key).map(|slot| slot.kind)
    }

    /// The names to ask one source for.
    pub(super) fn names<'a>(
        &'a self,
        source: &'a SecretSource,
    ) -> impl Iterator<Item = &'a Name> + 'a {
        let is_asked =
            move |key: &&SecretKey| key.source == *source && !self.own.contains_key(*key);
        let of_source = self.slots.keys().filter(is_asked);
        of_source.map(|key| &key.name)
    }

    /// Every source that is asked for something.
    pub(super) fn sources(&self) -> BTreeSet<SecretSource> {
        self.slots.keys().map(|key| key.source.clone()).collect()
    }

    /// Those that are there.
    pub(super) fn all(&self) -> config::Secrets {
        let slots = self.slots.iter();
        slots
            .filter_map(|(key, slot)| Some((key.clone(), slot.value.clone()?)))
            .collect()
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let missing = self.slots.values().filter(|slot| slot.value.is_none());
        missing.filter_map(|slot| slot.until)
    }
}

impl Slot {
    fn set(&mut self, secret: Secret, dirt: &mut Dirt) {
        if self.value.as_ref() != Some(&secret) {
            self.value = Some(secret);
            dirt.secrets = true;
        }
    }
}
