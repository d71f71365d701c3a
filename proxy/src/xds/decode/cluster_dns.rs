//! DNS clusters: how to resolve, from the cluster's own (deprecated) fields or from `DnsCluster`,
//! and what to resolve.

use std::time::Duration;

use xds_proto::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RefreshRate;
use xds_proto::pb::envoy::config::core::v3::Address as PbAddress;
use xds_proto::pb::envoy::config::core::v3::DnsResolutionConfig;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use xds_proto::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Duration as PbDuration;

use super::Context;
use super::address;
use super::address::Target;
use super::endpoint;
use super::endpoint::Member;
use super::endpoint::Place;
use super::extension;
use super::value;
use crate::config::cluster::Dns;
use crate::config::cluster::DnsFamily;
use crate::config::cluster::DnsTarget;
use crate::config::endpoint::Address;

/// Envoy's default.
const REFRESH_RATE: Duration = Duration::from_secs(5);

/// Envoy's least refresh rate is anything above this.
const REFRESH_RATE_MIN: Duration = Duration::from_millis(1);

/// The fields of a cluster that say how to resolve.
pub(crate) struct Legacy {
    pub(crate) refresh_rate: Option<PbDuration>,
    pub(crate) jitter: Option<PbDuration>,
    pub(crate) failure_refresh_rate: Option<RefreshRate>,
    pub(crate) respect_ttl: bool,
    pub(crate) lookup_family: i32,
    pub(crate) resolvers: Vec<PbAddress>,
    pub(crate) use_tcp: bool,
    pub(crate) resolution: Option<DnsResolutionConfig>,
    pub(crate) typed_resolver: Option<TypedExtensionConfig>,
}

/// How to resolve.
pub(crate) struct Settings {
    refresh_rate: Duration,
    family: DnsFamily,
}

/// Reads the fields of a cluster.
pub(crate) fn legacy(context: &mut Context, legacy: Legacy) -> Option<Settings> {
    let Legacy {
        refresh_rate,
        jitter: dns_jitter,
        failure_refresh_rate: dns_failure_refresh_rate,
        respect_ttl: respect_dns_ttl,
        lookup_family,
        resolvers: dns_resolvers,
        use_tcp: use_tcp_for_dns_lookups,
        resolution: dns_resolution_config,
        typed_resolver,
    } = legacy;
    unsupported!(context, warn: dns_jitter, dns_failure_refresh_rate, respect_dns_ttl,
        use_tcp_for_dns_lookups);
    // Another resolver may know other addresses.
    unsupported!(context, reject: dns_resolvers, dns_resolution_config);
    context.optional("typed_dns_resolver_config", typed_resolver, resolver);
    let refresh_rate = self::refresh_rate(context, refresh_rate);
    let family = value::enumeration(context, "dns_lookup_family", lookup_family).map(family)?;
    Some(Settings {
        refresh_rate,
        family,
    })
}

/// Reads the extension that replaces those fields.
pub(crate) fn extension(context: &mut Context, any: &Any) -> Option<Settings> {
    let DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        typed_dns_resolver_config,
        dns_lookup_family,
        all_addresses_in_single_endpoint,
        dns_min_refresh_rate,
    } = extension::unpack(context, any)?;
    unsupported!(context, warn: dns_failure_refresh_rate, respect_dns_ttl, dns_jitter,
        dns_min_refresh_rate);
    unsupported!(context, warn "every address is a member":
        all_addresses_in_single_endpoint);
    context.optional(
        "typed_dns_resolver_config",
        typed_dns_resolver_config,
        resolver,
    );
    let refresh_rate = refresh_rate(context, dns_refresh_rate);
    let family = extension_family(context, dns_lookup_family)?;
    Some(Settings {
        refresh_rate,
        family,
    })
}

/// Its own numbering: 0 is "unspecified", which is AUTO.
fn extension_family(context: &mut Context, number: i32) -> Option<DnsFamily> {
    use xds_proto::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as Family;
    Some(
        match value::enumeration(context, "dns_lookup_family", number)? {
            Family::Unspecified | Family::Auto => DnsFamily::Auto,
            Family::V4Only => DnsFamily::V4Only,
            Family::V6Only => DnsFamily::V6Only,
            Family::V4Preferred => DnsFamily::V4Preferred,
            Family::All => DnsFamily::All,
        },
    )
}

fn family(family: DnsLookupFamily) -> DnsFamily {
    match family {
        DnsLookupFamily::Auto => DnsFamily::Auto,
        DnsLookupFamily::V4Only => DnsFamily::V4Only,
        DnsLookupFamily::V6Only => DnsFamily::V6Only,
        DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
        DnsLookupFamily::All => DnsFamily::All,
    }
}

fn refresh_rate(context: &mut Context, rate: Option<PbDuration>) -> Duration {
    let rate = value::duration(context, "dns_refresh_rate", rate).unwrap_or(REFRESH_RATE);
    if rate <= REFRESH_RATE_MIN {
        context.reject("dns_refresh_rate", "must be greater than 1ms");
    }
    rate
}

/// The system's resolver is used; a resolver with servers of its own is refused.
pub(crate) fn resolver(context: &mut Context, config: TypedExtensionConfig) -> Option<()> {
    let TypedExtensionConfig {
        name: _,
        typed_config,
    } = config;
    let any = typed_config?;
    context.field("typed_config", |context| {
        if extension::holds::<CaresDnsResolverConfig>(&any) {
            let cares: CaresDnsResolverConfig = extension::unpack(context, &any)?;
            if !cares.resolvers.is_empty() {
                context.reject_unsupported("resolvers", "not supported");
            }
        }
        context.warn("", "the system's resolver is used");
        Some(())
    })
}

/// Reads what to resolve.
pub(crate) fn targets(
    context: &mut Context,
    assignment: ClusterLoadAssignment,
    settings: Settings,
) -> Option<Dns> {
    let mut targets = Vec::new();
    let policy = endpoint::visit(context, assignment, |context, place, members| {
        for (i, member) in members {
            targets.extend(endpoint::in_member(context, i, |context| {
                target(context, &place, member)
            }));
        }
    })?;
    if targets.is_empty() {
        context.reject("endpoints", "a DNS cluster needs a name to resolve");
    }
    let Settings {
        refresh_rate,
        family,
    } = settings;
    Some(Dns {
        targets,
        refresh_rate,
        family,
        policy,
    })
}

fn target(context: &mut Context, place: &Place, member: Member) -> Option<DnsTarget> {
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
    let (host, port) = match address::target(context, address)? {
        Target::Name(host, port) => (host, port),
        Target::Resolved(Address::Socket(address)) => {
            (address.ip().to_string().into(), address.port())
        }
        Target::Resolved(Address::Pipe(_)) => {
            return context.refuse("pipe", "is not for clusters of type STRICT_DNS");
        }
    };
    Some(DnsTarget {
        hostname: if hostname.is_empty() {
            host.clone()
        } else {
            hostname
        },
        host,
        port,
        locality: place.locality.clone(),
        priority: place.priority,
        locality_weight: place.weight,
        weight,
        health,
        locality_labels: place.labels.clone(),
        labels,
        hash_key,
        traits,
        check,
    })
}
