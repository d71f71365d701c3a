//! Which member is taken: `load_balancing_policy` if it is there, else the old `lb_policy`.
//!
//! A policy we do not have but that merely balances otherwise is replaced by round robin with a
//! warning; one that takes its choice from elsewhere is refused.

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy as PbLbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LeastRequestLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::google::protobuf::Any;

use super::Context;
use super::extension;
use super::least_request;
use super::value;
use crate::config::cluster::LbPolicy;

/// Policies that spread load over the same members by another rule.
const BALANCING: &[&str] = &[
    "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
    "maglev.v3.Maglev",
    "pick_first.v3.PickFirst",
    "ring_hash.v3.RingHash",
    "wrr_locality.v3.WrrLocality",
];

const PACKAGE: &str = "envoy.extensions.load_balancing_policies.";

const INSTEAD: &str = "not supported, balances round robin instead";

/// Reads both.
pub(crate) fn decode(
    context: &mut Context,
    lb_policy: i32,
    policy: Option<pb::LoadBalancingPolicy>,
    lb_config: Option<LbConfig>,
) -> Option<LbPolicy> {
    if policy.is_some() {
        if let Some(config) = &lb_config {
            context.warn(
                config_field(config),
                "load_balancing_policy is used instead",
            );
        }
        // Envoy ignores lb_policy then, and so do we, without a word: it has no way to be absent.
        return context.optional("load_balancing_policy", policy, first_known);
    }
    let lb_policy = value::enumeration(context, "lb_policy", lb_policy)?;
    if lb_policy == PbLbPolicy::LeastRequest {
        return legacy_least_request(context, lb_config);
    }
    if let Some(config) = &lb_config {
        let reason = match config {
            LbConfig::LeastRequestLbConfig(_) => "has no effect without lb_policy LEAST_REQUEST",
            _ => "not supported, has no effect",
        };
        context.warn(config_field(config), reason);
    }
    match lb_policy {
        PbLbPolicy::RoundRobin | PbLbPolicy::LeastRequest => Some(LbPolicy::RoundRobin),
        PbLbPolicy::Random => Some(LbPolicy::Random),
        PbLbPolicy::RingHash | PbLbPolicy::Maglev => {
            context.warn("lb_policy", INSTEAD);
            Some(LbPolicy::RoundRobin)
        }
        PbLbPolicy::ClusterProvided => {
            context.unsupported("lb_policy", "CLUSTER_PROVIDED is not supported")
        }
        PbLbPolicy::LoadBalancingPolicyConfig => context.missing("load_balancing_policy"),
    }
}

fn legacy_least_request(context: &mut Context, config: Option<LbConfig>) -> Option<LbPolicy> {
    let config = match config {
        Some(LbConfig::LeastRequestLbConfig(config)) => config,
        Some(other) => {
            context.warn(config_field(&other), "has no effect on LEAST_REQUEST");
            LeastRequestLbConfig::default()
        }
        None => LeastRequestLbConfig::default(),
    };
    let read = |context: &mut Context| least_request::legacy(context, config);
    context
        .field("least_request_lb_config", read)
        .map(LbPolicy::LeastRequest)
}

/// Reads both for a cluster whose only member is where the client wanted to go.
pub(crate) fn decode_original(
    context: &mut Context,
    lb_policy: i32,
    policy: Option<pb::LoadBalancingPolicy>,
    lb_config: Option<LbConfig>,
) -> Option<LbPolicy> {
    match lb_config {
        None => {}
        Some(LbConfig::OriginalDstLbConfig(config)) => {
            context.field("original_dst_lb_config", |context| {
                original_config(context, config);
            });
        }
        Some(other) => context.warn(config_field(&other), "has no effect on ORIGINAL_DST"),
    }
    if policy.is_some() {
        context.reject(
            "load_balancing_policy",
            "has no place in an ORIGINAL_DST cluster",
        );
    }
    match value::enumeration(context, "lb_policy", lb_policy)? {
        PbLbPolicy::ClusterProvided => {}
        _ => context.reject(
            "lb_policy",
            "an ORIGINAL_DST cluster needs CLUSTER_PROVIDED",
        ),
    }
    Some(LbPolicy::RoundRobin)
}

