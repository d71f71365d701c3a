//! Sans-IO: what one client wants, has and refused, for one resource type on one stream.
//!
//! Both protocol variants share it. The client's view is kept as one pointer to the set it was
//! last synchronized with, plus an open entry for each name where it differs, so a client in
//! sync costs no memory per resource and an update costs the number of changes.
//!
//! Methods: `handle_*` take events, [`Subscription::next_batch`] yields what to send. Does not
//! know other types (see [`crate::stream`]), messages, or the time of day.
//!
//! Invariants: a batch never carries a version the client refused, until the resource changes or
//! the client gives the name up and asks anew; every batch has a cause: a change, a subscription,
//! or an expiring TTL.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::IN_FLIGHT_MAX;
use crate::limits::Limits;
use crate::limits::NAME_BYTES_MAX;
use crate::resource::Resource;
use crate::resource::Version;
use crate::snapshot::TypeSet;
use crate::types::TypeKind;

mod answer;
mod batch;
mod want;

pub use answer::Refusal;
pub use batch::Batch;
pub use batch::Item;
pub use batch::Turn;
pub use want::TooManyNames;

/// The two protocol variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Incremental: differences and explicit removals.
    Delta,
    /// State of the world.
    Sotw,
}

/// Time since an origin of the caller's choice; only differences matter.
pub type Moment = Duration;

/// The state of one type on one stream.
#[derive(Debug)]
pub struct Subscription {
    type_url: Arc<str>,
    kind: TypeKind,
    variant: Variant,
    wants_ttl: bool,
    is_started: bool,
    was_named: bool,
    is_wildcard: bool,
    names: HashSet<Arc<str>>,
    name_bytes: usize,
    set: Arc<TypeSet>,
    open: BTreeMap<Arc<str>, Open>,
    in_flight: VecDeque<InFlight>,
    is_reply_due: bool,
    is_cut: bool,
    sent_at: Moment,
    refusals: u64,
    heartbeats: BTreeMap<Arc<str>, Moment>,
    report: Report,
}

/// What to tell people about a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Responses sent.
    pub responses: u64,
    /// Version of the last response.
    pub sent: Option<String>,
    /// Version of the last acknowledged response.
    pub acknowledged: Option<String>,
    /// Last refusal, until a later response is acknowledged and nothing is parked.
    pub refusal: Option<Refusal>,
}

/// How the client's view of one name differs from the current set.
#[derive(Debug)]
struct Open {
    held: Held,
    refused: Option<Refused>,
    due: Option<Due>,
}

/// What the client has under a name.
#[derive(Clone, Debug)]
enum Held {
    /// Nothing, or nothing worth relying on.
    Nothing,
    /// A version from an earlier stream; `None` if another server wrote it.
    Version(Option<Version>),
    /// Something this stream sent.
    Resource(Arc<Resource>),
}

/// A refused version (`None`: a removal). Names refused together without saying which was wrong
/// are parked and released together.
#[derive(Clone, Copy, Debug)]
struct Refused {
    version: Option<Version>,
    together: u64,
}

/// Something to send.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// The client asked, or must have it now: does not wait for an outstanding acknowledgment.
    is_urgent: bool,
    since: Moment,
}

/// A response that was not answered yet.
#[derive(Debug)]
struct InFlight {
    nonce: String,
    version: String,
    entries: BTreeMap<Arc<str>, Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    version: Option<Version>,
    before: Held,
}

impl Subscription {
    /// A type the client has not asked for yet.
    #[must_use]
    pub fn new(type_url: Arc<str>, variant: Variant, kind: TypeKind) -> Self {
        Self {
            type_url,
            kind,
            variant,
            wants_ttl: false,
            is_started: false,
            was_named: false,
            is_wildcard: false,
            names: HashSet::new(),
            name_bytes: 0,
            set: Arc::default(),
            open: BTreeMap::new(),
            in_flight: VecDeque::new(),
            is_reply_due: false,
            is_cut: false,
            sent_at: Moment::ZERO,
            refusals: 0,
            heartbeats: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// Lets responses carry TTLs and heartbeats.
    pub fn allow_ttl(&mut self) {
        self.wants_ttl = true;
    }

    /// The type.
    #[must_use]
    pub fn type_url(&self) -> &Arc<str> {
        &self.type_url
    }

    /// How its responses behave.
    #[must_use]
    pub fn kind(&self) -> TypeKind {
        self.kind
    }

    /// For people.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether everything of the type is wanted.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// The names that are wanted explicitly.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// How many names are wanted explicitly.
    #[must_use]
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// Whether the client asks for this name.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.is_wildcard || self.names.contains(name)
    }

    /// Nothing to send, nothing unanswered, nothing refused.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.open.is_empty() && !self.is_reply_due
    }

