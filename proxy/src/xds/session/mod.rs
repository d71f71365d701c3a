//! The client's half of the xDS protocol, without I/O: which requests to send, what a response
//! means, whether it is acknowledged.
//!
//! One [`Session`] serves all resource types of one aggregated stream (B-6), SotW or delta, and
//! outlives its streams. Time comes in as an argument, counted from any fixed moment. It neither
//! stores resource values nor decodes them: the caller's `accept` does, and gets to refuse.
//!
//! Invariants:
//! - Every response of a type that was asked for gets exactly one ACK or NACK (C-20).
//! - Answers of one type leave in the order of their responses.
//! - What is good in a refused response is in the [`Update`] all the same (C-90).
//! - Memory is bounded by the interest and by `limits::RESOURCES_MAX`: while too many answers wait
//!   to be sent, [`Session::is_reading`] is false.

mod incoming;
mod interest;
#[cfg(test)]
mod model_tests;
mod nack;
mod receive;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::envoy::service::discovery::v3 as discovery;
use xds_proto::pb::google::rpc::Status;

pub use incoming::Response;
pub use incoming::ServerError;
pub use interest::Interest;
pub use nack::NACK_TEXT_BYTES_MAX;
pub(crate) use nack::clip;
pub use receive::Accept;
pub use receive::Accepted;
pub use receive::Removal;
pub use receive::Update;

use crate::config::Name;
use crate::xds::resource::ResourceType;
use subscription::Subscription;

/// A resource that was asked for on a living stream and did not come is taken as not existing
/// (C-32; the time is the one every xDS client uses).
pub const DOES_NOT_EXIST_AFTER: Duration = Duration::from_secs(15);

/// Answers waiting to be sent before reading stops. Four types with a few pushes each fit many
/// times; a server that pushes without reading, or repeats what is refused, does not.
const ANSWERS_MAX: usize = 64;

/// INTERNAL, the code Envoy uses in a NACK (C-21).
const NACK_CODE: i32 = 13;

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// Incremental.
    Delta,
    /// State of the world.
    #[default]
    Sotw,
}

/// How a session speaks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which protocol.
    pub variant: Variant,
    /// Who we are.
    pub node: Node,
    /// Say so only once per stream (`set_node_on_first_message_only`).
    pub node_on_first_message_only: bool,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Incremental.
    Delta(Box<discovery::DeltaDiscoveryRequest>),
    /// State of the world.
    Sotw(Box<discovery::DiscoveryRequest>),
}

/// What the passing of time brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// Asked for and not sent in time. It stays subscribed.
    DoesNotExist(ResourceType, Name),
    /// Its TTL has run out; it is no longer held.
    Expired(ResourceType, Name),
}

/// The client's state towards one management server.
#[derive(Debug)]
pub struct Session {
    options: Options,
    types: BTreeMap<ResourceType, Subscription>,
    answers: VecDeque<Answer>,
    is_connected: bool,
    is_node_sent: bool,
}

/// An ACK or NACK that waits to be sent.
#[derive(Debug)]
struct Answer {
    resource_type: ResourceType,
    nonce: String,
    error: Option<String>,
    not_before: Duration,
    /// SotW: the version to report; later responses may have moved on.
    version: String,
}

