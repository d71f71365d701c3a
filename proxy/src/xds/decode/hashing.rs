//! Policies that balance by hash, `RING_HASH` and `MAGLEV`, in both spellings.

use xds_proto::pb::envoy::config::cluster::v3::cluster::MaglevLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RingHashLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::common_lb_config::ConsistentHashingLbConfig as LegacyHashing;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction as LegacyFunction;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityWeightedLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev as TypedMaglev;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash as TypedRing;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::ring_hash::HashFunction as TypedFunction;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::google::protobuf::UInt64Value;

use super::Context;
use super::hash_policy;
use super::value;
use crate::config::limits;
use crate::config::load_balancing::HashFunction;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::Maglev;
use crate::config::load_balancing::RingHash;

/// Envoy's default for `minimum_ring_size`.
const RING_SIZE: u64 = 1024;

/// Envoy's default for `table_size`.
const TABLE_SIZE: u64 = 65_537;

/// Least percentage that makes sense: nobody may have more than the average.
const BALANCE_FACTOR_MIN: u32 = 100;

/// A policy, and whether localities share the load by their weight.
pub(super) type Typed = (LbPolicy, bool);

/// Reads the old form of a ring.
pub(super) fn legacy_ring(
    context: &mut Context,
    config: RingHashLbConfig,
    hashing: Hashing,
) -> Option<LbPolicy> {
    let RingHashLbConfig {
        minimum_ring_size,
        hash_function,
        maximum_ring_size,
    } = config;
    let function = match value::enumeration(context, "hash_function", hash_function)? {
        LegacyFunction::XxHash => HashFunction::Xx,
        LegacyFunction::MurmurHash2 => HashFunction::Murmur2,
    };
    ring(
        context,
        function,
        (minimum_ring_size, maximum_ring_size),
        hashing,
    )
}

/// Reads the typed form of a ring.
pub(super) fn typed_ring(context: &mut Context, config: TypedRing) -> Option<Typed> {
    #[expect(deprecated, reason = "every field is used or named")]
    let TypedRing {
        hash_function,
        minimum_ring_size,
        maximum_ring_size,
        use_hostname_for_hashing,
        hash_balance_factor,
        consistent_hashing_lb_config,
        locality_weighted_lb_config,
    } = config;
    let function = match value::enumeration(context, "hash_function", hash_function)? {
        TypedFunction::DefaultHash | TypedFunction::XxHash => HashFunction::Xx,
        TypedFunction::MurmurHash2 => HashFunction::Murmur2,
    };
    let hashing = match consistent_hashing_lb_config {
        Some(config) => {
            unsupported!(context, warn "consistent_hashing_lb_config is used instead":
                use_hostname_for_hashing, hash_balance_factor);
            typed_hashing(context, Some(config))
        }
        None => Hashing {
            by_hostname: use_hostname_for_hashing,
            balance_factor: balance_factor(context, hash_balance_factor),
            policies: Vec::new(),
        },
    };
    let sizes = (minimum_ring_size, maximum_ring_size);
    let policy = ring(context, function, sizes, hashing)?;
    Some((policy, by_locality(locality_weighted_lb_config)))
}

fn ring(
    context: &mut Context,
    function: HashFunction,
    (least, most): (Option<UInt64Value>, Option<UInt64Value>),
    hashing: Hashing,
) -> Option<LbPolicy> {
    let bounds = (0, limits::RING_SIZE_MAX);
    let size_min = size(context, "minimum_ring_size", least, (RING_SIZE, bounds))?;
    let default = limits::RING_SIZE_MAX;
    let size_max = size(context, "maximum_ring_size", most, (default, bounds))?;
    if size_min > size_max {
        let reason = format!("{size_min} is above maximum_ring_size, {size_max}");
        return context.refuse("minimum_ring_size", reason);
    }
    Some(LbPolicy::RingHash(RingHash {
        function,
        size_min,
        size_max,
        hashing,
    }))
}

/// Reads the old form of a table.
pub(super) fn legacy_maglev(
    context: &mut Context,
    config: MaglevLbConfig,
    hashing: Hashing,
) -> Option<LbPolicy> {
    let MaglevLbConfig { table_size } = config;
    maglev(context, table_size, hashing)
}

/// Reads the typed form of a table.
pub(super) fn typed_maglev(context: &mut Context, config: TypedMaglev) -> Option<Typed> {
    let TypedMaglev {
        table_size,
        consistent_hashing_lb_config,
        locality_weighted_lb_config,
    } = config;
    let hashing = typed_hashing(context, consistent_hashing_lb_config);
    let policy = maglev(context, table_size, hashing)?;
    Some((policy, by_locality(locality_weighted_lb_config)))
}

fn maglev(
    context: &mut Context,
    table_size: Option<UInt64Value>,
    hashing: Hashing,
) -> Option<LbPolicy> {
    let bounds = (2, limits::MAGLEV_SIZE_MAX);
    let table_size = size(context, "table_size", table_size, (TABLE_SIZE, bounds))?;
    if !is_prime(table_size) {
        return context.refuse("table_size", format!("{table_size} is not a prime number"));
    }
    Some(LbPolicy::Maglev(Maglev {
        table_size,
        hashing,
    }))
}

/// Reads the part of `common_lb_config` that is for these policies.
pub(super) fn legacy_hashing(context: &mut Context, config: LegacyHashing) -> Option<Hashing> {
    let LegacyHashing {
        use_hostname_for_hashing,
        hash_balance_factor,
    } = config;
    Some(Hashing {
        by_hostname: use_hostname_for_hashing,
        balance_factor: balance_factor(context, hash_balance_factor),
        policies: Vec::new(),
    })
}

fn typed_hashing(context: &mut Context, config: Option<ConsistentHashingLbConfig>) -> Hashing {
    let read = |context: &mut Context, config| {
        let ConsistentHashingLbConfig {
            use_hostname_for_hashing,
            hash_balance_factor,
            hash_policy,
        } = config;
        Some(Hashing {
            by_hostname: use_hostname_for_hashing,
            balance_factor: balance_factor(context, hash_balance_factor),
            policies: hash_policy::list(context, hash_policy),
        })
    };
    let read = context.optional("consistent_hashing_lb_config", config, read);
    read.unwrap_or_default()
}

fn balance_factor(context: &mut Context, factor: Option<UInt32Value>) -> Option<u32> {
    let bounds = (BALANCE_FACTOR_MIN, u32::MAX);
    value::number(context, "hash_balance_factor", factor, bounds)
}

fn by_locality(config: Option<LocalityWeightedLbConfig>) -> bool {
    config.is_some_and(|LocalityWeightedLbConfig {}| true)
}

fn size(
    context: &mut Context,
    field: &str,
    value: Option<UInt64Value>,
    (default, (least, most)): (u64, (u64, u64)),
) -> Option<u64> {
    let Some(UInt64Value { value }) = value else {
        return Some(default);
    };
    if value < least || value > most {
        return context.refuse(field, format!("{value} is not within {least} and {most}"));
    }
    Some(value)
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_others() {
        let small: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(small, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(TABLE_SIZE) && is_prime(limits::MAGLEV_SIZE_MAX));
        assert!(!is_prime(65_535) && !is_prime(2237 * 2237));
    }
}
