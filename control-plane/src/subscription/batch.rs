//! What to send next.

use super::Arc;
use super::BTreeMap;
use super::BTreeSet;
use super::Due;
use super::Held;
use super::IN_FLIGHT_MAX;
use super::InFlight;
use super::Limits;
use super::Moment;
use super::Open;
use super::Resource;
use super::Sent;
use super::Subscription;
use super::Variant;
use super::Version;
use super::want::WHOLE;

/// The content of one response.
#[derive(Debug)]
pub struct Batch {
    /// Resource type.
    pub type_url: Arc<str>,
    /// Version of the content.
    pub version: String,
    /// Identifies the response.
    pub nonce: String,
    /// What the client gets.
    pub items: Vec<Item>,
    /// Names that do not exist; delta only.
    pub removed: Vec<Arc<str>>,
    /// The items the client did not have before in this form.
    pub changed: Vec<Arc<Resource>>,
}

/// What a stream decides about its types before it asks one of them for a response.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The time.
    pub now: Moment,
    /// Stale resources of a type whose removal waits may go now (S-70).
    pub may_remove: bool,
    /// Only what the client asked for may be sent; changes wait for other types.
    pub is_held: bool,
}

/// One resource in a response.
#[derive(Clone, Debug)]
pub struct Item {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Whether its expiry is sent along.
    pub has_ttl: bool,
    /// Whether only its expiry is renewed (B-81).
    pub is_heartbeat: bool,
}

impl Subscription {
    /// The next response, if there is a cause for one.
    pub fn next_batch(&mut self, turn: Turn, nonce: &str, limits: &Limits) -> Option<Batch> {
        if !self.is_started {
            return None;
        }
        let now = turn.now;
        self.release_refused(now);
        self.drop_moot();
        let ready = self.ready(turn, limits);
        let mut batch = self.empty_batch(nonce);
        let is_quiet = ready.is_empty() && !self.is_reply_due;
        if is_quiet || self.is_stuck() {
            return self.next_heartbeat(now, batch);
        }
        self.is_reply_due = false;
        let mut entries = if self.is_whole_set() {
            self.fill_whole(&mut batch, turn, ready)
        } else {
            self.fill_changes(&mut batch, &ready, limits)
        };
        batch.changed = entries
            .keys()
            .filter_map(|name| self.target(name))
            .cloned()
            .collect();
        if self.is_whole_set() {
            self.carry_unanswered(&mut entries);
        }
        batch.version =
            Version::of_set(batch.items.iter().map(|item| item.resource.version())).to_string();
        if self.is_wildcard {
            batch.version.push_str(WHOLE);
        }
        self.report.sent = Some(batch.version.clone());
        self.sent_at = now;
        self.record(now, &batch, entries);
        Some(batch)
    }

