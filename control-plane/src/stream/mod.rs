//! Sans-IO: one stream of one client, all its types, and the order between them.
//!
//! Make before break (S-70): clusters, endpoints, secrets, listeners, routes; what clusters,
//! endpoints and secrets lost goes last, after the client confirmed the listeners and routes that
//! no longer use it, or after a while. Endpoints never wait for a cluster acknowledgment (S-71)
//! and follow every cluster change (S-72).
//!
//! The caller gives a snapshot before the first request and again on every change, and asks
//! [`Session::next_batch`] until it has nothing more; batches depend on the last state only, so a
//! slow client skips what it missed. Does not know sockets or the time of day.

use std::sync::Arc;

use crate::limits::Limits;
use crate::limits::TYPE_URL_BYTES_MAX;
use crate::limits::TYPES_PER_STREAM_MAX;
use crate::snapshot::Snapshot;
use crate::snapshot::TypeSet;
use crate::subscription::Batch;
use crate::subscription::Moment;
use crate::subscription::Report;
use crate::subscription::Subscription;
use crate::subscription::TooManyNames;
use crate::subscription::Turn;
use crate::subscription::Variant;
use crate::types;
use crate::types::TypeKind;
use crate::wire;

mod message;

pub use message::to_delta;
pub use message::to_sotw;

/// Which types a stream may speak about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them (ADS).
    Aggregated,
    /// One.
    Single(&'static str),
}

/// What a server insists on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Refuse clients that do not say who they are (S-4).
    pub needs_node_id: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            needs_node_id: true,
            limits: Limits::default(),
        }
    }
}

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Dynamic parameters are not implemented (B-103).
    #[error("dynamic parameters are not supported")]
    DynamicParameters,
    /// S-4.
    #[error("the first request of a stream needs node.id")]
    MissingNodeId,
    /// S-5.
    #[error("a request on an aggregated stream needs type_url")]
    MissingType,
    /// More than one stream may hold.
    #[error(transparent)]
    TooManyNames(#[from] TooManyNames),
    /// More than one stream may hold.
    #[error("too many resource types on one stream")]
    TooManyTypes,
    /// The stream serves another type.
    #[error("this stream serves another resource type")]
    WrongType,
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    scope: Scope,
    policy: Policy,
    node: Option<wire::Node>,
    subscriptions: Vec<Subscription>,
    snapshot: Option<Arc<Snapshot>>,
    nonces: u64,
}

/// One type of one stream, for people.
#[derive(Clone, Debug)]
pub struct TypeReport {
    /// The type.
    pub type_url: Arc<str>,
    /// Whether everything is wanted.
    pub is_wildcard: bool,
    /// How many names are wanted.
    pub names: usize,
    /// Where the client stands.
    pub state: SyncState,
    /// What was sent, acknowledged and refused.
    pub report: Report,
}

/// Where a client stands (B-93).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Refused something that still stands.
    Error,
    /// Was never sent anything.
    NotSent,
    /// Something is to be sent or was not acknowledged yet.
    Stale,
    /// Acknowledged everything.
    Synced,
}

impl Session {
    /// A stream that was just opened.
    #[must_use]
    pub fn new(variant: Variant, scope: Scope, policy: Policy) -> Self {
        Self {
            variant,
            scope,
            policy,
            node: None,
            subscriptions: Vec::new(),
            snapshot: None,
            nonces: 0,
        }
    }

    /// Learns who the client is from the first request; later nodes are ignored (S-2).
    ///
    /// # Errors
    /// When the client does not say and must.
    pub fn handle_node(&mut self, node: Option<&wire::Node>) -> Result<&wire::Node, Rejection> {
        let node = match self.node.take() {
            Some(known) => known,
            None => node.cloned().unwrap_or_default(),
        };
        if node.id.is_empty() && self.policy.needs_node_id {
            return Err(Rejection::MissingNodeId);
        }
        Ok(self.node.insert(node))
    }

    /// A new snapshot, of the same group or of another.
    pub fn handle_snapshot(&mut self, now: Moment, snapshot: &Arc<Snapshot>) {
        for subscription in &mut self.subscriptions {
            let set = set_of(Some(snapshot), subscription.type_url());
            subscription.handle_set(now, &set);
        }
        self.snapshot = Some(Arc::clone(snapshot));
    }

