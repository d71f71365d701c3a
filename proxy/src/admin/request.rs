//! The query of a request.

use std::collections::BTreeMap;

/// Parameters by name; of several with one name the last counts, as in Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=1&b`; bytes that are no UTF-8 become U+FFFD, bad escapes stand for themselves.
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(decoded.collect())
    }

    /// The value of a parameter, empty if it stands without one.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a switch is on: `?verbose`, but not `?verbose=false`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| !matches!(value, "0" | "false" | "off"))
    }

    /// In order of name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter();
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..).unwrap_or_default()),
            },
            (byte, _) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::Query;

    #[test]
    fn values_and_switches() {
        let query = Query::parse("a=1&usedonly&b=x%20y%2Bz+w&a=2&&bad=%zz%4&off=false");
        assert_eq!(query.value("a"), Some("2"));
        assert_eq!(query.value("b"), Some("x y+z w"));
        assert_eq!(query.value("bad"), Some("%zz%4"));
        assert_eq!(query.value("none"), None);
        assert!(query.is_set("usedonly"));
        assert!(!query.is_set("off"));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = Query::parse(&text);
        }
    }
}