    /// Whether something is parked of which the client may hold an earlier version this stream
    /// never saw. A complete set could then only repeat the refused version or delete the earlier
    /// one, so nothing is sent until the refused one changes.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_whole_set()
            && self.open.iter().any(|(name, open)| {
                matches!(open.held, Held::Version(_))
                    && open.is_refused(self.target(name).map(|r| r.version()))
            })
    }

    pub(super) fn is_whole_set(&self) -> bool {
        self.variant == Variant::Sotw && self.kind.whole_set
    }

    /// When [`Self::next_batch`] may have something to send without any further event; later than
    /// `now`.
    #[must_use]
    pub fn deadline(&self, now: Moment, removal_delay: Moment, limits: &Limits) -> Option<Moment> {
        let window = self.sent_at + limits.ack_timeout;
        let due = self.open.iter().filter_map(|(name, open)| {
            let due = open.due?;
            let waits = self.waits_for_removal(name, open);
            let removal = if waits {
                due.since + removal_delay
            } else {
                Moment::ZERO
            };
            let ack = if self.in_flight.is_empty() {
                Moment::ZERO
            } else {
                window
            };
            Some(removal.max(ack))
        });
        // What is overdue waits for another event, not for the clock.
        due.chain(self.heartbeats.values().copied())
            .filter(|at| *at > now)
            .min()
    }

    /// When the oldest waiting removal began to wait.
    #[must_use]
    pub fn removal_since(&self) -> Option<Moment> {
        let waiting = self
            .open
            .iter()
            .filter(|(name, open)| self.waits_for_removal(name, open));
        waiting
            .filter_map(|(_, open)| open.due.map(|due| due.since))
            .min()
    }

    fn waits_for_removal(&self, name: &str, open: &Open) -> bool {
        let is_urgent = open.due.is_none_or(|due| due.is_urgent);
        self.kind.removal_waits && !is_urgent && self.target(name).is_none()
    }

    fn empty_batch(&self, nonce: &str) -> Batch {
        Batch {
            type_url: Arc::clone(&self.type_url),
            version: String::new(),
            nonce: nonce.to_owned(),
            items: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Names refused together are offered again together once one of them changed: the change
    /// may be the cure, and the others may have been innocent.
    fn release_refused(&mut self, now: Moment) {
        let cured = self.open.iter().filter(|(name, open)| {
            open.due.is_some() && !open.is_refused(self.target(name).map(|r| r.version()))
        });
        let cured: BTreeSet<u64> = cured
            .filter_map(|(_, open)| open.refused.map(|r| r.together))
            .collect();
        if cured.is_empty() {
            return;
        }
        for open in self.open.values_mut() {
            if open
                .refused
                .is_some_and(|refused| cured.contains(&refused.together))
            {
                open.refused = None;
                open.due = open.due.or(Some(Due {
                    is_urgent: false,
                    since: now,
                }));
            }
        }
    }

    /// Forgets changes there is nothing to say about.
    fn drop_moot(&mut self) {
        let is_delta = self.variant == Variant::Delta;
        let (kind, set) = (self.kind, &self.set);
        let (is_wildcard, names) = (self.is_wildcard, &self.names);
        self.open.retain(|name, open| {
            let covered = is_wildcard || names.contains(name);
            let Some(due) = open.due.filter(|_| covered && set.find(name).is_none()) else {
                return covered;
            };
            match (is_delta, kind.whole_set) {
                (true, _) => due.is_urgent || !(open.held.is_nothing() || kind.removal_silent),
                (false, true) => true,
                // Absence means nothing for the other state-of-the-world types (S-27).
                (false, false) => false,
            }
        });
    }

    /// Whether a change waits for the acknowledgment of what was sent before.
    fn is_held_back(&self, now: Moment, limits: &Limits) -> bool {
        let is_continued = self.is_cut && self.variant == Variant::Delta;
        !self.in_flight.is_empty() && !is_continued && now < self.sent_at + limits.ack_timeout
    }

    /// Names to send now.
    fn ready(&self, turn: Turn, limits: &Limits) -> BTreeSet<Arc<str>> {
        let is_held = turn.is_held || self.is_held_back(turn.now, limits);
        let ready = self.open.iter().filter(|(name, open)| {
            open.due.is_some_and(|due| due.is_urgent || !is_held)
                && (turn.may_remove || !self.waits_for_removal(name, open))
        });
        ready.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// What the client is to have under `name` after this response: the target, or what it had
    /// before a version it refused, or what must outlive its users a little.
    fn offer(&self, name: &str, ready: &BTreeSet<Arc<str>>) -> Option<&Arc<Resource>> {
        let target = self.target(name);
        match self.open.get(name) {
            Some(open) if open.is_refused(target.map(|r| r.version())) => open.held.resource(),
            Some(open) if target.is_none() && !ready.contains(name) => open.held.resource(),
            _ => target,
        }
    }

    /// The complete set (S-27).
    fn fill_whole(
        &mut self,
        batch: &mut Batch,
        turn: Turn,
        ready: BTreeSet<Arc<str>>,
    ) -> BTreeMap<Arc<str>, Sent> {
        // What would have waited for an acknowledgment cannot be left out of a complete set.
        let mut sent = ready;
        let rest = self.open.iter().filter(|(name, open)| {
            open.due.is_some() && (turn.may_remove || !self.waits_for_removal(name, open))
        });
        sent.extend(rest.map(|(name, _)| Arc::clone(name)));
        let mut names: BTreeSet<&Arc<str>> = self.open.keys().collect();
        if self.is_wildcard {
            names.extend(self.set.iter().map(|r| r.name()));
        }
        names.extend(&self.names);
        let offers = names.into_iter().filter_map(|name| self.offer(name, &sent));
        batch.items = offers.map(|r| self.item(r)).collect();
        sent.into_iter()
            .filter_map(|name| self.take_entry(name))
            .collect()
    }

    /// Only what changed, up to the size limit (S-61).
    fn fill_changes(
        &mut self,
        batch: &mut Batch,
        ready: &BTreeSet<Arc<str>>,
        limits: &Limits,
    ) -> BTreeMap<Arc<str>, Sent> {
        let mut entries = BTreeMap::new();
        let mut bytes = 0;
        self.is_cut = false;
        for name in ready {
            let offer = self.offer(name, ready).cloned();
            bytes += offer.as_ref().map_or(name.len(), |r| r.wrapped().len()) + ITEM_OVERHEAD_BYTES;
            let is_first = batch.items.is_empty() && batch.removed.is_empty();
            if bytes > limits.response_bytes_max && !is_first {
                self.is_cut = true;
                break;
            }
            match offer {
                Some(resource) => batch.items.push(self.item(&resource)),
                None => batch.removed.push(Arc::clone(name)),
            }
            entries.extend(self.take_entry(Arc::clone(name)));
        }
        entries
    }

    fn item(&self, resource: &Arc<Resource>) -> Item {
        Item {
            resource: Arc::clone(resource),
            has_ttl: self.wants_ttl && resource.ttl().is_some(),
            is_heartbeat: false,
        }
    }

    /// Turns an open name into an unanswered one. A parked name stays parked: what was sent in its
    /// place is what the client has.
    fn take_entry(&mut self, name: Arc<str>) -> Option<(Arc<str>, Sent)> {
        let version = self.target(&name).map(|r| r.version());
        let open = self.open.get_mut(&name)?;
        if open.is_refused(version) {
            open.due = None;
            return None;
        }
        let before = std::mem::replace(&mut open.held, Held::Nothing);
        self.open.remove(&name);
        Some((name, Sent { version, before }))
    }

    /// A complete set repeats what an unanswered one before it brought, so its answer decides about
    /// that as well.
    fn carry_unanswered(&self, entries: &mut BTreeMap<Arc<str>, Sent>) {
        for (name, sent) in self.in_flight.iter().flat_map(|older| &older.entries) {
            let is_repeated = self.target(name).map(|r| r.version()) == sent.version
                && !self.open.contains_key(name);
            if is_repeated && !entries.contains_key(name) {
                entries.insert(Arc::clone(name), sent.clone());
            }
        }
    }

    fn record(&mut self, now: Moment, batch: &Batch, entries: BTreeMap<Arc<str>, Sent>) {
        for item in &batch.items {
            self.schedule_heartbeat(now, &item.resource);
        }
        for name in &batch.removed {
            self.heartbeats.remove(name);
        }
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            self.in_flight.pop_front();
        }
        self.report.responses += 1;
        let (nonce, version) = (batch.nonce.clone(), batch.version.clone());
        self.in_flight.push_back(InFlight {
            nonce,
            version,
            entries,
        });
    }

    fn schedule_heartbeat(&mut self, now: Moment, resource: &Arc<Resource>) {
        match resource.ttl().filter(|_| self.wants_ttl) {
            Some(ttl) => {
                self.heartbeats
                    .insert(Arc::clone(resource.name()), now + ttl / 2);
            }
            None => {
                self.heartbeats.remove(resource.name());
            }
        }
    }

    /// Plans heartbeats for resources the client holds without our having sent them just now.
    pub(super) fn schedule_heartbeats(&mut self, now: Moment) {
        if !self.wants_ttl || (!self.set.has_ttl() && self.heartbeats.is_empty()) {
            return;
        }
        let set = Arc::clone(&self.set);
        self.heartbeats.retain(|name, _| set.find(name).is_some());
        for resource in set.iter().filter(|r| r.ttl().is_some()) {
            if self.covers(resource.name()) && !self.heartbeats.contains_key(resource.name()) {
                self.schedule_heartbeat(now, resource);
            }
        }
    }

    /// Renews expiring resources, unless a real update already did (S-82).
    fn next_heartbeat(&mut self, now: Moment, mut batch: Batch) -> Option<Batch> {
        let due = self
            .heartbeats
            .iter()
            .filter(|(name, at)| **at <= now && !self.open.contains_key(*name));
        let due: Vec<Arc<str>> = due.map(|(name, _)| Arc::clone(name)).collect();
        for name in due {
            let Some(resource) = self.target(&name).cloned() else {
                self.heartbeats.remove(&name);
                continue;
            };
            batch.items.push(Item {
                resource,
                has_ttl: true,
                is_heartbeat: true,
            });
        }
        if batch.items.is_empty() {
            return None;
        }
        batch.version = self.report.sent.clone().unwrap_or_default();
        self.record(now, &batch, BTreeMap::new());
        Some(batch)
    }
}

/// Tag and length around one resource.
const ITEM_OVERHEAD_BYTES: usize = 16;
