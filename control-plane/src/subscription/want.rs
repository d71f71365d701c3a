//! The client's wishes: names, wildcard, and what it brings from an earlier stream.

use std::collections::HashMap;

use super::Arc;
use super::Due;
use super::HashSet;
use super::Held;
use super::Limits;
use super::Moment;
use super::NAME_BYTES_MAX;
use super::Open;
use super::Subscription;
use super::Variant;
use super::Version;

/// The client asked for more than one stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many or too long resource names")]
pub struct TooManyNames;

/// Ends the SotW version of a response to a wildcard. Names may have got a set with the same content,
/// and a client that gave them up meanwhile does not hold it (S-33).
pub(super) const WHOLE: &str = "*";

/// The explicit wildcard (B-40).
const WILDCARD: &str = "*";

impl Subscription {
    /// State of the world: `names` is the whole subscription. `version` is the version the client
    /// says it runs; it counts in the first request of a type only (S-33).
    ///
    /// # Errors
    /// When the limits are exceeded; the stream should end.
    pub fn handle_names(
        &mut self,
        now: Moment,
        names: &[String],
        version: &str,
        limits: &Limits,
    ) -> Result<(), TooManyNames> {
        debug_assert_eq!(self.variant, Variant::Sotw);
        let is_first = !std::mem::replace(&mut self.is_started, true);
        self.was_named |= !names.is_empty();
        let legacy = names.is_empty() && !self.was_named && self.kind.legacy_wildcard;
        let is_wildcard = legacy || names.iter().any(|name| name == WILDCARD);

        let wanted = names.iter().filter(|name| *name != WILDCARD);
        let wanted: HashSet<&str> = wanted.map(String::as_str).collect();
        let unwanted = self.names.iter().filter(|name| !wanted.contains(&***name));
        let unwanted: Vec<Arc<str>> = unwanted.cloned().collect();
        for name in unwanted {
            self.forget_name(&name);
        }
        for name in wanted {
            let before = if self.covers(name) {
                self.current(name)
            } else {
                Held::Nothing
            };
            if self.remember_name(name, limits)? {
                self.ask(now, name, before);
                self.is_reply_due |= self.kind.whole_set;
            }
        }
        let started_wildcard = is_wildcard && !self.is_wildcard;
        self.is_wildcard = is_wildcard;
        self.drop_uncovered();
        // The explicit wildcard may have been given up and asked for anew since that version, so only
        // the legacy one cannot have grown (S-33).
        let is_known = is_first
            && legacy
            && self.kind.whole_set
            && version.strip_suffix(WHOLE) == Some(&*self.set.version().to_string());
        if started_wildcard && !is_known {
            self.ask_for_all(now, &HashMap::new());
            self.is_reply_due |= self.kind.whole_set;
        }
        if is_first && !version.is_empty() {
            // It has something from an earlier stream, and there is no telling what.
            self.open
                .values_mut()
                .for_each(|open| open.held = Held::Version(None));
        }
        self.schedule_heartbeats(now);
        Ok(())
    }

    /// Delta: changes to the subscription; `held` are the versions the client brings along, which
    /// count in the first request of a type only (C-54).
    ///
    /// # Errors
    /// When the limits are exceeded; the stream should end.
    pub fn handle_changes(
        &mut self,
        now: Moment,
        subscribe: &[String],
        unsubscribe: &[String],
        held: &[(String, String)],
        limits: &Limits,
    ) -> Result<(), TooManyNames> {
        debug_assert_eq!(self.variant, Variant::Delta);
        let is_first = !std::mem::replace(&mut self.is_started, true);
        if held.len() > limits.names_max {
            return Err(TooManyNames);
        }
        let held = if is_first { held } else { &[] };
        let held: HashMap<&str, Held> = held
            .iter()
            .map(|(name, v)| (&**name, Held::Version(Version::parse(v))))
            .collect();

        self.handle_unsubscribe(now, unsubscribe);
        let legacy = is_first && subscribe.is_empty() && self.kind.legacy_wildcard;
        let asks_wildcard = legacy || subscribe.iter().any(|name| name == WILDCARD);
        for name in subscribe.iter().filter(|name| *name != WILDCARD) {
            let was_covered = self.covers(name);
            self.remember_name(name, limits)?;
            if held.contains_key(&**name) {
                continue; // compared below
            }
            // A client that resubscribes may have dropped it meanwhile: answer anyway (S-51).
            let before = if was_covered {
                self.current(name)
            } else {
                Held::Nothing
            };
            self.ask(now, name, before);
        }
        if asks_wildcard && !std::mem::replace(&mut self.is_wildcard, true) {
            self.ask_for_all(now, &held);
            self.take_back(now);
            // Something must end the client's initial wait when there is nothing to send.
            self.is_reply_due |= held.is_empty();
        }
        for (name, held) in held {
            self.compare_held(now, name, held);
        }
        self.schedule_heartbeats(now);
        Ok(())
    }

