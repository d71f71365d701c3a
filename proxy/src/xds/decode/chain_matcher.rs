//! `filter_chain_matcher`: a tree of lookups whose leaves name filter chains.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use xds_proto::pb::envoy::config::core::v3::CidrRange;
use xds_proto::pb::envoy::extensions::matching::common_inputs::network::v3 as inputs;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::StringValue;
use xds_proto::pb::xds::core::v3::CidrRange as XdsRange;
use xds_proto::pb::xds::core::v3::TypedExtensionConfig;
use xds_proto::pb::xds::r#type::matcher::v3 as pb;
use xds_proto::pb::xds::r#type::matcher::v3::ip_matcher::IpRangeMatcher;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::MatcherTree;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::MatcherType;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::OnMatch;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::matcher_tree::MatchMap;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::matcher_tree::TreeType;
use xds_proto::pb::xds::r#type::matcher::v3::matcher::on_match::OnMatch as Kind;
use xds_proto::pb::xds::r#type::matcher::v3::server_name_matcher::DomainMatcher;

use super::Context;
use super::extension;
use super::filter_chain;
use crate::config::chain_selector::Decision;
use crate::config::chain_selector::Input;
use crate::config::chain_selector::Node;
use crate::config::chain_selector::Outcome;
use crate::config::chain_selector::Range;
use crate::config::chain_selector::Tree;
use crate::config::filter_chain::FilterChain;
use crate::config::prefix_map::PrefixMap;

/// Deepest tree: one level for each input, twice; for the stack.
const DEPTH_MAX: usize = 20;

/// Chains by name, and how deep we may still go.
#[derive(Clone, Copy)]
struct Scope<'a> {
    chains: &'a HashMap<&'a str, usize>,
    depth: usize,
}

/// Reads the tree; `chains` are the ones it may name.
pub(crate) fn decode(
    context: &mut Context,
    matcher: pb::Matcher,
    chains: &[Arc<FilterChain>],
) -> Option<Tree> {
    let mut by_name = HashMap::new();
    for (place, chain) in chains.iter().enumerate() {
        if by_name.insert(&*chain.name, place).is_some() {
            context.reject(
                "",
                format!("two filter chains have the name {:?}", chain.name),
            );
        }
    }
    let scope = Scope {
        chains: &by_name,
        depth: DEPTH_MAX,
    };
    tree(context, matcher, scope)
}

fn tree(context: &mut Context, matcher: pb::Matcher, scope: Scope<'_>) -> Option<Tree> {
    let pb::Matcher {
        on_no_match,
        matcher_type,
    } = matcher;
    let Some(depth) = scope.depth.checked_sub(1) else {
        return context.refuse("", "is nested too deeply");
    };
    let scope = Scope { depth, ..scope };
    let on_no_match = match on_no_match {
        None => None,
        Some(found) => {
            Some(context.field("on_no_match", |context| decision(context, *found, scope))?)
        }
    };
    let MatcherTree { input, tree_type } = match matcher_type {
        Some(MatcherType::MatcherTree(tree)) => tree,
        Some(MatcherType::MatcherList(_)) => {
            return context.unsupported("matcher_list", "not supported");
        }
        None => return context.missing("matcher_tree"),
    };
    context.field("matcher_tree", |context| {
        let input = context.required("input", input, self::input)?;
        let node = match tree_type {
            Some(TreeType::ExactMatchMap(map)) => {
                context.field("exact_match_map", |context| exact(context, map, scope))
            }
            Some(TreeType::PrefixMatchMap(map)) => {
                context.field("prefix_match_map", |context| prefix(context, map, scope))
            }
            Some(TreeType::CustomMatch(custom)) => context.field("custom_match", |context| {
                self::custom(context, custom, input, scope)
            }),
            None => context.refuse("", "needs a map"),
        };
        Some(Tree {
            input,
            node: node?,
            on_no_match,
        })
    })
}

fn input(context: &mut Context, input: TypedExtensionConfig) -> Option<Input> {
    let any = typed_config(context, input)?;
    let known = [
        (
            extension::holds::<inputs::ApplicationProtocolInput>(&any),
            Input::ApplicationProtocol,
        ),
        (
            extension::holds::<inputs::DestinationIpInput>(&any),
            Input::DestinationIp,
        ),
        (
            extension::holds::<inputs::DestinationPortInput>(&any),
            Input::DestinationPort,
        ),
        (
            extension::holds::<inputs::DirectSourceIpInput>(&any),
            Input::DirectSourceIp,
        ),
        (
            extension::holds::<inputs::ServerNameInput>(&any),
            Input::ServerName,
        ),
        (
            extension::holds::<inputs::SourceIpInput>(&any),
            Input::SourceIp,
        ),
        (
            extension::holds::<inputs::SourcePortInput>(&any),
            Input::SourcePort,
        ),
        (
            extension::holds::<inputs::SourceTypeInput>(&any),
            Input::SourceType,
        ),
        (
            extension::holds::<inputs::TransportProtocolInput>(&any),
            Input::TransportProtocol,
        ),
    ];
    let found = known
        .into_iter()
        .find_map(|(is, input)| is.then_some(input));
    if found.is_none() {
        context.field("typed_config", |context| {
            extension::unknown(context, &any, false);
        });
    }
    found
}

