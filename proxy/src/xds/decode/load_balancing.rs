//! Which member is taken: `load_balancing_policy` if it is there, else the old `lb_policy`.
//!
//! A policy we do not have but that merely balances otherwise is replaced by round robin with a
//! warning; one that takes its choice from elsewhere is refused.

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy as PbLbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::google::protobuf::Any;

use super::Context;
use super::extension;
use super::value;
use crate::config::cluster::LbPolicy;

/// Policies that spread load over the same members by another rule.
const BALANCING: &[&str] = &[
    "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
    "least_request.v3.LeastRequest",
    "maglev.v3.Maglev",
    "pick_first.v3.PickFirst",
    "random.v3.Random",
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
    if let Some(config) = &lb_config {
        context.warn(config_field(config), "not supported, has no effect");
    }
    if policy.is_some() {
        // Envoy ignores lb_policy then, and so do we, without a word: it has no way to be absent.
        return context.optional("load_balancing_policy", policy, first_known);
    }
    match value::enumeration(context, "lb_policy", lb_policy)? {
        PbLbPolicy::RoundRobin => {}
        PbLbPolicy::LeastRequest
        | PbLbPolicy::RingHash
        | PbLbPolicy::Random
        | PbLbPolicy::Maglev => context.warn("lb_policy", INSTEAD),
        PbLbPolicy::ClusterProvided => {
            return context.unsupported("lb_policy", "CLUSTER_PROVIDED is not supported");
        }
        PbLbPolicy::LoadBalancingPolicyConfig => {
            return context.missing("load_balancing_policy");
        }
    }
    Some(LbPolicy::RoundRobin)
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
        .position(|policy| any(policy).is_some_and(extension::holds::<RoundRobin>));
    let balancing = || {
        policies
            .iter()
            .position(|policy| any(policy).is_some_and(is_balancing))
    };
    let Some(chosen) = known.or_else(balancing) else {
        return context.unsupported("policies", "none of them is supported");
    };
    for (i, policy) in policies.iter().enumerate() {
        let field =
            |context: &mut Context, reason: &str| context.warn(&format!("policies[{i}]"), reason);
        match i.cmp(&chosen) {
            std::cmp::Ordering::Less => field(context, "not supported, a later one is used"),
            std::cmp::Ordering::Equal if known.is_none() => field(context, INSTEAD),
            std::cmp::Ordering::Equal => {
                context.item("policies", i, |context| round_robin(context, policy))?;
            }
            // Never reached by anyone who knows an earlier one.
            std::cmp::Ordering::Greater => {}
        }
    }
    Some(LbPolicy::RoundRobin)
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

fn is_balancing(any: &Any) -> bool {
    let name = extension::type_name(any);
    name.strip_prefix(PACKAGE)
        .is_some_and(|name| BALANCING.contains(&name))
}

fn round_robin(context: &mut Context, policy: &Policy) -> Option<()> {
    let any = any(policy)?;
    context.field("typed_extension_config.typed_config", |context| {
        let RoundRobin {
            slow_start_config,
            locality_lb_config,
        } = extension::unpack(context, any)?;
        unsupported!(context, warn: slow_start_config, locality_lb_config);
        Some(())
    })
}
