//! Filter state that connections and requests were given: hashes of texts, for hash policies.

use xxhash_rust::xxh64::xxh64;

use crate::config::Name;
use crate::config::filter_state::StateValue;
use crate::telemetry::access_log;
use crate::telemetry::access_log::ExchangeRecord;

/// The hash of each object, by its key. Most have none and pay for no more than an empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenState(Vec<(Name, u64)>);

impl GivenState {
    /// There is none.
    pub const NONE: Self = Self(Vec::new());

    /// The hash of the object of this key.
    pub fn hash(&self, key: &str) -> Option<u64> {
        let mut objects = self.0.iter();
        objects.find_map(|(name, hash)| (**name == *key).then_some(*hash))
    }

    /// Makes objects of what is known; one takes the place of another with its key.
    pub fn give(&mut self, values: &[StateValue], record: &ExchangeRecord<'_>) {
        let mut text = Vec::new();
        for value in values {
            text.clear();
            match value.omits_empty {
                true => access_log::eval(&value.text, record, &mut text),
                false => access_log::plain(&value.text, record, &mut text),
            }
            if text.is_empty() && value.skips_empty {
                continue;
            }
            let hash = xxh64(&text, 0);
            match self.0.iter_mut().find(|(name, _)| *name == value.key) {
                Some((_, before)) => *before = hash,
                None => self.0.push((value.key.clone(), hash)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::access_log::Command;
    use crate::config::access_log::Template;
    use crate::config::access_log::TemplatePart;

    fn value(key: &str, parts: Vec<TemplatePart>) -> StateValue {
        StateValue {
            key: key.into(),
            text: Template { parts },
            omits_empty: false,
            skips_empty: false,
        }
    }

    #[test]
    fn the_last_text_of_a_key_counts_unless_it_is_none() {
        let literal = |text: &str| vec![TemplatePart::Literal(text.into())];
        let unknown = || vec![TemplatePart::Command(Command::RequestedServerName, None)];
        let omitting = |key, skips_empty| StateValue {
            omits_empty: true,
            skips_empty,
            ..value(key, unknown())
        };
        let values = [
            value("a", literal("x")),
            value("a", literal("y")),
            omitting("a", true),
            value("b", unknown()),
            omitting("c", false),
            omitting("d", true),
        ];
        let record = ExchangeRecord::new(SystemTime::UNIX_EPOCH);
        let mut state = GivenState::default();
        state.give(&values, &record);
        assert_eq!(state.hash("a"), Some(xxh64(b"y", 0)));
        assert_eq!(state.hash("b"), Some(xxh64(b"-", 0)));
        assert_eq!(state.hash("c"), Some(xxh64(b"", 0)));
        assert_eq!(state.hash("d"), None);
        assert_eq!(GivenState::NONE.hash("a"), None);
    }
}
