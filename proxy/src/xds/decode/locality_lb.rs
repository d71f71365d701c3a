//! How localities share the load of a priority, in both spellings.
//!
//! Zones are not known here, so nothing is routed by them.

use xds_proto::pb::envoy::config::cluster::v3::cluster::common_lb_config as legacy;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config as typed;

use super::Context;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;

/// What is used of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Locality {
    pub(super) by_locality: bool,
    pub(super) fails_in_panic: bool,
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
            context.field("zone_aware_lb_config", |context| {
                unsupported!(context, warn: routing_enabled, min_cluster_size);
            });
            Locality {
                by_locality: false,
                fails_in_panic: fail_traffic_on_panic,
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
            context.field("zone_aware_lb_config", |context| {
                unsupported!(context, warn: routing_enabled, min_cluster_size,
                    force_locality_direct_routing, force_local_zone, locality_basis);
            });
            Locality {
                by_locality: false,
                fails_in_panic: fail_traffic_on_panic,
            }
        }
    }
}

fn weighted() -> Locality {
    Locality {
        by_locality: true,
        fails_in_panic: false,
    }
}
