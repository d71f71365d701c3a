//! Which member is taken: `load_balancing_policy` if it is there, else the old `lb_policy`.
//!
//! A policy we do not have but that merely balances otherwise is replaced by round robin with a
//! warning; one that takes its choice from elsewhere is refused.

use std::sync::Arc;

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy as PbLbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LeastRequestLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::MaglevLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RingHashLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RoundRobinLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use xds_proto::pb::envoy::extensions::load_balancing_policies::override_host::v3::OverrideHost;
use xds_proto::pb::envoy::extensions::load_balancing_policies::pick_first::v3::PickFirst;
use xds_proto::pb::envoy::extensions::load_balancing_policies::peak_ewma::v3alpha::PeakEwma;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use xds_proto::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::weir::load_balancing::v1::LatencyWeightedRoundRobin;
use xds_proto::pb::weir::load_balancing::v1::Shadow;

use super::Context;
use super::common_lb;
use super::common_lb::Common;
use super::extension;
use super::hashing;
use super::latency;
use super::least_request;
use super::locality_lb;
use super::name_source;
use super::peak_ewma;
use super::reported_weights;
use super::shadow;
use super::slow_start;
use super::subset;
use super::value;
use super::wrr_locality;
use crate::config::latency::LatencyWeighted;
use crate::config::load_balancing as config;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;

/// Policies that spread load over the same members by another rule.
const BALANCING: &[&str] = &["load_aware_locality.v3.LoadAwareLocality"];

const PACKAGE: &str = "envoy.extensions.load_balancing_policies.";

const INSTEAD: &str = "not supported, balances round robin instead";

/// The fields of a cluster that say it.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) lb_policy: i32,
    pub(crate) policy: Option<pb::LoadBalancingPolicy>,
    pub(crate) lb_config: Option<LbConfig>,
    pub(crate) common: Option<pb::cluster::CommonLbConfig>,
    pub(crate) subsets: Option<LbSubsetConfig>,
}

/// Reads them.
pub(crate) fn decode(context: &mut Context, sources: Sources) -> Option<LoadBalancing> {
    let Sources {
        lb_policy,
        policy,
        lb_config,
        common,
        subsets,
    } = sources;
    let common = context.optional("common_lb_config", common, common_lb::decode);
    let common = common.unwrap_or_default();
    if policy.is_some() {
        if subsets.is_some() {
            let reason = "stands beside load_balancing_policy, which says it itself";
            context.reject("lb_subset_config", reason);
        }
        if let Some(config) = &lb_config {
            context.warn(
                config_field(config),
                "load_balancing_policy is used instead",
            );
        }
        common.warn_unused(context, "load_balancing_policy is used instead");
        // Envoy ignores lb_policy then, and so do we, without a word: it has no way to be absent.
        let chosen = context.optional("load_balancing_policy", policy, first_known)?;
        let panic_percent = common.panic_percent;
        let shadow = chosen.shadow.map(|shadow| LoadBalancing {
            panic_percent,
            ..*shadow
        });
        return Some(LoadBalancing {
            panic_percent,
            shadow: shadow.map(Box::new),
            override_statuses: common.override_statuses,
            ..chosen
        });
    }
    let subsets = context.optional("lb_subset_config", subsets, subset::legacy);
    Some(LoadBalancing {
        subsets: subsets.map(Arc::new),
        ..legacy(context, lb_policy, lb_config, common)?
    })
}

fn legacy(
    context: &mut Context,
    lb_policy: i32,
    lb_config: Option<LbConfig>,
    mut common: Common,
) -> Option<LoadBalancing> {
    let lb_policy: PbLbPolicy = value::enumeration(context, "lb_policy", lb_policy)?;
    let hashes = matches!(lb_policy, PbLbPolicy::Maglev | PbLbPolicy::RingHash);
    let hashing = common.hashing.take_if(|_| hashes).unwrap_or_default();
    let fitting = fitting(context, lb_policy, lb_config);
    let mut slow_start = None;
    let policy = match (lb_policy, fitting) {
        (PbLbPolicy::LeastRequest, fitting) => {
            let config = match fitting {
                Some(LbConfig::LeastRequestLbConfig(config)) => config,
                _ => LeastRequestLbConfig::default(),
            };
            let read = |context: &mut Context| least_request::legacy(context, config);
            let (policy, slow) = context.field("least_request_lb_config", read)?;
            slow_start = slow;
            Some(policy)
        }
        (PbLbPolicy::Maglev, fitting) => {
            let config = match fitting {
                Some(LbConfig::MaglevLbConfig(config)) => config,
                _ => MaglevLbConfig::default(),
            };
            let read = |context: &mut Context| hashing::legacy_maglev(context, config, hashing);
            context.field("maglev_lb_config", read)
        }
        (PbLbPolicy::RingHash, fitting) => {
            let config = match fitting {
                Some(LbConfig::RingHashLbConfig(config)) => config,
                _ => RingHashLbConfig::default(),
            };
            let read = |context: &mut Context| hashing::legacy_ring(context, config, hashing);
            context.field("ring_hash_lb_config", read)
        }
        (PbLbPolicy::RoundRobin, fitting) => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = fitting {
                let RoundRobinLbConfig { slow_start_config } = config;
                let read = |context: &mut Context| slow_start::legacy(context, slow_start_config);
                slow_start = context.field("round_robin_lb_config", read);
            }
            Some(LbPolicy::RoundRobin)
        }
        (PbLbPolicy::Random, _) => Some(LbPolicy::Random),
        (PbLbPolicy::ClusterProvided, _) => {
            context.unsupported("lb_policy", "CLUSTER_PROVIDED is not supported")
        }
        (PbLbPolicy::LoadBalancingPolicyConfig, _) => context.missing("load_balancing_policy"),
    };
    Some(LoadBalancing {
        slow_start,
        ..common.finish(context, policy?)
    })
}

