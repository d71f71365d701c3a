//! How localities share the load of a priority, in both spellings.

use xds_proto::pb::envoy::config::cluster::v3::cluster::common_lb_config as legacy;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config as typed;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::zone_aware_lb_config::ForceLocalZone;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::zone_aware_lb_config::LocalityBasis;
use xds_proto::pb::envoy::r#type::v3::Percent;
use xds_proto::pb::google::protobuf::UInt64Value;

use super::Context;
use super::value;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::zone::ZoneAware;

/// Members of the own zone from which on it is forced, if nothing is said; Envoy's default.
const FORCED_FROM: u32 = 1;

/// What is used of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Locality {
    pub(super) by_locality: bool,
    pub(super) fails_in_panic: bool,
    pub(super) zone_aware: ZoneAware,
}

/// Reads the old form, a part of `common_lb_config`.
pub(super) fn legacy(context: &mut Context, config: legacy::LocalityConfigSpecifier) -> Locality {
    match config {
        legacy::LocalityConfigSpecifier::LocalityWeightedLbConfig(
            legacy::LocalityWeightedLbConfig {},
        ) => weighted(),
        legacy::LocalityConfigSpecifier::ZoneAwareLbConfig(config) => {
            let legacy::ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
            } = config;
            let usual = ZoneAware::default();
            let enabled_percent = context.field("zone_aware_lb_config", |context| {
                context.optional("routing_enabled", routing_enabled, enabled)
            });
            Locality {
                by_locality: false,
                fails_in_panic: fail_traffic_on_panic,
                zone_aware: ZoneAware {
                    enabled_percent: enabled_percent.unwrap_or(usual.enabled_percent),
                    cluster_size_min: size(min_cluster_size),
                    ..usual
                },
            }
        }
    }
}

/// Reads `locality_lb_config` of a typed policy.
pub(super) fn typed(
    context: &mut Context,
    config: Option<LocalityLbConfig>,
    policy: LbPolicy,
) -> LoadBalancing {
    let read = |context: &mut Context, config| {
        let LocalityLbConfig {
            locality_config_specifier,
        } = config;
        locality_config_specifier.map(|specifier| specified(context, specifier))
    };
    let locality = context.optional("locality_lb_config", config, read);
    let locality = locality.unwrap_or_default();
    LoadBalancing {
        policy,
        by_locality: locality.by_locality,
        fails_in_panic: locality.fails_in_panic,
        zone_aware: locality.zone_aware,
        ..LoadBalancing::default()
    }
}

fn specified(context: &mut Context, config: typed::LocalityConfigSpecifier) -> Locality {
    match config {
        typed::LocalityConfigSpecifier::LocalityWeightedLbConfig(
            typed::LocalityWeightedLbConfig {},
        ) => weighted(),
        typed::LocalityConfigSpecifier::ZoneAwareLbConfig(config) => {
            #[expect(deprecated, reason = "every field is used or named")]
            let typed::ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
                force_locality_direct_routing,
                force_local_zone,
                locality_basis,
            } = config;
            let usual = ZoneAware::default();
            let forced = force_local_zone
                .map(|ForceLocalZone { min_size }| min_size.map_or(FORCED_FROM, |size| size.value));
            // The deprecated spelling.
            let forced = forced.or_else(|| force_locality_direct_routing.then_some(FORCED_FROM));
            let (enabled_percent, basis) = context.field("zone_aware_lb_config", |context| {
                let enabled = context.optional("routing_enabled", routing_enabled, enabled);
                let basis = value::enumeration(context, "locality_basis", locality_basis);
                (enabled, basis.unwrap_or(LocalityBasis::HealthyHostsNum))
            });
            Locality {
                by_locality: false,
                fails_in_panic: fail_traffic_on_panic,
                zone_aware: ZoneAware {
                    enabled_percent: enabled_percent.unwrap_or(usual.enabled_percent),
                    cluster_size_min: size(min_cluster_size),
                    forced_from: forced,
                    by_weight: basis == LocalityBasis::HealthyHostsWeight,
                },
            }
        }
    }
}

fn weighted() -> Locality {
    Locality {
        by_locality: true,
        ..Locality::default()
    }
}

fn size(least: Option<UInt64Value>) -> u64 {
    let usual = ZoneAware::default().cluster_size_min;
    least.map_or(usual, |least| least.value)
}

/// Whole percents, rounded, as in Envoy.
fn enabled(context: &mut Context, Percent { value }: Percent) -> Option<u32> {
    if !(0.0..=100.0).contains(&value) {
        return context.refuse("value", format!("{value} is not within 0 and 100"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 0 and 100"
    )]
    let percent = value.round() as u32;
    Some(percent)
}
