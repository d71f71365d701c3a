//! Subsets of the members, as in Envoy: a request that asks for certain metadata goes to the members
//! that have it, each subset with a balancer of its own.
//!
//! All of them are made when members change. A pick adds up hashes that were computed with the route,
//! looks the sum up and compares what it finds; it allocates nothing.
//!
//! | file | holds |
//! |---|---|
//! | `division` | which subsets there are, and who is in them |
//! | `scale` | weights of localities inside a subset |

mod division;
mod scale;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Asked;
use super::Factors;
use super::Ingredients;
use super::LoadBalancer;
use crate::config::Name;
use crate::config::endpoint::Traits;
use crate::config::load_balancing::LoadBalancing;
use crate::config::subset::Criteria;
use crate::config::subset::FALLBACK_LIST;
use crate::config::subset::Fallback;
use crate::config::subset::LocalityWeights;
use crate::config::subset::Pair;
use crate::config::subset::Selector;
use crate::config::subset::SelectorFallback;
use crate::config::subset::Subsets;
use crate::telemetry::stats::BalancerStats;
use crate::telemetry::stats::Counter;
use crate::telemetry::stats::SubsetStats;
use crate::upstream::host::Member;
use division::Found;

/// Turns of a pick at most: each takes names away, and a selector has no more.
const TURNS_MAX: usize = 64;

/// What a pick reads.
#[derive(Debug)]
pub(super) struct SubsetTable {
    config: Arc<Subsets>,
    /// Sums of hashes with places in `subsets`, in order.
    index: Box<[(u64, u32)]>,
    subsets: Box<[Subset]>,
    any: Option<Part>,
    default: Option<Part>,
    /// What requests ask for is looked up as it is: nothing is left out of it or put in its place.
    is_plain: bool,
    /// None of a policy that looks on.
    stats: Option<Arc<BalancerStats>>,
}

/// The members with these pairs.
#[derive(Debug)]
struct Subset {
    /// In the order of their names.
    pairs: Box<[Pair]>,
    who: Who,
}

#[derive(Debug)]
enum Who {
    /// This member, whatever its health.
    One(usize),
    Several(Part),
}

/// Some members with their balancer.
#[derive(Debug)]
struct Part {
    balancer: LoadBalancer,
    /// In the list of all members.
    places: Box<[usize]>,
    /// Turns are taken by all workers together: with a cursor that subsets share, requests that come
    /// for two of them in turn would always meet the same members. Two workers at once may take the
    /// same turn, which costs less than being exact.
    cursor: AtomicU64,
}

impl Part {
    fn pick(&self, random: u64, asked: Asked<'_>) -> Option<usize> {
        let mut cursor = self.cursor.load(Ordering::Relaxed);
        let place = self.balancer.pick_for(&mut cursor, random, asked)?;
        self.cursor.store(cursor, Ordering::Relaxed);
        self.places.get(place).copied()
    }

    fn set_factors(&self, factors: &Factors) {
        let own = self.places.iter();
        let own = own.filter_map(|place| factors.of_members.get(*place).copied());
        let explored = self.places.iter().enumerate();
        let explored = explored.filter(|(_, place)| factors.explored.binary_search(place).is_ok());
        self.balancer.set_factors(&Factors {
            of_members: own.collect(),
            explored: explored.map(|(place, _)| place).collect(),
            partial: factors.partial,
        });
    }
}

/// Some of what a request asks.
#[derive(Clone, Copy, Debug)]
struct View<'c> {
    criteria: &'c Criteria,
    /// What goes before it.
    instead: &'c [Pair],
    /// All but the list of fallbacks.
    without_list: bool,
    /// Only these names.
    only: Option<&'c [Name]>,
}

impl<'c> View<'c> {
    fn pairs(self) -> impl Iterator<Item = &'c Pair> {
        let is_replaced = move |pair: &Pair| {
            let by = |other: &Pair| other.name == pair.name;
            (self.without_list && *pair.name == *FALLBACK_LIST) || self.instead.iter().any(by)
        };
        let is_wanted = move |pair: &&Pair| {
            let only = self.only;
            only.is_none_or(|only| only.binary_search(&pair.name).is_ok())
        };
        let kept = self.criteria.pairs.iter();
        let kept = kept.filter(move |pair| !is_replaced(pair));
        kept.chain(self.instead).filter(is_wanted)
    }

    /// Whether it has all these names.
    fn has(self, keys: &[Name]) -> bool {
        let is_there = |key: &Name| self.pairs().any(|pair| pair.name == *key);
        keys.iter().all(is_there)
    }
}