/// The name says nothing, the type does.
fn typed_config(context: &mut Context, extension: TypedExtensionConfig) -> Option<Any> {
    let TypedExtensionConfig {
        name: _,
        typed_config,
    } = extension;
    context.required("typed_config", typed_config, |_, any| Some(any))
}

fn map(
    context: &mut Context,
    map: MatchMap,
    scope: Scope<'_>,
) -> Option<Vec<(Box<str>, Decision)>> {
    let MatchMap { map } = map;
    let count = map.len();
    let mut entries: Vec<(String, OnMatch)> = map.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b)); // so that a refusal always names the same
    let entries: Vec<_> = entries
        .into_iter()
        .filter_map(|(key, found)| {
            let decision = context.item("map", &key, |context| decision(context, found, scope))?;
            Some((key.into_boxed_str(), decision))
        })
        .collect();
    (entries.len() == count).then_some(entries)
}

fn exact(context: &mut Context, entries: MatchMap, scope: Scope<'_>) -> Option<Node> {
    let entries = map(context, entries, scope)?;
    Some(Node::Exact(entries.into_iter().collect()))
}

fn prefix(context: &mut Context, entries: MatchMap, scope: Scope<'_>) -> Option<Node> {
    let mut entries = map(context, entries, scope)?;
    entries.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    Some(Node::Prefix(entries))
}

fn custom(
    context: &mut Context,
    custom: TypedExtensionConfig,
    input: Input,
    scope: Scope<'_>,
) -> Option<Node> {
    let any = typed_config(context, custom)?;
    context.field("typed_config", |context| {
        if extension::holds::<pb::IpMatcher>(&any) {
            if !input.is_ip() {
                context.reject("", "the input is not an address");
            }
            let pb::IpMatcher { range_matchers } = extension::unpack(context, &any)?;
            ranges(context, range_matchers, scope)
        } else if extension::holds::<pb::ServerNameMatcher>(&any) {
            let pb::ServerNameMatcher { domain_matchers } = extension::unpack(context, &any)?;
            names(context, domain_matchers, scope)
        } else {
            extension::unknown(context, &any, false);
            None
        }
    })
}

fn ranges(context: &mut Context, matchers: Vec<IpRangeMatcher>, scope: Scope<'_>) -> Option<Node> {
    let mut map: PrefixMap<Vec<Range>> = PrefixMap::default();
    let count = matchers.len();
    let read = context.each("range_matchers", matchers, |context, matcher| {
        let IpRangeMatcher {
            ranges,
            on_match,
            exclusive,
        } = matcher;
        let ranges = context.each("ranges", ranges, |context, range| {
            let XdsRange {
                address_prefix,
                prefix_len,
            } = range;
            let range = CidrRange {
                address_prefix,
                prefix_len,
            };
            filter_chain::range(context, range)
        });
        let decision = context.required("on_match", on_match, |context, found| {
            decision(context, found, scope)
        })?;
        for range in ranges {
            map.entry(Some(range)).push(Range {
                exclusive,
                decision: decision.clone(),
            });
        }
        Some(())
    });
    (read.len() == count).then_some(Node::Ranges(map))
}

fn names(context: &mut Context, matchers: Vec<DomainMatcher>, scope: Scope<'_>) -> Option<Node> {
    let mut names = BTreeMap::new();
    let mut any = None;
    let count = matchers.len();
    let read = context.each("domain_matchers", matchers, |context, matcher| {
        let DomainMatcher { domains, on_match } = matcher;
        let decision = context.required("on_match", on_match, |context, found| {
            decision(context, found, scope)
        })?;
        context.each("domains", domains, |context, domain| {
            let key = match domain.strip_prefix('*') {
                Some("") => {
                    any = Some(Box::new(decision.clone()));
                    return Some(());
                }
                Some(parent) => parent,
                None => &domain,
            };
            if key.contains('*')
                || key.is_empty()
                || (key.len() < domain.len() && !key.starts_with('.'))
            {
                return context.refuse("", "a star may only stand before the first dot");
            }
            names.insert(key.into(), decision.clone());
            Some(())
        });
        Some(())
    });
    (read.len() == count).then_some(Node::Names { names, any })
}

fn decision(context: &mut Context, found: OnMatch, scope: Scope<'_>) -> Option<Decision> {
    let OnMatch {
        keep_matching,
        on_match,
    } = found;
    let outcome = match on_match {
        Some(Kind::Matcher(matcher)) => context.field("matcher", |context| {
            tree(context, *matcher, scope).map(|tree| Outcome::Tree(Box::new(tree)))
        }),
        Some(Kind::Action(action)) => {
            context.field("action", |context| self::action(context, action, scope))
        }
        None => context.refuse("", "needs a matcher or an action"),
    };
    Some(Decision {
        keep_matching,
        outcome: outcome?,
    })
}

/// The name of a filter chain; one that does not exist closes connections, as in Envoy.
fn action(
    context: &mut Context,
    action: TypedExtensionConfig,
    scope: Scope<'_>,
) -> Option<Outcome> {
    let any = typed_config(context, action)?;
    context.field("typed_config", |context| {
        let StringValue { value } = extension::unpack(context, &any)?;
        let chain = scope.chains.get(value.as_str()).copied();
        if chain.is_none() {
            context.warn(
                "",
                format!("there is no filter chain {value:?}; connections are closed"),
            );
        }
        Some(Outcome::Chain(chain))
    })
}
