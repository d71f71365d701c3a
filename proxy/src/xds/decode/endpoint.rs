//! `ClusterLoadAssignment`: members by locality and priority.
//!
//! Priorities must leave no gap, as Envoy demands; several entries of one locality are tolerated, a
//! second entry of one address in a locality is dropped with a warning.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::HealthStatus as PbHealthStatus;
use xds_proto::pb::envoy::config::endpoint::v3 as pb;
use xds_proto::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy as PbPolicy;
use xds_proto::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use xds_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_proto::pb::envoy::config::endpoint::v3::locality_lb_endpoints::LbConfig;
use xds_proto::pb::envoy::config::endpoint::v3::locality_lb_endpoints::LbEndpointList;
use xds_proto::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::Context;
use super::address;
use super::health_check;
use super::labels;
use super::value;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Drop;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Labels;
use crate::config::endpoint::Locality;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::endpoint::Policy;
use crate::config::endpoint::Traits;
use crate::config::health::EndpointCheck;
use crate::config::limits;

/// Envoy's highest number of a priority.
const PRIORITY_MAX: u32 = 128;

/// A locality whose members are still to be decoded.
pub(crate) struct Place {
    pub(crate) locality: Locality,
    pub(crate) priority: u32,
    pub(crate) weight: Option<u32>,
    pub(crate) labels: Option<Arc<Labels>>,
}

/// A member whose address is still to be decoded.
pub(crate) struct Member {
    pub(crate) address: core::Address,
    pub(crate) hostname: Name,
    pub(crate) weight: u32,
    pub(crate) health: HealthStatus,
    pub(crate) labels: Option<Arc<Labels>>,
    pub(crate) hash_key: Option<Name>,
    pub(crate) traits: Option<Arc<Traits>>,
    pub(crate) check: Option<Arc<EndpointCheck>>,
}

/// Reads an assignment whose addresses are all literal.
pub(crate) fn decode(
    context: &mut Context,
    assignment: pb::ClusterLoadAssignment,
) -> Option<Endpoints> {
    let mut localities = Vec::new();
    let policy = visit(context, assignment, |context, place, members| {
        localities.push(LocalityEndpoints {
            locality: place.locality,
            priority: place.priority,
            weight: place.weight,
            labels: place.labels,
            endpoints: literal(context, members),
        });
    })?;
    Some(policy.with(localities))
}

fn literal(context: &mut Context, members: Vec<(usize, Member)>) -> Vec<Endpoint> {
    let mut seen = HashSet::with_capacity(members.len());
    let mut endpoints = Vec::with_capacity(members.len());
    for (i, member) in members {
        let Member {
            address,
            hostname,
            weight,
            health,
            labels,
            hash_key,
            traits,
            check,
        } = member;
        let address = in_member(context, i, |context| address::connect(context, address));
        let Some(address) = address else { continue };
        if !seen.insert(address.clone()) {
            let field = format!("lb_endpoints[{i}]");
            context.warn(
                &field,
                "the address is in this locality already; the first one is kept",
            );
            continue;
        }
        endpoints.push(Endpoint {
            address,
            hostname,
            weight,
            health,
            labels,
            hash_key,
            traits,
            check,
        });
    }
    endpoints
}

/// Decodes the address of the `i`-th member of the current locality.
pub(crate) fn in_member<R>(
    context: &mut Context,
    i: usize,
    decode: impl FnOnce(&mut Context) -> R,
) -> R {
    context.item("lb_endpoints", i, |context| {
        context.field("endpoint.address", decode)
    })
}