    fn handle_unsubscribe(&mut self, now: Moment, names: &[String]) {
        for name in names {
            if name == WILDCARD {
                self.is_wildcard = false;
                self.drop_uncovered();
            } else if self.forget_name(name) && self.is_wildcard {
                // The client cannot know whether the wildcard still holds it (S-44).
                self.ask(now, name, self.current(name));
            }
        }
        // Unsubscribing answers nothing else, and unknown names are no news (S-53).
        self.drop_uncovered();
    }

    fn ask_for_all(&mut self, now: Moment, held: &HashMap<&str, Held>) {
        let missing = self.set.iter().map(|resource| resource.name());
        let missing =
            missing.filter(|name| !self.names.contains(*name) && !held.contains_key(&***name));
        let missing: Vec<Arc<str>> = missing.cloned().collect();
        let due = Some(Due {
            is_urgent: true,
            since: now,
        });
        for name in missing {
            let open = self
                .open
                .entry(name)
                .or_insert_with(|| Open::in_sync(Held::Nothing));
            open.due = due;
        }
    }

    /// A wildcard makes the client keep what is still on its way from an earlier subscription, and
    /// was removed meanwhile: take it back.
    fn take_back(&mut self, now: Moment) {
        let sent = self.in_flight.iter().flat_map(|sent| sent.entries.keys());
        let gone = sent.filter(|name| self.set.find(name).is_none() && !self.names.contains(*name));
        let gone: Vec<Arc<str>> = gone.cloned().collect();
        for name in gone {
            let due = Some(Due {
                is_urgent: false,
                since: now,
            });
            let held = Held::Version(None);
            self.open.entry(name).or_insert(Open {
                held,
                refused: None,
                due,
            });
        }
    }

    /// Sends only what differs from what the client brought, and removes what is gone (S-55).
    fn compare_held(&mut self, now: Moment, name: &str, held: Held) {
        if !self.covers(name) {
            return;
        }
        let target = self.target(name).map(|r| r.version());
        let name = self.shared_name(name);
        if held.version() == Some(target) {
            self.open.remove(&name);
        } else {
            let due = Some(Due {
                is_urgent: target.is_some(),
                since: now,
            });
            self.open.insert(
                name,
                Open {
                    held,
                    refused: None,
                    due,
                },
            );
        }
    }

    fn ask(&mut self, now: Moment, name: &str, before: Held) {
        let name = self.shared_name(name);
        let open = self
            .open
            .entry(name)
            .or_insert_with(|| Open::in_sync(before));
        open.due = Some(Due {
            is_urgent: true,
            since: now,
        });
    }

    fn current(&self, name: &str) -> Held {
        self.set
            .find(name)
            .map_or(Held::Nothing, |r| Held::Resource(Arc::clone(r)))
    }

    /// Names that exist share the store's allocation.
    fn shared_name(&self, name: &str) -> Arc<str> {
        match (self.set.find(name), self.names.get(name)) {
            (Some(resource), _) => Arc::clone(resource.name()),
            (None, Some(known)) => Arc::clone(known),
            (None, None) => Arc::from(name),
        }
    }

    /// Returns whether the name is new.
    fn remember_name(&mut self, name: &str, limits: &Limits) -> Result<bool, TooManyNames> {
        if self.names.contains(name) {
            return Ok(false);
        }
        let bytes = self.name_bytes + name.len();
        let is_long = name.len() > NAME_BYTES_MAX || bytes > limits.name_bytes_max;
        if is_long || self.names.len() >= limits.names_max {
            return Err(TooManyNames);
        }
        let name = self.shared_name(name);
        self.names.insert(name);
        self.name_bytes = bytes;
        Ok(true)
    }

    /// Returns whether the name was known.
    fn forget_name(&mut self, name: &str) -> bool {
        let was_known = self.names.remove(name);
        if was_known {
            self.name_bytes = self.name_bytes.saturating_sub(name.len());
        }
        was_known
    }
}
