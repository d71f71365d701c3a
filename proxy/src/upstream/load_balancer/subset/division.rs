//! Which subsets the members make, and who is in each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Name;
use crate::config::endpoint::Traits;
use crate::config::limits;
use crate::config::subset::Pair;
use crate::config::subset::Selector;
use crate::config::subset::Subsets;
use crate::upstream::host::Member;

/// Who is in a subset.
pub(super) enum Found {
    All(Vec<usize>),
    /// The first of the most preferred priority.
    First {
        place: usize,
        priority: u32,
    },
}

/// All subsets that have members.
pub(super) fn found(config: &Subsets, members: &[Member]) -> Vec<(Box<[Pair]>, Found)> {
    let mut known = HashMap::<Vec<(Name, Box<str>)>, usize>::new();
    let mut found = Vec::<(Box<[Pair]>, Found)>::new();
    let mut left = limits::SUBSET_MEMBERSHIPS_MAX;
    for (place, member) in members.iter().enumerate() {
        let Some(labels) = member.traits.as_deref() else {
            continue;
        };
        for selector in &config.selectors {
            for pairs in combinations(selector, labels, config.list_as_any) {
                let Some(rest) = left.checked_sub(1) else {
                    return found;
                };
                left = rest;
                match known.get(&pairs) {
                    Some(at) => {
                        if let Some((_, who)) = found.get_mut(*at) {
                            who.add(place, member.priority);
                        }
                    }
                    None if found.len() < limits::SUBSETS_MAX => {
                        let own = pairs.iter().cloned();
                        let own = own.map(|(name, value)| Pair::new(name, value));
                        found.push((own.collect(), Found::new(selector, place, member.priority)));
                        known.insert(pairs, found.len() - 1);
                    }
                    None => {}
                }
            }
        }
    }
    found
}

impl Found {
    fn new(selector: &Selector, place: usize, priority: u32) -> Self {
        if selector.single_host {
            Self::First { place, priority }
        } else {
            Self::All(vec![place])
        }
    }

    fn add(&mut self, place: usize, priority: u32) {
        match self {
            Self::All(places) if places.last() == Some(&place) => {} // by another selector
            Self::All(places) => places.push(place),
            Self::First {
                place: first,
                priority: best,
            } => {
                if priority < *best {
                    (*first, *best) = (place, priority);
                }
            }
        }
    }
}

/// The values that a member has for the names of a selector: one set, or several if a list is any of
/// its values; none if it lacks a name.
fn combinations(
    selector: &Selector,
    labels: &Traits,
    list_as_any: bool,
) -> Vec<Vec<(Name, Box<str>)>> {
    if selector.keys.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Vec::new()];
    for key in &selector.keys {
        let Some(texts) = labels.get(&**key) else {
            return Vec::new();
        };
        let items = super::values(texts, list_as_any);
        let with = |pairs: &[(Name, Box<str>)], item: &str| {
            let mut pairs = pairs.to_vec();
            pairs.push((Arc::clone(key), item.into()));
            pairs
        };
        let longer = all.iter().flat_map(|pairs| {
            let items = items.iter();
            items.map(move |item| with(pairs, item))
        });
        all = longer.take(limits::SUBSETS_MAX).collect();
    }
    all
}
