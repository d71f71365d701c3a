//! `WrrLocality`: localities take load by their weight, and inside of each another policy chooses. Envoy
//! takes client-side weighted round robin for that alone, gRPC any policy.

use xds_proto::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;

use super::Context;
use super::load_balancing;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::zone::ZoneAware;

const FIELD: &str = "endpoint_picking_policy";

/// Reads it.
pub(super) fn decode(context: &mut Context, config: WrrLocality) -> Option<LoadBalancing> {
    let WrrLocality {
        endpoint_picking_policy,
    } = config;
    let inner = context.required(FIELD, endpoint_picking_policy, load_balancing::first_alone)?;
    let is_simple = inner.override_sources.is_empty() && inner.subsets.is_none();
    if !is_simple || !chooses(&inner.policy) {
        let reason = "must choose among the members of one locality: it may neither hash nor stay with one \
            member, nor make subsets, nor have requests name members";
        return context.refuse(FIELD, reason);
    }
    if inner.zone_aware != ZoneAware::default() {
        context.warn(FIELD, "localities are chosen by their weight, not by zones");
    }
    Some(LoadBalancing {
        by_locality: true,
        ..inner
    })
}

/// Whether it makes no difference to the policy that it sees one locality at a time.
fn chooses(policy: &LbPolicy) -> bool {
    match policy {
        LbPolicy::Latency(_)
        | LbPolicy::LeastRequest(_)
        | LbPolicy::PeakEwma(_)
        | LbPolicy::Random
        | LbPolicy::Reported(_)
        | LbPolicy::RoundRobin => true,
        LbPolicy::Maglev(_) | LbPolicy::PickFirst(_) | LbPolicy::RingHash(_) => false,
    }
}