/// Walks over the localities; the members come with their index, for messages. Returns what is said
/// of all of them.
pub(crate) fn visit(
    context: &mut Context,
    assignment: pb::ClusterLoadAssignment,
    mut locality: impl FnMut(&mut Context, Place, Vec<(usize, Member)>),
) -> Option<Policy> {
    let pb::ClusterLoadAssignment {
        cluster_name,
        endpoints,
        named_endpoints,
        policy,
    } = assignment;
    if cluster_name.is_empty() {
        context.reject("cluster_name", "must not be empty");
    }
    unsupported!(context, reject: named_endpoints);
    let policy = context.optional("policy", policy, self::policy);
    check_priorities(context, &endpoints);
    check_locality_weights(context, &endpoints);
    for (i, group) in endpoints.into_iter().enumerate() {
        context.item("endpoints", i, |context| {
            if let Some((place, members)) = self::locality(context, group) {
                locality(context, place, members);
            }
        });
    }
    Some(policy.unwrap_or_default())
}

fn policy(context: &mut Context, policy: PbPolicy) -> Option<Policy> {
    let PbPolicy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = policy;
    unsupported!(context, warn: endpoint_stale_after);
    value::positive_duration(context, "endpoint_stale_after", endpoint_stale_after);
    let factor = value::number(
        context,
        "overprovisioning_factor",
        overprovisioning_factor,
        (1, u32::MAX),
    );
    if drop_overloads.len() > limits::DROP_CATEGORIES_MAX {
        let reason = format!("has more than {} categories", limits::DROP_CATEGORIES_MAX);
        context.reject("drop_overloads", reason);
    }
    let usual = Policy::default();
    Some(Policy {
        overprovisioning_factor: factor.unwrap_or(usual.overprovisioning_factor),
        drops: context.each("drop_overloads", drop_overloads, drop_overload),
        weighted_priority_health,
    })
}

/// Envoy takes one category only; gRPC takes several, as they are meant.
fn drop_overload(context: &mut Context, drop: DropOverload) -> Option<Drop> {
    let DropOverload {
        category,
        drop_percentage,
    } = drop;
    if category.is_empty() {
        context.reject("category", "must not be empty");
    }
    let per_million = context.optional("drop_percentage", drop_percentage, |context, part| {
        let numerator = part.numerator;
        let whole = match part.denominator() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        if numerator > whole {
            let reason = format!("{numerator} of {whole} is more than all");
            return context.refuse("numerator", reason);
        }
        value::per_million(context, part)
    });
    // Nothing is dropped by a category of zero.
    let per_million = per_million.filter(|part| *part > 0)?;
    Some(Drop {
        category: category.into(),
        per_million,
    })
}

fn check_priorities(context: &mut Context, groups: &[pb::LocalityLbEndpoints]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    let gap = used
        .iter()
        .zip(0..)
        .find(|(priority, expected)| *priority != expected);
    if let Some((priority, expected)) = gap {
        let reason = format!("priority {priority} is used but {expected} is not");
        context.reject("endpoints", reason);
    }
}

/// Envoy refuses weights of one priority whose sum leaves 32 bits.
fn check_locality_weights(context: &mut Context, groups: &[pb::LocalityLbEndpoints]) {
    let mut sums = std::collections::BTreeMap::<u32, u64>::new();
    for group in groups {
        let weight = group.load_balancing_weight.map_or(0, |weight| weight.value);
        *sums.entry(group.priority).or_default() += u64::from(weight);
    }
    if sums.values().any(|sum| *sum > u64::from(u32::MAX)) {
        context.reject(
            "endpoints",
            "the locality weights of one priority exceed 4294967295",
        );
    }
}