    /// Whether something the client refused is parked.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.open.values().any(|open| open.refused.is_some())
    }

    /// Whether a response is unanswered.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether additions or changes are waiting for an acknowledgment before they can be sent. It
    /// comes, or is waited for no longer. What no event of the protocol can bring, only somebody who
    /// mends what the client refused, is not waiting.
    #[must_use]
    pub fn has_additions_due(&self) -> bool {
        let is_due =
            |(name, open): (&Arc<str>, &Open)| open.due.is_some() && self.target(name).is_some();
        !self.is_stuck() && self.open.iter().any(is_due)
    }

    /// The group has new contents for this type.
    pub fn handle_set(&mut self, now: Moment, set: &Arc<TypeSet>) {
        let old = std::mem::replace(&mut self.set, Arc::clone(set));
        for name in self.set.changed_since(&old) {
            if self.covers(&name) {
                let before = old
                    .find(&name)
                    .map_or(Held::Nothing, |r| Held::Resource(Arc::clone(r)));
                self.mark_changed(now, name, before);
            }
        }
        self.schedule_heartbeats(now);
    }

    /// Sends the current content again although it did not change (S-72).
    pub fn handle_dependency(&mut self, now: Moment, name: &str) {
        let Some(target) = self.target(name) else {
            return;
        };
        let (name, current) = (
            Arc::clone(target.name()),
            Held::Resource(Arc::clone(target)),
        );
        let version = target.version();
        let open = self
            .open
            .entry(name)
            .or_insert_with(|| Open::in_sync(current));
        if !open.is_refused(Some(version)) {
            open.due = Some(Due {
                is_urgent: true,
                since: now,
            });
        }
    }

    fn mark_changed(&mut self, now: Moment, name: Arc<str>, before: Held) {
        let target = self.set.find(&name).map(|r| r.version());
        let due = Some(Due {
            is_urgent: false,
            since: now,
        });
        let Some(open) = self.open.get_mut(&name) else {
            self.open.insert(
                name,
                Open {
                    held: before,
                    refused: None,
                    due,
                },
            );
            return;
        };
        let is_urgent = open.due.is_some_and(|due| due.is_urgent);
        if is_urgent {
            return;
        }
        if open.is_refused(target) {
            open.due = None;
        } else if open.refused.is_none() && open.held.version() == Some(target) {
            // Changed and changed back before anything was sent.
            self.open.remove(&name);
        } else {
            open.due = open.due.or(due);
        }
    }

    /// What the client should have under this name.
    fn target(&self, name: &str) -> Option<&Arc<Resource>> {
        if self.covers(name) {
            self.set.find(name)
        } else {
            None
        }
    }

    fn drop_uncovered(&mut self) {
        let (is_wildcard, names) = (self.is_wildcard, &self.names);
        self.open
            .retain(|name, _| is_wildcard || names.contains(name));
        self.heartbeats
            .retain(|name, _| is_wildcard || names.contains(name));
    }
}

impl Open {
    fn in_sync(held: Held) -> Self {
        Self {
            held,
            refused: None,
            due: None,
        }
    }

    fn is_refused(&self, version: Option<Version>) -> bool {
        self.refused
            .is_some_and(|refused| refused.version == version)
    }
}

impl Held {
    /// Outer `None`: unknown. Inner `None`: nothing.
    fn version(&self) -> Option<Option<Version>> {
        match self {
            Self::Nothing => Some(None),
            Self::Version(version) => version.map(Some),
            Self::Resource(resource) => Some(Some(resource.version())),
        }
    }

    fn resource(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Resource(resource) => Some(resource),
            Self::Nothing | Self::Version(_) => None,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}
