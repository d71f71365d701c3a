//! What is known of one resource type: what is wanted, what is held, what this stream has seen.
//!
//! Invariant: `held`, `waiting` and `expiring` contain only names `interest` covers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use xds_proto::pb::envoy::service::discovery::v3 as discovery;

use super::DOES_NOT_EXIST_AFTER;
use super::Interest;
use crate::config::Name;

/// How the wildcard is spelled out (B-40).
const WILDCARD: &str = "*";

/// State of one resource type.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) interest: Interest,
    /// Last accepted `version_info` (SotW); survives the stream (S-33).
    pub(super) version: String,
    /// What we have, with its version; survives the stream.
    pub(super) held: BTreeMap<Name, String>,
    /// When a resource that was asked for is taken as not existing (C-32).
    pub(super) waiting: BTreeMap<Name, Duration>,
    /// When a resource with a TTL goes.
    pub(super) expiring: BTreeMap<Name, Duration>,
    /// NACKs since the last ACK.
    pub(super) rejections: u32,
    /// The server does not know `interest` yet.
    pub(super) is_dirty: bool,
    stream: StreamState,
}

/// What dies with the stream.
#[derive(Debug, Default)]
struct StreamState {
    /// The interest the server knows of; none before the first request.
    sent: Option<Interest>,
    /// Unsubscribed and subscribed again before the server heard of it: it must send them again
    /// although nothing seems to have changed (C-57).
    readded: BTreeSet<Name>,
    /// A name or `*` was sent, so that an empty list means nothing, not everything (B-41).
    was_named: bool,
    /// Nonce of the last response that was answered.
    nonce: String,
}

impl Subscription {
    /// Replaces what is wanted.
    pub(super) fn set_interest(&mut self, interest: Interest) {
        if interest == self.interest {
            return;
        }
        if let Some(sent) = &self.stream.sent {
            let again = interest.names.difference(&self.interest.names);
            let again: Vec<Name> = again.filter(|n| sent.names.contains(*n)).cloned().collect();
            self.stream.readded.extend(again);
        }
        self.stream.readded.retain(|n| interest.names.contains(n));
        self.held.retain(|n, _| interest.covers(n));
        self.waiting.retain(|n, _| interest.names.contains(n));
        self.expiring.retain(|n, _| interest.covers(n));
        self.interest = interest;
        self.is_dirty = true;
    }

    pub(super) fn on_stream_open(&mut self) {
        self.stream = StreamState::default();
        self.waiting.clear();
        self.rejections = 0;
        self.is_dirty = !self.interest.is_empty();
    }

    /// A timer on a dead stream says nothing about the resource (C-32).
    pub(super) fn on_stream_closed(&mut self) {
        self.waiting.clear();
    }

    /// The server was asked for this type on this stream.
    pub(super) fn is_open(&self) -> bool {
        self.stream.sent.is_some()
    }

    /// The names of the next SotW request; `nonce` is that of the response being answered.
    pub(super) fn sotw_request(
        &mut self,
        nonce: Option<String>,
        now: Duration,
    ) -> discovery::DiscoveryRequest {
        if let Some(nonce) = nonce {
            self.stream.nonce = nonce;
        }
        let (resource_names, is_complete) = self.sotw_names();
        self.stream.was_named |= !resource_names.is_empty();
        self.is_dirty = !is_complete;
        self.mark_sent(now);
        discovery::DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names,
            response_nonce: self.stream.nonce.clone(),
            ..Default::default()
        }
    }

    /// The list that says `interest`, and whether it says all of it. What needs two requests: to
    /// take something away and ask for it again, and to end a wildcard that was said by silence.
    fn sotw_names(&mut self) -> (Vec<String>, bool) {
        if self.interest.is_empty() && !self.stream.was_named {
            return (vec![WILDCARD.to_owned()], false);
        }
        let readded = std::mem::take(&mut self.stream.readded);
        let mut names: Vec<String> = (self.interest.names.difference(&readded))
            .map(ToString::to_string)
            .collect();
        // The short form of the wildcard is understood by every server, `*` only by newer ones.
        let may_be_silent = self.interest.names.is_empty() && !self.stream.was_named;
        if self.interest.wildcard && !may_be_silent {
            names.insert(0, WILDCARD.to_owned());
        }
        (names, readded.is_empty())
    }

    /// The next delta request: what changed since the last one, or everything if it is the first.
    pub(super) fn delta_request(
        &mut self,
        nonce: Option<String>,
        now: Duration,
    ) -> discovery::DeltaDiscoveryRequest {
        let readded = std::mem::take(&mut self.stream.readded);
        let mut request = discovery::DeltaDiscoveryRequest {
            response_nonce: nonce.unwrap_or_default(),
            ..Default::default()
        };
        match &self.stream.sent {
            None => {
                request.initial_resource_versions = self.held_versions();
                if self.interest.wildcard && !self.interest.names.is_empty() {
                    request.resource_names_subscribe.push(WILDCARD.to_owned());
                }
                let names = self.interest.names.iter().map(ToString::to_string);
                request.resource_names_subscribe.extend(names);
            }
            Some(sent) => {
                let now_wanted = &self.interest;
                let add = now_wanted.names.iter();
                let add = add.filter(|n| !sent.names.contains(*n) || readded.contains(*n));
                let drop = sent.names.difference(&now_wanted.names);
                let on = now_wanted.wildcard && !sent.wildcard;
                let off = sent.wildcard && !now_wanted.wildcard;
                request.resource_names_subscribe = with_wildcard(on, add);
                request.resource_names_unsubscribe = with_wildcard(off, drop);
            }
        }
        self.is_dirty = false;
        self.mark_sent(now);
        request
    }

    /// Exactly what is held and still wanted (C-54); `held` is kept so.
    fn held_versions(&self) -> HashMap<String, String> {
        self.held
            .iter()
            .map(|(n, v)| (n.to_string(), v.clone()))
            .collect()
    }

    /// Starts the timers of what the server hears of for the first time on this stream.
    fn mark_sent(&mut self, now: Duration) {
        let deadline = now.saturating_add(DOES_NOT_EXIST_AFTER);
        let is_new = |n: &Name| match &self.stream.sent {
            Some(sent) => !sent.names.contains(n),
            None => true,
        };
        for name in self.interest.names.iter().filter(|n| is_new(n)) {
            if !self.held.contains_key(name) {
                self.waiting.insert(name.clone(), deadline);
            }
        }
        if self.stream.sent.as_ref() != Some(&self.interest) {
            self.stream.sent = Some(self.interest.clone());
        }
    }
}

fn with_wildcard<'a>(wildcard: bool, names: impl Iterator<Item = &'a Name>) -> Vec<String> {
    let wildcard = wildcard.then(|| WILDCARD.to_owned());
    wildcard
        .into_iter()
        .chain(names.map(ToString::to_string))
        .collect()
}