    /// A state-of-the-world request.
    ///
    /// # Errors
    /// When the stream must end.
    pub fn handle_sotw(
        &mut self,
        now: Moment,
        request: &wire::DiscoveryRequest,
    ) -> Result<(), Rejection> {
        self.handle_node(request.node.as_ref())?;
        let index = self.subscription(now, &request.type_url)?;
        let mut names = request.resource_names.clone();
        extend_with_locators(&mut names, &request.resource_locators)?;
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return Ok(());
        };
        answer(
            subscription,
            now,
            &request.response_nonce,
            request.error_detail.as_ref(),
        );
        let (version, limits) = (&request.version_info, &self.policy.limits);
        Ok(subscription.handle_names(now, &names, version, limits)?)
    }

    /// A delta request.
    ///
    /// # Errors
    /// When the stream must end.
    pub fn handle_delta(
        &mut self,
        now: Moment,
        request: &wire::DeltaDiscoveryRequest,
    ) -> Result<(), Rejection> {
        self.handle_node(request.node.as_ref())?;
        let index = self.subscription(now, &request.type_url)?;
        let mut subscribe = request.resource_names_subscribe.clone();
        extend_with_locators(&mut subscribe, &request.resource_locators_subscribe)?;
        let mut unsubscribe = request.resource_names_unsubscribe.clone();
        extend_with_locators(&mut unsubscribe, &request.resource_locators_unsubscribe)?;
        let held = request.initial_resource_versions.iter();
        let held: Vec<_> = held.map(|e| (e.key.clone(), e.value.clone())).collect();
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return Ok(());
        };
        answer(
            subscription,
            now,
            &request.response_nonce,
            request.error_detail.as_ref(),
        );
        let limits = &self.policy.limits;
        Ok(subscription.handle_changes(now, &subscribe, &unsubscribe, &held, limits)?)
    }

    /// The next response, if there is a cause for one.
    pub fn next_batch(&mut self, now: Moment) -> Option<Batch> {
        self.snapshot.as_ref()?;
        let batch = self.next_addition(now).or_else(|| self.next_removal(now))?;
        self.nonces += 1;
        if &*batch.type_url == types::CLUSTER {
            self.follow_clusters(now, &batch);
        }
        Some(batch)
    }

    /// When to ask again without any further event; later than `now`.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let (delay, limits) = (self.removal_delay(), &self.policy.limits);
        let deadlines = self
            .subscriptions
            .iter()
            .filter_map(|s| s.deadline(now, delay, limits));
        deadlines.min()
    }

    /// The names of one type the client asks for.
    pub fn names_of(&self, type_url: &str) -> impl Iterator<Item = &Arc<str>> {
        let mut subscriptions = self.subscriptions.iter();
        let found = subscriptions.find(|s| &**s.type_url() == type_url);
        found.into_iter().flat_map(Subscription::names)
    }

    /// Who the client is.
    #[must_use]
    pub fn node(&self) -> Option<&wire::Node> {
        self.node.as_ref()
    }

    /// Which protocol it speaks.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// For people.
    pub fn reports(&self) -> impl Iterator<Item = TypeReport> {
        self.subscriptions.iter().map(|subscription| TypeReport {
            type_url: Arc::clone(subscription.type_url()),
            is_wildcard: subscription.is_wildcard(),
            names: subscription.names_len(),
            state: state_of(subscription),
            report: subscription.report().clone(),
        })
    }

    /// The place of the type's subscription, made if the client never spoke of it.
    fn subscription(&mut self, now: Moment, type_url: &str) -> Result<usize, Rejection> {
        let type_url = match (self.scope, type_url) {
            (Scope::Aggregated, "") => return Err(Rejection::MissingType),
            (Scope::Single(own), "") => own,
            (Scope::Single(own), other) if own != other => return Err(Rejection::WrongType),
            (_, given) => given,
        };
        let known = self
            .subscriptions
            .iter()
            .position(|s| &**s.type_url() == type_url);
        if let Some(index) = known {
            return Ok(index);
        }
        let is_long = type_url.len() > TYPE_URL_BYTES_MAX;
        if is_long || self.subscriptions.len() >= TYPES_PER_STREAM_MAX {
            return Err(Rejection::TooManyTypes);
        }
        let kind = TypeKind::of(type_url);
        let mut new = Subscription::new(Arc::from(type_url), self.variant, kind);
        if self.understands_ttl() {
            new.allow_ttl();
        }
        new.handle_set(now, &set_of(self.snapshot.as_ref(), type_url));
        let index = self
            .subscriptions
            .partition_point(|s| s.kind().rank <= kind.rank);
        self.subscriptions.insert(index, new);
        Ok(index)
    }

    /// S-82; a state-of-the-world response must in addition be allowed to wrap (S-34).
    fn understands_ttl(&self) -> bool {
        let Some(node) = &self.node else { return false };
        let has = |names: &[&str]| node.client_features.iter().any(|f| names.contains(&&**f));
        has(&TTL_FEATURE) && (self.variant == Variant::Delta || has(&WRAP_FEATURES))
    }

    fn next_addition(&mut self, now: Moment) -> Option<Batch> {
        let nonce = self.next_nonce();
        let mut are_targets_due = false;
        for subscription in &mut self.subscriptions {
            let kind = subscription.kind();
            // A route must not overtake the cluster it names when that waits for its turn. It does
            // not wait for one that has none, or one refused cluster would stop all routes.
            let is_held = kind.names_clusters && are_targets_due;
            let turn = Turn {
                now,
                may_remove: false,
                is_held,
            };
            let batch = subscription.next_batch(turn, &nonce, &self.policy.limits);
            if batch.is_some() {
                return batch;
            }
            are_targets_due |= kind.removal_waits && subscription.has_additions_due();
        }
        None
    }

    fn next_removal(&mut self, now: Moment) -> Option<Batch> {
        let nonce = self.next_nonce();
        let delay = self.removal_delay();
        let is_confirmed = self.are_users_settled();
        for subscription in &mut self.subscriptions {
            let Some(since) = subscription.removal_since() else {
                continue;
            };
            if is_confirmed || now >= since + delay {
                let turn = Turn {
                    now,
                    may_remove: true,
                    is_held: false,
                };
                let batch = subscription.next_batch(turn, &nonce, &self.policy.limits);
                if batch.is_some() {
                    return batch;
                }
            }
        }
        None
    }

    fn next_nonce(&self) -> String {
        format!("{:x}", self.nonces + 1)
    }

    fn users(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions
            .iter()
            .filter(|s| s.kind().names_clusters)
    }

    /// Whether the client confirmed the last listeners and routes. A refusal is no confirmation:
    /// the client then still runs routes to what is to be removed.
    fn are_users_settled(&self) -> bool {
        self.users().next().is_some() && self.users().all(Subscription::is_settled)
    }

    fn removal_delay(&self) -> Moment {
        let limits = &self.policy.limits;
        if self.users().next().is_some() {
            limits.removal_timeout
        } else {
            limits.removal_delay
        }
    }

    fn follow_clusters(&mut self, now: Moment, batch: &Batch) {
        let endpoints = self
            .subscriptions
            .iter_mut()
            .find(|s| &**s.type_url() == types::ENDPOINT);
        let Some(endpoints) = endpoints else { return };
        let references = batch
            .changed
            .iter()
            .flat_map(|cluster| cluster.references());
        for reference in references.filter(|r| r.type_url == types::ENDPOINT) {
            endpoints.handle_dependency(now, &reference.name);
        }
    }
}

