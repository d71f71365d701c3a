//! `lb_policy` and what belongs to it, as the typed policy that means the same: what looks on stands
//! beside a policy, not beside a field.
//!
//! The older messages have the numbers of the newer ones, but for that of the ring.

use prost::Message;
use prost::Name;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RingHashLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier as OldLocality;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityWeightedLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::ring_hash::HashFunction;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::google::protobuf::Any;

/// The policy, or the field that keeps it from having a typed form.
pub(super) fn typed(cluster: &Cluster) -> Result<LoadBalancingPolicy, &'static str> {
    if cluster.lb_subset_config.is_some() {
        return Err("lb_subset_config");
    }
    let common = cluster.common_lb_config.clone().unwrap_or_default();
    let any = match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::LeastRequest) => {
            let mut policy: LeastRequest = match &cluster.lb_config {
                Some(LbConfig::LeastRequestLbConfig(config)) => same(config),
                _ => LeastRequest::default(),
            };
            policy.locality_lb_config = locality(&common);
            pack(&policy)
        }
        Ok(LbPolicy::Maglev) => {
            let mut policy: Maglev = match &cluster.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => same(config),
                _ => Maglev::default(),
            };
            policy.consistent_hashing_lb_config = hashing(&common);
            policy.locality_weighted_lb_config = by_weight(&common);
            pack(&policy)
        }
        Ok(LbPolicy::Random) => pack(&Random {
            locality_lb_config: locality(&common),
        }),
        Ok(LbPolicy::RingHash) => ring(cluster, &common),
        Ok(LbPolicy::RoundRobin) => {
            let mut policy: RoundRobin = match &cluster.lb_config {
                Some(LbConfig::RoundRobinLbConfig(config)) => same(config),
                _ => RoundRobin::default(),
            };
            policy.locality_lb_config = locality(&common);
            pack(&policy)
        }
        Ok(LbPolicy::ClusterProvided | LbPolicy::LoadBalancingPolicyConfig) | Err(_) => {
            return Err("lb_policy");
        }
    };
    Ok(alone(any))
}

fn ring(cluster: &Cluster, common: &CommonLbConfig) -> Any {
    let config = match &cluster.lb_config {
        Some(LbConfig::RingHashLbConfig(config)) => *config,
        _ => RingHashLbConfig::default(),
    };
    let function = match config.hash_function {
        0 => HashFunction::XxHash,
        _ => HashFunction::MurmurHash2,
    };
    pack(&RingHash {
        hash_function: function.into(),
        minimum_ring_size: config.minimum_ring_size,
        maximum_ring_size: config.maximum_ring_size,
        consistent_hashing_lb_config: hashing(common),
        locality_weighted_lb_config: by_weight(common),
        ..RingHash::default()
    })
}

/// A list of one.
fn alone(any: Any) -> LoadBalancingPolicy {
    let name = any.type_url.rsplit('.').next().unwrap_or_default();
    let config = TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any),
    };
    LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(config),
        }],
    }
}

fn hashing(common: &CommonLbConfig) -> Option<ConsistentHashingLbConfig> {
    common.consistent_hashing_lb_config.as_ref().map(same)
}

fn by_weight(common: &CommonLbConfig) -> Option<LocalityWeightedLbConfig> {
    match common.locality_config_specifier {
        Some(OldLocality::LocalityWeightedLbConfig(_)) => Some(LocalityWeightedLbConfig {}),
        Some(OldLocality::ZoneAwareLbConfig(_)) | None => None,
    }
}

fn locality(common: &CommonLbConfig) -> Option<LocalityLbConfig> {
    let specifier = match &common.locality_config_specifier {
        None => return None,
        Some(OldLocality::LocalityWeightedLbConfig(_)) => {
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {})
        }
        Some(OldLocality::ZoneAwareLbConfig(config)) => {
            LocalityConfigSpecifier::ZoneAwareLbConfig(same(config))
        }
    };
    Some(LocalityLbConfig {
        locality_config_specifier: Some(specifier),
    })
}

/// A message as another one with the same fields.
fn same<A: Message, B: Message + Name + Default>(old: &A) -> B {
    B::decode(old.encode_to_vec().as_slice()).unwrap_or_default()
}
