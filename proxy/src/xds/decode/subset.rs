//! How members are divided into subsets, in both spellings, and what routes ask of members
//! (`metadata_match`).

use std::collections::BTreeMap;

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::lb_subset_config as legacy;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::subset as typed;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::Value;
use xds_proto::pb::google::protobuf::value::Kind;

use super::Context;
use super::labels;
use super::labels::LB_KEY;
use super::value;
use crate::config::Name;
use crate::config::limits;
use crate::config::subset::Criteria;
use crate::config::subset::FALLBACK_LIST;
use crate::config::subset::Fallback;
use crate::config::subset::LocalityWeights;
use crate::config::subset::Pair;
use crate::config::subset::Selector;
use crate::config::subset::SelectorFallback;
use crate::config::subset::Subsets;

/// Reads the old form; `None` if nobody is divided.
pub(super) fn legacy(context: &mut Context, config: LbSubsetConfig) -> Option<Subsets> {
    use legacy::LbSubsetFallbackPolicy as Policy;
    use legacy::LbSubsetMetadataFallbackPolicy as ListPolicy;
    let LbSubsetConfig {
        fallback_policy,
        default_subset,
        subset_selectors,
        locality_weight_aware,
        scale_locality_weight,
        panic_mode_any,
        list_as_any,
        metadata_fallback_policy,
    } = config;
    let fallback = value::enumeration(context, "fallback_policy", fallback_policy);
    let list: Option<ListPolicy> = value::enumeration(
        context,
        "metadata_fallback_policy",
        metadata_fallback_policy,
    );
    let selectors = subset_selectors.into_iter().map(|selector| {
        let legacy::LbSubsetSelector {
            keys,
            single_host_per_subset,
            fallback_policy,
            fallback_keys_subset,
        } = selector;
        PlainSelector {
            keys,
            single_host: single_host_per_subset,
            fallback: fallback_policy,
            fallback_keys: fallback_keys_subset,
        }
    });
    let plain = Plain {
        fallback: match fallback? {
            Policy::NoFallback => Fallback::Nobody,
            Policy::AnyEndpoint => Fallback::Any,
            Policy::DefaultSubset => Fallback::Default,
        },
        default: default_subset,
        selectors: selectors.collect(),
        allows_redundant_keys: false,
        locality_weights: (locality_weight_aware, scale_locality_weight),
        panics_to_any: panic_mode_any,
        list_as_any,
        takes_fallback_list: list? == ListPolicy::FallbackList,
    };
    decode(context, plain)
}

/// Reads the typed form, with the policy inside of a subset.
pub(super) fn typed(
    context: &mut Context,
    config: Subset,
) -> Option<(Option<Subsets>, pb::LoadBalancingPolicy)> {
    use typed::LbSubsetFallbackPolicy as Policy;
    use typed::LbSubsetMetadataFallbackPolicy as ListPolicy;
    let Subset {
        fallback_policy,
        default_subset,
        subset_selectors,
        allow_redundant_keys,
        locality_weight_aware,
        scale_locality_weight,
        panic_mode_any,
        list_as_any,
        metadata_fallback_policy,
        subset_lb_policy,
    } = config;
    let fallback = value::enumeration(context, "fallback_policy", fallback_policy);
    let list: Option<ListPolicy> = value::enumeration(
        context,
        "metadata_fallback_policy",
        metadata_fallback_policy,
    );
    let selectors = subset_selectors.into_iter().map(|selector| {
        let typed::LbSubsetSelector {
            keys,
            single_host_per_subset,
            fallback_policy,
            fallback_keys_subset,
        } = selector;
        PlainSelector {
            keys,
            single_host: single_host_per_subset,
            fallback: fallback_policy,
            fallback_keys: fallback_keys_subset,
        }
    });
    let plain = Plain {
        fallback: match fallback? {
            Policy::NoFallback => Fallback::Nobody,
            Policy::AnyEndpoint => Fallback::Any,
            Policy::DefaultSubset => Fallback::Default,
        },
        default: default_subset,
        selectors: selectors.collect(),
        allows_redundant_keys: allow_redundant_keys,
        locality_weights: (locality_weight_aware, scale_locality_weight),
        panics_to_any: panic_mode_any,
        list_as_any,
        takes_fallback_list: list? == ListPolicy::FallbackList,
    };
    let subsets = decode(context, plain);
    match subset_lb_policy {
        Some(policy) => Some((subsets, policy)),
        None => context.missing("subset_lb_policy"),
    }
}

/// What both forms say.
struct Plain {
    fallback: Fallback,
    default: Option<Struct>,
    selectors: Vec<PlainSelector>,
    allows_redundant_keys: bool,
    locality_weights: (bool, bool),
    panics_to_any: bool,
    list_as_any: bool,
    takes_fallback_list: bool,
}

struct PlainSelector {
    keys: Vec<String>,
    single_host: bool,
    /// The numbers are the same in both forms.
    fallback: i32,
    fallback_keys: Vec<String>,
}