fn set_of(snapshot: Option<&Arc<Snapshot>>, type_url: &str) -> Arc<TypeSet> {
    snapshot
        .and_then(|s| s.set(type_url))
        .cloned()
        .unwrap_or_default()
}

/// An error detail, and nothing else, makes a refusal (S-22).
fn answer(subscription: &mut Subscription, now: Moment, nonce: &str, error: Option<&wire::Status>) {
    if nonce.is_empty() {
        return;
    }
    match error {
        Some(status) => subscription.handle_nack(now, nonce, status.code, &status.message),
        None => subscription.handle_ack(nonce),
    }
}

/// A locator without parameters is a name (B-103).
fn extend_with_locators(
    names: &mut Vec<String>,
    locators: &[wire::ResourceLocator],
) -> Result<(), Rejection> {
    if locators
        .iter()
        .any(|locator| !locator.dynamic_parameters.is_empty())
    {
        return Err(Rejection::DynamicParameters);
    }
    names.extend(locators.iter().map(|locator| locator.name.clone()));
    Ok(())
}

fn state_of(subscription: &Subscription) -> SyncState {
    if subscription.has_refused() || subscription.report().refusal.is_some() {
        SyncState::Error
    } else if subscription.report().responses == 0 && !subscription.is_settled() {
        SyncState::NotSent
    } else if subscription.is_settled() {
        SyncState::Synced
    } else {
        SyncState::Stale
    }
}

const TTL_FEATURE: [&str; 1] = ["xds.config.supports-resource-ttl"];

/// Three spellings are in use (S-34).
const WRAP_FEATURES: [&str; 3] = [
    "xds.config.supports-resource-in-sotw",
    "xds.config.resource-in-sotw",
    "envoy.config.resource-in-sotw",
];

#[cfg(test)]
mod tests;
