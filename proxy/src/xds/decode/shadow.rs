//! `Shadow`: two lists of policies, of each the first that is known.

use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::weir::load_balancing::v1 as pb;

use super::Context;
use super::load_balancing;
use crate::config::load_balancing::LoadBalancing;

/// Reads it.
pub(super) fn decode(context: &mut Context, config: pb::Shadow) -> Option<LoadBalancing> {
    let pb::Shadow { active, shadow } = config;
    let active = required(context, "active", active);
    let shadow = required(context, "shadow", shadow);
    Some(LoadBalancing {
        shadow: Some(Box::new(shadow?)),
        ..active?
    })
}

fn required(
    context: &mut Context,
    field: &str,
    policy: Option<LoadBalancingPolicy>,
) -> Option<LoadBalancing> {
    let Some(policy) = policy else {
        return context.missing(field);
    };
    context.field(field, |context| {
        load_balancing::first_alone(context, policy)
    })
}