impl SubsetTable {
    /// Divides the members; `None` if the policy knows no subsets.
    pub(super) fn new(of: Ingredients<'_>) -> Option<Self> {
        let config = of.config.subsets.as_ref()?;
        let inner = LoadBalancing {
            subsets: None,
            by_locality: of.config.by_locality
                && config.locality_weights != LocalityWeights::Ignored,
            ..of.config.clone()
        };
        let part = |places: Vec<usize>| part(of, (config, &inner), places);
        let subsets: Vec<Subset> = division::found(config, of.members)
            .into_iter()
            .map(|(pairs, who)| Subset {
                pairs,
                who: match who {
                    Found::First { place, .. } => Who::One(place),
                    Found::All(places) => Who::Several(part(places)),
                },
            })
            .collect();
        let sum = |subset: &Subset| {
            let hashes = subset.pairs.iter().map(Pair::hash);
            hashes.fold(0, u64::wrapping_add)
        };
        let mut index: Vec<(u64, u32)> = subsets.iter().map(sum).zip(0..).collect();
        index.sort_unstable();
        let wants = |wanted: Fallback, selector: &SelectorFallback| {
            let mut selectors = config.selectors.iter();
            config.fallback == wanted
                || selectors.any(|one| one.fallback.as_ref() == Some(selector))
        };
        let is_any = config.panics_to_any || wants(Fallback::Any, &SelectorFallback::Any);
        let has_default = |place: &usize| {
            let member = of.members.get(*place);
            let labels = member.and_then(|member| member.traits.as_deref());
            config
                .default
                .iter()
                .all(|pair| has(labels, pair, config.list_as_any))
        };
        let all = 0..of.members.len();
        Some(Self {
            any: is_any.then(|| part(all.clone().collect())),
            default: wants(Fallback::Default, &SelectorFallback::Default)
                .then(|| part(all.filter(has_default).collect())),
            is_plain: !config.takes_fallback_list
                && !config.allows_redundant_keys
                && config.selectors.iter().all(|one| one.fallback.is_none()),
            config: Arc::clone(config),
            index: index.into(),
            subsets: subsets.into(),
            stats: of.stats.map(Arc::clone),
        })
    }

    /// How many subsets there are.
    pub(super) fn len(&self) -> usize {
        self.subsets.len()
    }

    /// How many of them are in another table as well.
    pub(super) fn count_in(&self, other: &Self) -> usize {
        let subsets = self.subsets.iter();
        let is_there = |subset: &&Subset| {
            let pairs = || subset.pairs.iter();
            other.find(pairs).is_some()
        };
        subsets.filter(is_there).count()
    }

    fn count(&self, counter: impl FnOnce(&SubsetStats) -> Counter<'_>) {
        let stats = self
            .stats
            .as_ref()
            .and_then(|stats| stats.subsets.as_deref());
        if let Some(stats) = stats {
            counter(stats).inc();
        }
    }

    /// Changes what each member's weight is multiplied by.
    pub(super) fn set_factors(&self, factors: &Factors) {
        let several = self.subsets.iter().filter_map(|subset| match &subset.who {
            Who::One(_) => None,
            Who::Several(part) => Some(part),
        });
        let parts = several.chain(&self.any).chain(&self.default);
        parts.for_each(|part| part.set_factors(factors));
    }

    /// A place in the list of all members.
    pub(super) fn pick(&self, random: u64, asked: Asked<'_>) -> Option<usize> {
        let Some(criteria) = asked.criteria else {
            return self.fall_back(random, asked);
        };
        if self.is_plain {
            return match self.find(|| criteria.pairs.iter()) {
                Some(subset) => self.pick_in(subset, random, asked),
                None => self.fall_back(random, asked),
            };
        }
        let view = View {
            criteria,
            instead: &[],
            without_list: false,
            only: None,
        };
        let fallbacks = criteria.fallbacks.as_deref();
        let Some(fallbacks) = fallbacks.filter(|_| self.config.takes_fallback_list) else {
            return self.pick_of(view, random, asked);
        };
        let view = View {
            without_list: true,
            ..view
        };
        if fallbacks.is_empty() {
            return self.pick_of(view, random, asked);
        }
        fallbacks
            .iter()
            .find_map(|instead| self.pick_of(View { instead, ..view }, random, asked))
    }