fn original_config(context: &mut Context, config: pb::cluster::OriginalDstLbConfig) {
    let pb::cluster::OriginalDstLbConfig {
        use_http_header,
        http_header_name,
        upstream_port_override,
        metadata_key,
    } = config;
    unsupported!(context, reject: use_http_header, upstream_port_override, metadata_key);
    unsupported!(context, warn "has no effect without use_http_header": http_header_name);
}

fn config_field(config: &LbConfig) -> &'static str {
    match config {
        LbConfig::RingHashLbConfig(_) => "ring_hash_lb_config",
        LbConfig::MaglevLbConfig(_) => "maglev_lb_config",
        LbConfig::OriginalDstLbConfig(_) => "original_dst_lb_config",
        LbConfig::LeastRequestLbConfig(_) => "least_request_lb_config",
        LbConfig::RoundRobinLbConfig(_) => "round_robin_lb_config",
    }
}

/// The list is in the order of preference; what is not known is passed over, as Envoy does.
fn first_known(context: &mut Context, policy: pb::LoadBalancingPolicy) -> Option<LbPolicy> {
    let pb::LoadBalancingPolicy { policies } = policy;
    let known = policies
        .iter()
        .position(|policy| any(policy).is_some_and(is_known));
    let balancing = || {
        policies
            .iter()
            .position(|policy| any(policy).is_some_and(is_balancing))
    };
    let Some(chosen) = known.or_else(balancing) else {
        return context.unsupported("policies", "none of them is supported");
    };
    let mut found = LbPolicy::RoundRobin;
    for (i, policy) in policies.iter().enumerate() {
        let field =
            |context: &mut Context, reason: &str| context.warn(&format!("policies[{i}]"), reason);
        match i.cmp(&chosen) {
            std::cmp::Ordering::Less => field(context, "not supported, a later one is used"),
            std::cmp::Ordering::Equal if known.is_none() => field(context, INSTEAD),
            std::cmp::Ordering::Equal => {
                found = context.item("policies", i, |context| known_policy(context, policy))?;
            }
            // Never reached by anyone who knows an earlier one.
            std::cmp::Ordering::Greater => {}
        }
    }
    Some(found)
}

fn any(policy: &Policy) -> Option<&Any> {
    let Policy {
        typed_extension_config,
    } = policy;
    let TypedExtensionConfig {
        name: _,
        typed_config,
    } = typed_extension_config.as_ref()?;
    typed_config.as_ref()
}

fn is_known(any: &Any) -> bool {
    extension::holds::<LeastRequest>(any)
        || extension::holds::<Random>(any)
        || extension::holds::<RoundRobin>(any)
}

fn is_balancing(any: &Any) -> bool {
    let name = extension::type_name(any);
    name.strip_prefix(PACKAGE)
        .is_some_and(|name| BALANCING.contains(&name))
}

fn known_policy(context: &mut Context, policy: &Policy) -> Option<LbPolicy> {
    let any = any(policy)?;
    context.field("typed_extension_config.typed_config", |context| {
        if extension::holds::<LeastRequest>(any) {
            let config = extension::unpack(context, any)?;
            return least_request::typed(context, config).map(LbPolicy::LeastRequest);
        }
        if extension::holds::<Random>(any) {
            let Random { locality_lb_config } = extension::unpack(context, any)?;
            unsupported!(context, warn: locality_lb_config);
            return Some(LbPolicy::Random);
        }
        let RoundRobin {
            slow_start_config,
            locality_lb_config,
        } = extension::unpack(context, any)?;
        unsupported!(context, warn: slow_start_config, locality_lb_config);
        Some(LbPolicy::RoundRobin)
    })
}