fn locality(
    context: &mut Context,
    group: pb::LocalityLbEndpoints,
) -> Option<(Place, Vec<(usize, Member)>)> {
    let pb::LocalityLbEndpoints {
        locality,
        metadata,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = group;
    unsupported!(context, warn: proximity);
    let labels = labels::of_metadata(context, metadata);
    let lb_endpoints = match lb_config {
        None => lb_endpoints,
        // Deprecated, the same list in another place.
        Some(LbConfig::LoadBalancerEndpoints(LbEndpointList { lb_endpoints: list })) => {
            if !lb_endpoints.is_empty() {
                context.reject("load_balancer_endpoints", "stands beside lb_endpoints");
            }
            list
        }
        Some(LbConfig::LedsClusterLocalityConfig(_)) => {
            return context.unsupported("leds_cluster_locality_config", "not supported");
        }
    };
    if priority > PRIORITY_MAX {
        context.reject("priority", format!("{priority} is above {PRIORITY_MAX}"));
    }
    let bounds = (1, u32::MAX);
    let weight = value::number(
        context,
        "load_balancing_weight",
        load_balancing_weight,
        bounds,
    );
    if locality.is_none() && weight.is_some() {
        context.warn("load_balancing_weight", "has no effect without locality");
    }
    let weight = weight.filter(|_| locality.is_some());
    let members = members(context, lb_endpoints);
    let core::Locality {
        region,
        zone,
        sub_zone,
    } = locality.unwrap_or_default();
    let locality = Locality {
        region: region.into(),
        zone: zone.into(),
        sub_zone: sub_zone.into(),
    };
    Some((
        Place {
            locality,
            priority,
            weight,
            labels,
        },
        members,
    ))
}

fn members(context: &mut Context, endpoints: Vec<pb::LbEndpoint>) -> Vec<(usize, Member)> {
    let mut members = Vec::with_capacity(endpoints.len());
    let mut sum = 0_u64;
    for (i, endpoint) in endpoints.into_iter().enumerate() {
        let Some(member) = context.item("lb_endpoints", i, |context| member(context, endpoint))
        else {
            continue;
        };
        sum += u64::from(member.weight);
        members.push((i, member));
    }
    if sum > u64::from(u32::MAX) {
        context.reject("lb_endpoints", "the weights exceed 4294967295 together");
    }
    members
}

fn member(context: &mut Context, endpoint: pb::LbEndpoint) -> Option<Member> {
    let pb::LbEndpoint {
        health_status,
        metadata,
        load_balancing_weight,
        host_identifier,
    } = endpoint;
    let labels::OfMember {
        labels,
        hash_key,
        traits,
    } = labels::of_member(context, metadata);
    let health = value::enumeration(context, "health_status", health_status).map(health);
    let bounds = (1, u32::MAX);
    let weight = value::number(
        context,
        "load_balancing_weight",
        load_balancing_weight,
        bounds,
    );
    let endpoint = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return context.unsupported("endpoint_name", "not supported");
        }
        None => return context.missing("endpoint"),
    };
    let (address, hostname, check) =
        context.field("endpoint", |context| host(context, endpoint))?;
    Some(Member {
        address,
        hostname,
        check,
        weight: weight.unwrap_or(1),
        health: health?,
        labels,
        hash_key,
        traits,
    })
}

type Host = (core::Address, Name, Option<Arc<EndpointCheck>>);

fn host(context: &mut Context, endpoint: pb::Endpoint) -> Option<Host> {
    let pb::Endpoint {
        address,
        health_check_config,
        hostname,
        additional_addresses,
        observability_name,
    } = endpoint;
    unsupported!(context, warn: additional_addresses, observability_name);
    let check = context.optional(
        "health_check_config",
        health_check_config,
        health_check::of_endpoint,
    );
    let address = context.required("address", address, |_, address| Some(address))?;
    Some((address, hostname.into(), check))
}

pub(super) fn health(status: PbHealthStatus) -> HealthStatus {
    match status {
        PbHealthStatus::Unknown => HealthStatus::Unknown,
        PbHealthStatus::Healthy => HealthStatus::Healthy,
        PbHealthStatus::Unhealthy => HealthStatus::Unhealthy,
        PbHealthStatus::Draining => HealthStatus::Draining,
        PbHealthStatus::Timeout => HealthStatus::Timeout,
        PbHealthStatus::Degraded => HealthStatus::Degraded,
    }
}