impl Session {
    /// A session without a stream and without interests.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            types: BTreeMap::new(),
            answers: VecDeque::new(),
            is_connected: false,
            is_node_sent: false,
        }
    }

    /// Sets what is wanted of one type; what is no longer wanted is forgotten.
    pub fn subscribe(&mut self, resource_type: ResourceType, interest: Interest) {
        if interest.is_empty() && !self.types.contains_key(&resource_type) {
            return;
        }
        self.types
            .entry(resource_type)
            .or_default()
            .set_interest(interest);
    }

    /// What is wanted of one type.
    pub fn interest(&self, resource_type: ResourceType) -> Option<&Interest> {
        self.types.get(&resource_type).map(|s| &s.interest)
    }

    /// The names held of one type, with their versions.
    pub fn held(&self, resource_type: ResourceType) -> impl Iterator<Item = (&Name, &str)> {
        let held = self.types.get(&resource_type).map(|s| s.held.iter());
        held.into_iter().flatten().map(|(n, v)| (n, v.as_str()))
    }

    /// Resources are there that came in an earlier life: as if a stream had sent them and was lost.
    pub fn remember(
        &mut self,
        resource_type: ResourceType,
        held: impl IntoIterator<Item = (Name, String)>,
    ) {
        let Some(subscription) = self.types.get_mut(&resource_type) else {
            return;
        };
        for (name, version) in held {
            if subscription.interest.covers(&name) {
                subscription.waiting.remove(&name);
                subscription.held.insert(name, version);
            }
        }
    }

    /// A stream stands: everything is asked for anew.
    pub fn on_stream_open(&mut self) {
        self.answers.clear();
        self.is_connected = true;
        self.is_node_sent = false;
        self.types
            .values_mut()
            .for_each(Subscription::on_stream_open);
    }

    /// The stream is gone; nonces die with it, what is held stays (B-11).
    pub fn on_stream_closed(&mut self) {
        self.answers.clear();
        self.is_connected = false;
        self.types
            .values_mut()
            .for_each(Subscription::on_stream_closed);
    }

    /// A stream stands.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// There is room for another answer. Stop reading the stream while this is false.
    pub fn is_reading(&self) -> bool {
        self.answers.len() < ANSWERS_MAX
    }

    /// The next message to send now, if any: answers first, then changed subscriptions.
    pub fn next_request(&mut self, now: Duration) -> Option<Request> {
        if !self.is_connected {
            return None;
        }
        if let Some(answer) = self.next_answer(now) {
            return Some(self.answer(answer, now));
        }
        let dirty = self.types.iter_mut().find(|(_, s)| s.is_dirty);
        let (&resource_type, subscription) = dirty?;
        if subscription.interest.is_empty() && !subscription.is_open() {
            // Nothing was ever said, and an empty request would mean everything.
            subscription.is_dirty = false;
            return self.next_request(now);
        }
        let variant = self.options.variant;
        let mut request = match variant {
            Variant::Delta => Request::Delta(Box::new(subscription.delta_request(None, now))),
            Variant::Sotw => Request::Sotw(Box::new(subscription.sotw_request(None, now))),
        };
        self.sign(resource_type, &mut request);
        Some(request)
    }

    /// What has run out by now.
    pub fn on_tick(&mut self, now: Duration) -> Vec<Lapse> {
        let mut lapses = Vec::new();
        for (&resource_type, s) in &mut self.types {
            for name in take_due(&mut s.waiting, now) {
                lapses.push(Lapse::DoesNotExist(resource_type, name));
            }
            for name in take_due(&mut s.expiring, now) {
                s.held.remove(&name);
                lapses.push(Lapse::Expired(resource_type, name));
            }
        }
        lapses
    }

    /// When something happens by itself after `now`: a timer runs out or a NACK may leave.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let types = self.types.values();
        let timers = types.flat_map(|s| s.waiting.values().chain(s.expiring.values()));
        let all = timers.chain(self.answers.iter().map(|a| &a.not_before));
        all.filter(|at| **at > now).min().copied()
    }

    /// The first answer that may leave, never before an older one of its type.
    fn next_answer(&mut self, now: Duration) -> Option<Answer> {
        let mut held_back = Vec::new();
        let at = self.answers.iter().position(|a| {
            // A changed subscription cannot wait, and must not pass as an ACK of the response that
            // is about to be refused.
            let is_dirty = self.types.get(&a.resource_type).is_some_and(|s| s.is_dirty);
            let may_leave = a.not_before <= now || is_dirty;
            if !may_leave {
                held_back.push(a.resource_type);
            }
            may_leave && !held_back.contains(&a.resource_type)
        })?;
        self.answers.remove(at)
    }

    fn answer(&mut self, answer: Answer, now: Duration) -> Request {
        let subscription = self.types.entry(answer.resource_type).or_default();
        let error_detail = answer.error.map(|message| Status {
            code: NACK_CODE,
            message,
            details: Vec::new(),
        });
        let mut request = match self.options.variant {
            Variant::Delta => {
                let mut r = subscription.delta_request(Some(answer.nonce), now);
                r.error_detail = error_detail;
                Request::Delta(Box::new(r))
            }
            Variant::Sotw => {
                let mut r = subscription.sotw_request(Some(answer.nonce), now);
                r.error_detail = error_detail;
                r.version_info = answer.version;
                Request::Sotw(Box::new(r))
            }
        };
        self.sign(answer.resource_type, &mut request);
        request
    }

    /// Fills in what every message carries.
    fn sign(&mut self, resource_type: ResourceType, request: &mut Request) {
        let with_node = !self.is_node_sent || !self.options.node_on_first_message_only;
        let node = with_node.then(|| self.options.node.clone());
        self.is_node_sent = true;
        match request {
            Request::Delta(r) => {
                resource_type.type_url().clone_into(&mut r.type_url);
                r.node = node;
            }
            Request::Sotw(r) => {
                resource_type.type_url().clone_into(&mut r.type_url);
                r.node = node;
            }
        }
    }
}

fn take_due(timers: &mut BTreeMap<Name, Duration>, now: Duration) -> Vec<Name> {
    let due: Vec<Name> = (timers.iter().filter(|(_, at)| **at <= now))
        .map(|(n, _)| n.clone())
        .collect();
    for name in &due {
        timers.remove(name);
    }
    due
}