/// The configuration if it is for this policy; other ones have no effect.
fn fitting(
    context: &mut Context,
    lb_policy: PbLbPolicy,
    config: Option<LbConfig>,
) -> Option<LbConfig> {
    let config = config?;
    let wanted = match config {
        LbConfig::LeastRequestLbConfig(_) => PbLbPolicy::LeastRequest,
        LbConfig::MaglevLbConfig(_) => PbLbPolicy::Maglev,
        LbConfig::RingHashLbConfig(_) => PbLbPolicy::RingHash,
        LbConfig::RoundRobinLbConfig(_) => PbLbPolicy::RoundRobin,
        LbConfig::OriginalDstLbConfig(_) => {
            context.warn(config_field(&config), "not supported, has no effect");
            return None;
        }
    };
    if lb_policy != wanted {
        let reason = format!("has no effect without lb_policy {}", wanted.as_str_name());
        context.warn(config_field(&config), reason);
        return None;
    }
    Some(config)
}

/// Reads them for a cluster whose only member is where the client wanted to go.
pub(crate) fn decode_original(context: &mut Context, sources: Sources) -> Option<LoadBalancing> {
    let Sources {
        lb_policy,
        policy,
        lb_config,
        common,
        subsets,
    } = sources;
    if let Some(common) = context.optional("common_lb_config", common, common_lb::decode) {
        common.warn_unused(context, "has no effect on ORIGINAL_DST");
    }
    match lb_config {
        None => {}
        Some(LbConfig::OriginalDstLbConfig(config)) => {
            context.field("original_dst_lb_config", |context| {
                original_config(context, config);
            });
        }
        Some(other) => context.warn(config_field(&other), "has no effect on ORIGINAL_DST"),
    }
    if subsets.is_some() {
        context.reject(
            "lb_subset_config",
            "has no place in an ORIGINAL_DST cluster",
        );
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
    Some(LoadBalancing::default())
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
fn first_known(context: &mut Context, policy: pb::LoadBalancingPolicy) -> Option<LoadBalancing> {
    let is_known = |any: &Any| is_known(any) || extension::holds::<Shadow>(any);
    first_of(context, policy, is_known)
}

/// The same where nothing can look on.
pub(super) fn first_alone(
    context: &mut Context,
    policy: pb::LoadBalancingPolicy,
) -> Option<LoadBalancing> {
    first_of(context, policy, is_known)
}

fn first_of(
    context: &mut Context,
    policy: pb::LoadBalancingPolicy,
    is_known: impl Fn(&Any) -> bool,
) -> Option<LoadBalancing> {
    let pb::LoadBalancingPolicy { policies } = policy;
    let known = policies
        .iter()
        .position(|policy| any(policy).is_some_and(&is_known));
    let balancing = || {
        policies
            .iter()
            .position(|policy| any(policy).is_some_and(is_balancing))
    };
    let Some(chosen) = known.or_else(balancing) else {
        return context.unsupported("policies", "none of them is supported");
    };
    let mut found = LoadBalancing::default();
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
    extension::holds::<LatencyWeightedRoundRobin>(any)
        || extension::holds::<ClientSideWeightedRoundRobin>(any)
        || extension::holds::<LeastRequest>(any)
        || extension::holds::<Maglev>(any)
        || extension::holds::<OverrideHost>(any)
        || extension::holds::<PickFirst>(any)
        || extension::holds::<PeakEwma>(any)
        || extension::holds::<Random>(any)
        || extension::holds::<RingHash>(any)
        || extension::holds::<RoundRobin>(any)
        || extension::holds::<Subset>(any)
        || extension::holds::<WrrLocality>(any)
}

fn is_balancing(any: &Any) -> bool {
    let name = extension::type_name(any);
    name.strip_prefix(PACKAGE)
        .is_some_and(|name| BALANCING.contains(&name))
}

fn known_policy(context: &mut Context, policy: &Policy) -> Option<LoadBalancing> {
    let any = any(policy)?;
    context.field("typed_extension_config.typed_config", |context| {
        if extension::holds::<LatencyWeightedRoundRobin>(any) {
            let config = extension::unpack(context, any)?;
            return latency::decode(context, config).map(by_latency);
        }
        if extension::holds::<ClientSideWeightedRoundRobin>(any) {
            let config = extension::unpack(context, any)?;
            return reported_weights::decode(context, config);
        }
        if extension::holds::<Shadow>(any) {
            let config = extension::unpack(context, any)?;
            return shadow::decode(context, config);
        }
        if extension::holds::<PeakEwma>(any) {
            let config = extension::unpack(context, any)?;
            return peak_ewma::decode(context, config).map(|config| LoadBalancing {
                policy: LbPolicy::PeakEwma(config),
                ..LoadBalancing::default()
            });
        }
        if extension::holds::<LeastRequest>(any) {
            let config = extension::unpack(context, any)?;
            return least_request::typed(context, config);
        }
        if extension::holds::<Maglev>(any) {
            let config = extension::unpack(context, any)?;
            return hashing::typed_maglev(context, config).map(by_hash);
        }
        if extension::holds::<OverrideHost>(any) {
            let config = extension::unpack(context, any)?;
            return overridden(context, config);
        }
        if extension::holds::<PickFirst>(any) {
            return extension::unpack(context, any).map(first);
        }
        if extension::holds::<RingHash>(any) {
            let config = extension::unpack(context, any)?;
            return hashing::typed_ring(context, config).map(by_hash);
        }
        if extension::holds::<Random>(any) {
            let Random { locality_lb_config } = extension::unpack(context, any)?;
            let policy = LbPolicy::Random;
            return Some(locality_lb::typed(context, locality_lb_config, policy));
        }
        if extension::holds::<Subset>(any) {
            let config = extension::unpack(context, any)?;
            return divided(context, config);
        }
        if extension::holds::<WrrLocality>(any) {
            let config = extension::unpack(context, any)?;
            return wrr_locality::decode(context, config);
        }
        let RoundRobin {
            slow_start_config,
            locality_lb_config,
        } = extension::unpack(context, any)?;
        let slow_start = slow_start::typed(context, slow_start_config);
        let policy = LbPolicy::RoundRobin;
        Some(LoadBalancing {
            slow_start,
            ..locality_lb::typed(context, locality_lb_config, policy)
        })
    })
}

/// One member as long as it can be reached.
fn first(config: PickFirst) -> LoadBalancing {
    let PickFirst {
        shuffle_address_list,
    } = config;
    LoadBalancing {
        policy: LbPolicy::PickFirst(config::PickFirst {
            shuffles: shuffle_address_list,
        }),
        ..LoadBalancing::default()
    }
}

/// Subsets, with the policy inside of each.
fn divided(context: &mut Context, config: Subset) -> Option<LoadBalancing> {
    let (subsets, policy) = subset::typed(context, config)?;
    let inner = context.field("subset_lb_policy", |context| first_known(context, policy))?;
    if inner.subsets.is_some() {
        return context.refuse("subset_lb_policy", "must not divide subsets again");
    }
    Some(LoadBalancing {
        subsets: subsets.map(Arc::new),
        ..inner
    })
}

/// Members that requests name, before another policy.
fn overridden(context: &mut Context, config: OverrideHost) -> Option<LoadBalancing> {
    let OverrideHost {
        override_host_sources,
        selected_host_key,
        fallback_policy,
    } = config;
    unsupported!(context, warn: selected_host_key);
    if override_host_sources.is_empty() {
        context.reject("override_host_sources", "must not be empty");
    }
    let sources = context.each(
        "override_host_sources",
        override_host_sources,
        name_source::decode,
    );
    let fallback = context.required("fallback_policy", fallback_policy, first_known)?;
    if !fallback.override_sources.is_empty() {
        return context.refuse("fallback_policy", "must not be OverrideHost again");
    }
    Some(LoadBalancing {
        override_sources: sources,
        ..fallback
    })
}

fn by_latency(config: LatencyWeighted) -> LoadBalancing {
    LoadBalancing {
        policy: LbPolicy::Latency(config),
        ..LoadBalancing::default()
    }
}

fn by_hash((policy, by_locality): hashing::Typed) -> LoadBalancing {
    LoadBalancing {
        policy,
        by_locality,
        ..LoadBalancing::default()
    }
}
