//! Subsets of a cluster's members, told apart by metadata `envoy.lb` (`LbSubsetConfig`, `Subset`), and
//! what routes ask of them (`metadata_match`).

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::config::Name;

/// Under this name stand criteria that are tried one after another, if the cluster takes them.
pub const FALLBACK_LIST: &str = "fallback_list";

/// How members are divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subsets {
    /// Who takes requests that no subset is for.
    pub fallback: Fallback,
    /// What members of the default subset have; without it all have it.
    pub default: Vec<Pair>,
    /// By which names they are divided; at least one, or there are no subsets. Where redundant keys are
    /// allowed, the longest come first.
    pub selectors: Vec<Selector>,
    /// A request may ask for more than a selector has.
    pub allows_redundant_keys: bool,
    /// What becomes of the weights of localities.
    pub locality_weights: LocalityWeights,
    /// If the fallback has nobody, anybody takes the request.
    pub panics_to_any: bool,
    /// A list is any of its values.
    pub list_as_any: bool,
    /// Routes may have several criteria, see [`FALLBACK_LIST`].
    pub takes_fallback_list: bool,
}

/// `LbSubsetFallbackPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Any member.
    Any,
    /// The default subset.
    Default,
    /// Nobody.
    #[default]
    Nobody,
}

/// Weights of localities inside a subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalityWeights {
    /// They do not count.
    #[default]
    Ignored,
    /// They are those of the cluster.
    Kept,
    /// The same, by the part of a locality's members that is in the subset.
    Scaled,
}

/// Names whose values make a subset (`LbSubsetSelector`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// In order, each once.
    pub keys: Box<[Name]>,
    /// A subset is its first member alone.
    pub single_host: bool,
    /// Who takes requests whose names are these, but no subset has the values; the cluster's fallback
    /// if nothing is said.
    pub fallback: Option<SelectorFallback>,
}

/// `LbSubsetSelectorFallbackPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorFallback {
    /// Any member.
    Any,
    /// The default subset.
    Default,
    /// The subset that only these of the names ask for; in order, fewer than the selector has.
    Keys(Box<[Name]>),
    /// Nobody.
    Nobody,
}

/// A name with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: Name,
    /// The value as JSON text, so that equal ones are equal.
    pub value: Box<str>,
    hash: u64,
}

impl Pair {
    /// This name with this value.
    pub fn new(name: Name, value: Box<str>) -> Self {
        let hash = xxh64(value.as_bytes(), xxh64(name.as_bytes(), 0));
        Self { name, value, hash }
    }

    /// Of all pairs of a set, the hashes are added.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// What a route asks of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// In the order of their names, each once.
    pub pairs: Box<[Pair]>,
    /// What is asked instead, one after another, where the cluster takes it.
    pub fallbacks: Option<Box<[Box<[Pair]>]>>,
}

impl Criteria {
    /// The same, but what `more` asks goes first.
    #[must_use]
    pub fn merged(&self, more: &Self) -> Self {
        let is_kept = |pair: &&Pair| !more.pairs.iter().any(|other| other.name == pair.name);
        let kept = self.pairs.iter().filter(is_kept);
        let mut pairs: Vec<Pair> = kept.chain(&more.pairs).cloned().collect();
        pairs.sort_by(|left, right| left.name.cmp(&right.name));
        let fallbacks = more.fallbacks.as_ref().or_else(|| {
            let is_replaced = more.pairs.iter().any(|pair| *pair.name == *FALLBACK_LIST);
            self.fallbacks.as_ref().filter(|_| !is_replaced)
        });
        Self {
            pairs: pairs.into(),
            fallbacks: fallbacks.cloned(),
        }
    }

    /// What a choice of a route asks, and the route itself.
    pub fn of_choice(route: Option<&Arc<Self>>, choice: Option<Self>) -> Option<Arc<Self>> {
        match (route, choice) {
            (None, choice) => choice.map(Arc::new),
            (Some(route), None) => Some(Arc::clone(route)),
            (Some(route), Some(choice)) => Some(Arc::new(route.merged(&choice))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criteria(pairs: &[(&str, &str)]) -> Criteria {
        let pair = |(name, value): &(&str, &str)| Pair::new((*name).into(), (*value).into());
        Criteria {
            pairs: pairs.iter().map(pair).collect(),
            fallbacks: None,
        }
    }

    #[test]
    fn what_is_more_specific_goes_first() {
        let route = criteria(&[("b", "1"), ("c", "2")]);
        let choice = criteria(&[("a", "5"), ("b", "9")]);
        let merged = criteria(&[("a", "5"), ("b", "9"), ("c", "2")]);
        assert_eq!(route.merged(&choice), merged);
        assert_eq!(route.merged(&Criteria::default()), route);
        let listing = Criteria {
            fallbacks: Some(Box::new([])),
            ..criteria(&[(FALLBACK_LIST, "[]")])
        };
        assert_eq!(listing.merged(&choice).fallbacks, listing.fallbacks);
        assert_eq!(
            listing.merged(&criteria(&[(FALLBACK_LIST, "1")])).fallbacks,
            None
        );
        assert_eq!(Criteria::of_choice(None, None), None);
    }
}