    fn pick_of<'a>(&'a self, mut view: View<'a>, random: u64, asked: Asked<'_>) -> Option<usize> {
        for _ in 0..TURNS_MAX {
            let selectors = &self.config.selectors;
            if self.config.allows_redundant_keys
                && let Some(enough) = selectors.iter().find(|selector| view.has(&selector.keys))
            {
                view.only = Some(&enough.keys);
            }
            if let Some(subset) = self.find(|| view.pairs()) {
                return self.pick_in(subset, random, asked);
            }
            let count = view.pairs().count();
            let is_it = |selector: &&Selector| {
                count == selector.keys.len() && count > 0 && view.has(&selector.keys)
            };
            let selector = selectors.iter().find(is_it);
            match selector.and_then(|selector| selector.fallback.as_ref()) {
                None => return self.fall_back(random, asked),
                Some(SelectorFallback::Any) => return self.any.as_ref()?.pick(random, asked),
                Some(SelectorFallback::Default) => {
                    return self.default.as_ref()?.pick(random, asked);
                }
                Some(SelectorFallback::Nobody) => return None,
                Some(SelectorFallback::Keys(keys)) => view.only = Some(keys),
            }
        }
        None
    }

    fn pick_in(&self, subset: &Subset, random: u64, asked: Asked<'_>) -> Option<usize> {
        self.count(SubsetStats::lb_subsets_selected);
        match &subset.who {
            Who::One(place) => Some(*place),
            Who::Several(part) => part.pick(random, asked),
        }
    }

    /// The subset with exactly these pairs.
    fn find<'p, P: Iterator<Item = &'p Pair>>(&self, pairs: impl Fn() -> P) -> Option<&Subset> {
        let (mut sum, mut count) = (0_u64, 0);
        for pair in pairs() {
            sum = sum.wrapping_add(pair.hash());
            count += 1;
        }
        let first = self.index.partition_point(|(hash, _)| *hash < sum);
        let same = self.index.iter().skip(first);
        let same = same.take_while(|(hash, _)| *hash == sum);
        let mut same = same.filter_map(|(_, place)| self.subsets.get(*place as usize));
        same.find(|subset| {
            let is_in = |pair: &Pair| {
                let at = subset
                    .pairs
                    .binary_search_by(|own| own.name.cmp(&pair.name));
                let own = at.ok().and_then(|at| subset.pairs.get(at));
                own.is_some_and(|own| own.value == pair.value)
            };
            // Mostly both are in the order of their names.
            subset.pairs.len() == count && (pairs().eq(subset.pairs.iter()) || pairs().all(is_in))
        })
    }

    /// For requests that no subset is for.
    fn fall_back(&self, random: u64, asked: Asked<'_>) -> Option<usize> {
        let part = match self.config.fallback {
            Fallback::Any => self.any.as_ref(),
            Fallback::Default => self.default.as_ref(),
            Fallback::Nobody => return None, // not even in a panic
        };
        if let Some(found) = part.and_then(|part| part.pick(random, asked)) {
            self.count(SubsetStats::lb_subsets_fallback);
            return Some(found);
        }
        let any = self.any.as_ref().filter(|_| self.config.panics_to_any);
        let found = any?.pick(random, asked)?;
        self.count(SubsetStats::lb_subsets_fallback_panic);
        Some(found)
    }
}

/// Whether a member has this pair.
fn has(labels: Option<&Traits>, pair: &Pair, list_as_any: bool) -> bool {
    let texts = labels.and_then(|labels| labels.get(&*pair.name));
    texts.is_some_and(|texts| {
        let whole = texts.last() == Some(&pair.value);
        whole || values(texts, list_as_any).contains(&pair.value)
    })
}

/// The values of a trait: of a list all of its own, if these count, else the list.
fn values(texts: &[Box<str>], list_as_any: bool) -> &[Box<str>] {
    match texts {
        [own @ .., _] if list_as_any && !own.is_empty() => own,
        [.., whole] => std::slice::from_ref(whole),
        [] => &[],
    }
}

fn part(
    of: Ingredients<'_>,
    (config, inner): (&Subsets, &LoadBalancing),
    places: Vec<usize>,
) -> Part {
    let members = places.iter().filter_map(|place| of.members.get(*place));
    let members: Vec<Member> = members.cloned().collect();
    let scaled = (config.locality_weights == LocalityWeights::Scaled && inner.by_locality)
        .then(|| scale::scaled(of, &members));
    let balancer = LoadBalancer::new(Ingredients {
        config: inner,
        endpoints: scaled.as_ref().unwrap_or(of.endpoints),
        members: &members,
        ..of
    });
    Part {
        balancer,
        places: places.into(),
        cursor: AtomicU64::new(fastrand::u64(..1 << 32)),
    }
}

#[cfg(test)]
mod tests;