fn decode(context: &mut Context, plain: Plain) -> Option<Subsets> {
    if plain.selectors.len() > limits::SUBSET_SELECTORS_MAX {
        let reason = format!("has more than {} entries", limits::SUBSET_SELECTORS_MAX);
        context.reject("subset_selectors", reason);
    }
    if plain.locality_weights == (false, true) {
        let reason = "has no effect without locality_weight_aware";
        context.warn("scale_locality_weight", reason);
    }
    let default = context.optional("default_subset", plain.default, pairs);
    let selectors = context.each("subset_selectors", plain.selectors, selector);
    if selectors.is_empty() {
        return None; // as with Envoy
    }
    let mut selectors = selectors;
    if plain.allows_redundant_keys {
        // As in Envoy, that which asks for most is looked at first.
        selectors.sort_by_key(|selector| std::cmp::Reverse(selector.keys.len()));
    }
    Some(Subsets {
        fallback: plain.fallback,
        default: default.unwrap_or_default(),
        selectors,
        allows_redundant_keys: plain.allows_redundant_keys,
        locality_weights: match plain.locality_weights {
            (false, _) => LocalityWeights::Ignored,
            (true, false) => LocalityWeights::Kept,
            (true, true) => LocalityWeights::Scaled,
        },
        panics_to_any: plain.panics_to_any,
        list_as_any: plain.list_as_any,
        takes_fallback_list: plain.takes_fallback_list,
    })
}

fn selector(context: &mut Context, plain: PlainSelector) -> Option<Selector> {
    use legacy::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Policy;
    let keys = names(plain.keys);
    let fallback_keys = names(plain.fallback_keys);
    if keys.len() > limits::SUBSET_KEYS_MAX {
        let reason = format!("has more than {} names", limits::SUBSET_KEYS_MAX);
        context.reject("keys", reason);
    }
    let policy = value::enumeration(context, "fallback_policy", plain.fallback)?;
    if policy != Policy::KeysSubset && !fallback_keys.is_empty() {
        return context.refuse("fallback_keys_subset", "is for fallback_policy KEYS_SUBSET");
    }
    let fallback = match policy {
        Policy::NotDefined => None,
        Policy::NoFallback => Some(SelectorFallback::Nobody),
        Policy::AnyEndpoint => Some(SelectorFallback::Any),
        Policy::DefaultSubset => Some(SelectorFallback::Default),
        Policy::KeysSubset => {
            let is_part = fallback_keys.iter().all(|key| keys.contains(key));
            if fallback_keys.is_empty() || !is_part || fallback_keys.len() == keys.len() {
                let reason = "must be some of keys, but not all";
                return context.refuse("fallback_keys_subset", reason);
            }
            Some(SelectorFallback::Keys(fallback_keys))
        }
    };
    Some(Selector {
        keys,
        single_host: plain.single_host,
        fallback,
    })
}

/// In order, each once.
fn names(texts: Vec<String>) -> Box<[Name]> {
    let mut names: Vec<Name> = texts.into_iter().map(Name::from).collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}

/// In the order of their names.
fn pairs(context: &mut Context, fields: Struct) -> Option<Vec<Pair>> {
    let labels = labels::of_struct(context, fields)?;
    let pair = |(name, value): (Box<str>, Box<str>)| Pair::new(name.into(), value);
    Some(labels.into_iter().map(pair).collect())
}

/// Reads what a route asks of members; `None` if it asks nothing.
pub(super) fn criteria(
    context: &mut Context,
    field: &str,
    metadata: Option<core::Metadata>,
) -> Option<Criteria> {
    context.optional(field, metadata, |context, metadata| {
        let core::Metadata {
            mut filter_metadata,
            typed_filter_metadata,
        } = metadata;
        let asked = filter_metadata.remove(LB_KEY);
        let rest = filter_metadata.keys().chain(typed_filter_metadata.keys());
        if let Some(other) = rest.min() {
            context.warn("", format!("{other:?} is not supported, has no effect"));
        }
        let place = format!("filter_metadata[{LB_KEY:?}]");
        context.field(&place, |context| of_route(context, asked?))
    })
}

fn of_route(context: &mut Context, asked: Struct) -> Option<Criteria> {
    let list = asked.fields.get(FALLBACK_LIST);
    let list = list.and_then(|list| match &list.kind {
        Some(Kind::ListValue(list)) => Some(list.values.clone()),
        _ => None,
    });
    if asked.fields.len() > limits::SUBSET_KEYS_MAX {
        let reason = format!("asks for more than {} names", limits::SUBSET_KEYS_MAX);
        return context.refuse("", reason);
    }
    let fallbacks = list.map(|list| {
        context.field(FALLBACK_LIST, |context| {
            if list.len() > limits::SUBSET_FALLBACKS_MAX {
                let reason = format!("has more than {} entries", limits::SUBSET_FALLBACKS_MAX);
                context.reject("", reason);
            }
            list.into_iter()
                .map(|value| fallback(context, value))
                .collect()
        })
    });
    let pairs = pairs(context, asked)?;
    Some(Criteria {
        pairs: pairs.into(),
        fallbacks,
    })
}

/// What is no struct asks for nothing else, as with Envoy.
fn fallback(context: &mut Context, value: Value) -> Box<[Pair]> {
    let fields = match value.kind {
        Some(Kind::StructValue(fields)) => fields,
        _ => Struct {
            fields: BTreeMap::default().into_iter().collect(),
        },
    };
    pairs(context, fields).unwrap_or_default().into()
}
