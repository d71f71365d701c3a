//! `Cluster.CommonLbConfig`: what is said of load balancing whatever the policy.

use xds_proto::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use xds_proto::pb::envoy::config::core::v3::HealthStatusSet;
use xds_proto::pb::envoy::r#type::v3::Percent;

use super::Context;
use super::endpoint;
use super::hashing;
use super::locality_lb;
use super::locality_lb::Locality;
use super::value;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::HealthStatuses;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::PANIC_PERCENT;
use crate::config::zone::ZoneAware;

const ZONES: &str = "zone_aware_lb_config";

const FAILS: &str = "zone_aware_lb_config.fail_traffic_on_panic";

/// What is used of it.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) panic_percent: u32,
    /// Whatever the policy.
    pub(super) override_statuses: HealthStatuses,
    /// For policies that hash.
    pub(super) hashing: Option<Hashing>,
    locality: Option<Locality>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            panic_percent: PANIC_PERCENT,
            override_statuses: HealthStatuses::default(),
            hashing: None,
            locality: None,
        }
    }
}

/// Reads it.
pub(super) fn decode(context: &mut Context, config: CommonLbConfig) -> Option<Common> {
    let CommonLbConfig {
        healthy_panic_threshold,
        update_merge_window,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        consistent_hashing_lb_config,
        override_host_status,
        locality_config_specifier,
    } = config;
    unsupported!(context, warn: update_merge_window, ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change);
    let statuses = override_host_status
        .map(|set| context.field("override_host_status", |context| statuses(context, set)));
    let percent = context.optional(
        "healthy_panic_threshold",
        healthy_panic_threshold,
        panic_percent,
    );
    let hashing = context.optional(
        "consistent_hashing_lb_config",
        consistent_hashing_lb_config,
        hashing::legacy_hashing,
    );
    Some(Common {
        panic_percent: percent.unwrap_or(PANIC_PERCENT),
        hashing,
        override_statuses: statuses.unwrap_or_default(),
        locality: locality_config_specifier.map(|config| locality_lb::legacy(context, config)),
    })
}

fn statuses(context: &mut Context, set: HealthStatusSet) -> HealthStatuses {
    let HealthStatusSet { statuses } = set;
    let statuses = statuses.into_iter().enumerate().filter_map(|(i, status)| {
        let status = context.item("statuses", i, |context| {
            value::enumeration(context, "", status)
        });
        status.map(endpoint::health)
    });
    statuses.collect()
}

/// Whole percents: what is behind the point is dropped, as in Envoy.
fn panic_percent(context: &mut Context, Percent { value }: Percent) -> Option<u32> {
    if !(0.0..=100.0).contains(&value) {
        return context.refuse("value", format!("{value} is not within 0 and 100"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 0 and 100"
    )]
    let percent = (100.0 * (value / 100.0)) as u32;
    Some(percent)
}

impl Common {
    /// Says that parts of it are not used.
    pub(super) fn warn_unused(&self, context: &mut Context, reason: &str) {
        context.field("common_lb_config", |context| {
            let by_locality = self.locality.is_some_and(|locality| locality.by_locality);
            let fails = self
                .locality
                .is_some_and(|locality| locality.fails_in_panic);
            let zones = self.locality.unwrap_or_default().zone_aware != ZoneAware::default();
            context.warn_set(
                reason,
                &[
                    ("locality_weighted_lb_config", by_locality),
                    (FAILS, fails),
                    (ZONES, zones),
                ],
            );
            self.warn_hashing(context, reason);
        });
    }

    fn warn_hashing(&self, context: &mut Context, reason: &str) {
        let hashing = self.hashing.clone().unwrap_or_default();
        context.field("consistent_hashing_lb_config", |context| {
            context.warn_set(
                reason,
                &[
                    ("use_hostname_for_hashing", hashing.by_hostname),
                    ("hash_balance_factor", hashing.balance_factor.is_some()),
                ],
            );
        });
    }

    /// Completes a policy in the old form.
    pub(super) fn finish(self, context: &mut Context, policy: LbPolicy) -> LoadBalancing {
        let locality = self.locality.unwrap_or_default();
        let hashes = policy.hashing().is_some();
        context.field("common_lb_config", |context| {
            self.warn_hashing(
                context,
                "has no effect without lb_policy RING_HASH or MAGLEV",
            );
            let fails = locality.fails_in_panic && hashes;
            let zones = locality.zone_aware != ZoneAware::default() && hashes;
            context.warn_set(
                "has no effect on policies that hash",
                &[(FAILS, fails), (ZONES, zones)],
            );
        });
        LoadBalancing {
            policy,
            panic_percent: self.panic_percent,
            fails_in_panic: locality.fails_in_panic && !hashes,
            by_locality: locality.by_locality,
            zone_aware: locality.zone_aware,
            override_sources: Vec::new(),
            override_statuses: self.override_statuses,
            subsets: None,
            slow_start: None,
            shadow: None,
        }
    }
}
