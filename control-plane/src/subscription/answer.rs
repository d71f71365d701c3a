//! Acknowledgments and refusals.

use super::Arc;
use super::BTreeMap;
use super::BTreeSet;
use super::Due;
use super::Held;
use super::Moment;
use super::Open;
use super::Refused;
use super::Sent;
use super::Subscription;
use super::Variant;
use crate::limits::ERROR_TEXT_BYTES_MAX;

/// The client's words when it refused a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Version of the refused response.
    pub version: String,
    /// `google.rpc.Code` the client chose; clients disagree, so it is only shown.
    pub code: i32,
    /// Text, shortened.
    pub message: String,
}

impl Subscription {
    /// The client accepted the response with this nonce. A nonce this stream did not send, or one
    /// answered before, means nothing (S-24).
    pub fn handle_ack(&mut self, nonce: &str) {
        let Some(index) = self.in_flight.iter().position(|sent| sent.nonce == nonce) else {
            return;
        };
        let is_latest = index + 1 == self.in_flight.len();
        let Some(sent) = self.in_flight.remove(index) else {
            return;
        };
        let index = self.drop_superseded(index);
        if self.is_whole_set() {
            // What is repeated later was accepted here, unless the client had given the name up and
            // looked past it.
            let entries = sent.entries.into_iter();
            let accepted = entries.filter(|(name, _)| self.covers(name));
            let accepted: BTreeMap<_, _> = accepted.map(|(name, s)| (name, s.version)).collect();
            for later in self.in_flight.iter_mut().skip(index) {
                later
                    .entries
                    .retain(|name, repeated| accepted.get(name) != Some(&repeated.version));
            }
        }
        if is_latest {
            self.report.acknowledged = Some(sent.version);
        }
        if !self.has_refused() {
            self.report.refusal = None;
        }
    }

    /// The client refused the response with this nonce: its contents are parked (S-23).
    pub fn handle_nack(&mut self, now: Moment, nonce: &str, code: i32, message: &str) {
        let Some(index) = self.in_flight.iter().position(|sent| sent.nonce == nonce) else {
            return;
        };
        let Some(refused) = self.in_flight.remove(index) else {
            return;
        };
        let index = self.drop_superseded(index);
        let message = shorten(message, ERROR_TEXT_BYTES_MAX);
        let version = refused.version;
        let named: BTreeSet<Arc<str>> = refused
            .entries
            .keys()
            .filter(|name| mentions(message, name))
            .cloned()
            .collect();
        self.report.refusal = Some(Refusal {
            version,
            code,
            message: message.to_owned(),
        });
        self.park(now, index, refused.entries, &named);
    }

    /// A state-of-the-world answer is the last word about everything sent before; delta clients
    /// may answer in any order (B-50). Returns where the later responses begin.
    fn drop_superseded(&mut self, index: usize) -> usize {
        if self.variant == Variant::Delta {
            return index;
        }
        self.in_flight.drain(..index);
        0
    }

    /// Parks the culprits: those the text names, else all that changed in the response.
    fn park(
        &mut self,
        now: Moment,
        index: usize,
        entries: BTreeMap<Arc<str>, Sent>,
        named: &BTreeSet<Arc<str>>,
    ) {
        // Saying that there is nothing where there was nothing offends nobody.
        let entries = entries
            .into_iter()
            .filter(|(_, s)| s.version.is_some() || !s.before.is_nothing());
        let entries: BTreeMap<_, _> = entries.collect();
        // What changed since may have been the culprit; then the others deserve another try.
        let is_cured = named.is_empty()
            && entries
                .iter()
                .any(|(name, sent)| self.is_outdated(name, sent));
        self.refusals += 1;
        for (name, sent) in entries {
            if !self.covers(&name) || !(named.is_empty() || named.contains(&name)) {
                continue;
            }
            if !named.is_empty() {
                self.refusals += 1;
            }
            let together = self.refusals;
            let refused = Refused {
                version: sent.version,
                together,
            };
            self.park_one(now, index, name, sent, (!is_cured).then_some(refused));
        }
    }

    fn is_outdated(&self, name: &str, sent: &Sent) -> bool {
        self.covers(name) && self.target(name).map(|r| r.version()) != sent.version
    }

    fn park_one(
        &mut self,
        now: Moment,
        index: usize,
        name: Arc<str>,
        sent: Sent,
        refused: Option<Refused>,
    ) {
        let is_current = !self.is_outdated(&name, &sent);
        let later = self.in_flight.iter_mut().skip(index);
        if let Some(newer) = later.filter_map(|f| f.entries.get_mut(&name)).next() {
            // What the one on its way replaces is what the client had before both.
            newer.before = sent.before.clone();
            let is_repeated = newer.version == sent.version;
            let open = self
                .open
                .get_mut(&name)
                .filter(|_| is_current && !is_repeated);
            if let (Some(open), Some(_)) = (open, refused) {
                // Changed and changed back, the first change is on its way.
                open.refuse(refused);
            }
            if !is_repeated || refused.is_none() {
                return;
            }
        }
        let open = self
            .open
            .entry(name)
            .or_insert_with(|| Open::in_sync(Held::Nothing));
        open.held = sent.before;
        match refused {
            Some(_) if is_current => open.refuse(refused),
            Some(_) => open.refused = refused,
            None => {
                open.refused = None;
                open.due = open.due.or(Some(Due {
                    is_urgent: false,
                    since: now,
                }));
            }
        }
    }
}

impl Open {
    /// Parks the version that is current; only a question of the client's is still to be answered.
    fn refuse(&mut self, refused: Option<Refused>) {
        self.refused = refused;
        self.due = self.due.filter(|due| due.is_urgent);
    }
}

/// Whether `text` contains `name` as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).unwrap_or("");
        let after = text.get(at + name.len()..).unwrap_or("");
        !before.ends_with(is_name_char) && !continues_name(after)
    })
}

/// A full stop or colon belongs to the name only if the name goes on behind it.
fn continues_name(after: &str) -> bool {
    let mut chars = after.chars();
    match chars.next() {
        Some('.' | ':') => chars.next().is_some_and(char::is_alphanumeric),
        Some(c) => is_name_char(c),
        None => false,
    }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '|')
}

fn shorten(text: &str, bytes_max: usize) -> &str {
    let end = (0..=text.len().min(bytes_max))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_words() {
        for text in ["cluster a.b: no", "a.b", "(a.b)", "bad 'a.b'.", "a.b, c"] {
            assert!(mentions(text, "a.b"), "{text}");
        }
        for text in [
            "", "xa.b", "a.bc", "a.b.c", "a.b-c", "x-a.b", "a.b|1", "a b",
        ] {
            assert!(!mentions(text, "a.b"), "{text}");
        }
        assert!(!mentions("anything", ""));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("aé", 2), "a");
        assert_eq!(shorten("aé", 3), "aé");
        assert_eq!(shorten("", 3), "");
    }
}
