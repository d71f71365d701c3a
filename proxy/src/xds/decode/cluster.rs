//! `Cluster`: what it is called, where its members come from, how they are spoken to.

use std::sync::Arc;

use xds_proto::pb::envoy::config::cluster::v3 as pb;
use xds_proto::pb::envoy::config::cluster::v3::OutlierDetection;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::CustomClusterType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use xds_proto::pb::envoy::config::core::v3::HealthCheck;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;

use super::Context;
use super::circuit_breakers;
use super::cluster_dns;
use super::cluster_http;
use super::config_source;
use super::endpoint;
use super::extension;
use super::health_check;
use super::labels;
use super::load_balancing;
use super::outcome_breaker;
use super::transport_socket;
use super::value;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::cluster::Discovery;
use crate::config::cluster::TransportMatch;
use crate::config::cluster::UpstreamProtocol;
use crate::config::cluster::UpstreamTransport;
use crate::config::health::Health;
use crate::config::limits;

/// Reads a cluster.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
pub(crate) fn decode(context: &mut Context, cluster: pb::Cluster) -> Option<Cluster> {
    let pb::Cluster {
        transport_socket_matches,
        transport_socket_matcher,
        name,
        alt_stat_name,
        stats_matcher,
        eds_cluster_config,
        connect_timeout,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        lb_policy,
        load_assignment,
        health_checks,
        max_requests_per_connection,
        circuit_breakers,
        upstream_http_protocol_options,
        common_http_protocol_options,
        http_protocol_options,
        http2_protocol_options,
        typed_extension_protocol_options,
        dns_refresh_rate,
        dns_jitter,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_lookup_family,
        dns_resolvers,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        wait_for_warm_on_init,
        outlier_detection,
        cleanup_interval,
        upstream_bind_config,
        lb_subset_config,
        mut common_lb_config,
        transport_socket,
        metadata,
        protocol_selection,
        upstream_connection_options,
        close_connections_on_host_health_failure,
        ignore_health_on_host_removal: _, // they go at once, whatever their health
        filters,
        load_balancing_policy,
        lrs_server,
        lrs_report_endpoint_metrics,
        track_timeout_budgets,
        upstream_config,
        track_cluster_stats,
        preconnect_policy,
        connection_pool_per_downstream_connection,
        queuing_policies,
        cluster_discovery_type,
        lb_config,
    } = cluster;
    // Tuning and observation.
    unsupported!(context, warn: stats_matcher,
        per_connection_buffer_high_watermark_timeout, cleanup_interval, upstream_connection_options, lrs_server,
        lrs_report_endpoint_metrics, track_timeout_budgets, track_cluster_stats, preconnect_policy,
        queuing_policies);
    let wait_for_warm_on_init = value::is_false(wait_for_warm_on_init);
    unsupported!(context, warn "clusters always warm first": wait_for_warm_on_init);
    // Where connections go, what they look like from there, and who may share one.
    unsupported!(context, reject: transport_socket_matcher, upstream_bind_config, upstream_config,
        connection_pool_per_downstream_connection);
    let transport = match transport_socket {
        None => Some(UpstreamTransport::default()),
        Some(socket) => context.field("transport_socket", |context| {
            transport_socket::upstream(context, socket)
        }),
    };
    let transport_matches = context.each(
        "transport_socket_matches",
        transport_socket_matches,
        transport_match,
    );
    network_filters(context, filters);
    let mut health = Health {
        closes_streams: close_connections_on_host_health_failure,
        ..health(
            context,
            &name,
            (health_checks, outlier_detection),
            common_lb_config.as_mut(),
        )
    };
    if health.closes_streams && health.check.is_none() && health.outlier.is_none() {
        context.warn(
            "close_connections_on_host_health_failure",
            "has no effect without health_checks or outlier_detection",
        );
    }

    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let outcome_breaker = context.optional("metadata", metadata, |context, metadata| {
        outcome_breaker::of_metadata(context, metadata, &name)
    });
    let circuit_breakers = circuit_breakers::decode(context, circuit_breakers);
    let connect_timeout = value::positive_duration(context, "connect_timeout", connect_timeout)
        .unwrap_or(limits::CONNECT_TIMEOUT);
    let goes_where_wanted = matches!(
        cluster_discovery_type,
        Some(ClusterDiscoveryType::Type(kind)) if kind == DiscoveryType::OriginalDst as i32
    );
    let sources = load_balancing::Sources {
        lb_policy,
        policy: load_balancing_policy,
        lb_config,
        common: common_lb_config,
        subsets: lb_subset_config,
    };
    let load_balancing = if goes_where_wanted {
        load_balancing::decode_original(context, sources)
    } else {
        load_balancing::decode(context, sources)
    };
    let has_tls = transport.is_none()
        || transport.iter().any(|transport| transport.tls.is_some())
        || (transport_matches.iter()).any(|candidate| candidate.transport.tls.is_some());
    if !has_tls && (health.check.iter()).any(|check| check.alpn.is_some()) {
        context.warn("health_checks[0].tls_options", "has no effect without TLS");
    }
    let http = cluster_http::decode(
        context,
        cluster_http::Sources {
            has_tls,
            typed: typed_extension_protocol_options,
            upstream: upstream_http_protocol_options,
            common: common_http_protocol_options,
            http1: http_protocol_options,
            http2: http2_protocol_options,
            protocol_selection,
            max_requests_per_connection,
        },
    );
    let legacy = cluster_dns::Legacy {
        refresh_rate: dns_refresh_rate,
        jitter: dns_jitter,
        failure_refresh_rate: dns_failure_refresh_rate,
        respect_ttl: respect_dns_ttl,
        lookup_family: dns_lookup_family,
        resolvers: dns_resolvers,
        use_tcp: use_tcp_for_dns_lookups,
        resolution: dns_resolution_config,
        typed_resolver: typed_dns_resolver_config,
    };
    let dns = cluster_dns::legacy(context, legacy);
    let source = source(context, cluster_discovery_type, dns);
    let discovery = source
        .and_then(|source| discovery(context, source, &name, eds_cluster_config, load_assignment));

    let name: Name = name.into();
    let stat_name = if alt_stat_name.is_empty() {
        name.clone()
    } else {
        alt_stat_name.into()
    };
    let mut http = http?;
    let errors = http.errors.take();
    match health.outlier.as_mut().map(Arc::make_mut) {
        Some(outlier) => outlier.errors = errors,
        None if errors.is_some() => {
            let reason = "error_matcher has no effect without outlier_detection";
            context.warn("typed_extension_protocol_options", reason);
        }
        None => {}
    }
    let transport = transport?;
    let announces = transport.proxy_protocol.is_some()
        || (transport_matches.iter()).any(|candidate| candidate.transport.proxy_protocol.is_some());
    if announces && http.protocol != UpstreamProtocol::Http1 {
        context.reject_unsupported(
            "transport_socket",
            "a PROXY protocol header before HTTP/2 is not supported, its connections are shared",
        );
    }
    Some(Cluster {
        name,
        stat_name,
        discovery: discovery?,
        transport,
        transport_matches,
        connect_timeout,
        circuit_breakers,
        outcome_breaker: outcome_breaker.map(Arc::new),
        load_balancing: load_balancing?,
        protocol: http.protocol,
        auto_names: http.auto_names,
        idle_timeout: http.common.idle_timeout(),
        max_connection_duration: http.common.max_connection_duration,
        max_requests_per_connection: http.common.max_requests_per_connection,
        http2: http.http2,
        health,
        buffer_bytes: value::buffer_limit(per_connection_buffer_limit_bytes),
    })
}

/// What is done about unfit members. One that is new counts among those of the policy in Envoy's file,
/// but is nothing a policy could know.
fn health(
    context: &mut Context,
    cluster: &str,
    (checks, outlier): (Vec<HealthCheck>, Option<OutlierDetection>),
    common: Option<&mut CommonLbConfig>,
) -> Health {
    let check = health_check::decode(context, checks, cluster);
    let outlier = context.optional("outlier_detection", outlier, health_check::outlier::decode);
    let excludes_unchecked =
        common.is_some_and(|common| std::mem::take(&mut common.ignore_new_hosts_until_first_hc));
    if excludes_unchecked && check.is_none() {
        context.field("common_lb_config", |context| {
            context.warn(
                "ignore_new_hosts_until_first_hc",
                "has no effect without health_checks",
            );
        });
    }
    Health {
        check,
        outlier: outlier.map(Arc::new),
        excludes_unchecked,
        closes_streams: false,
    }
}

fn transport_match(
    context: &mut Context,
    candidate: TransportSocketMatch,
) -> Option<TransportMatch> {
    let TransportSocketMatch {
        name,
        r#match,
        transport_socket,
    } = candidate;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let labels = context.field("match", |context| {
        labels::of_struct(context, r#match.unwrap_or_default())
    });
    let transport = match transport_socket {
        None => Some(UpstreamTransport::default()),
        Some(socket) => context.field("transport_socket", |context| {
            transport_socket::upstream(context, socket)
        }),
    };
    Some(TransportMatch {
        labels: labels?,
        transport: transport?,
    })
}

/// Where members come from, before they are looked at.
enum Source {
    Dns(cluster_dns::Settings),
    Eds,
    OriginalDst,
    Static,
}

fn source(
    context: &mut Context,
    kind: Option<ClusterDiscoveryType>,
    legacy: Option<cluster_dns::Settings>,
) -> Option<Source> {
    let kind = match kind {
        // proto3: an absent type is STATIC, its zero value.
        None => return Some(Source::Static),
        Some(ClusterDiscoveryType::Type(kind)) => kind,
        Some(ClusterDiscoveryType::ClusterType(kind)) => {
            return context.field("cluster_type", |context| custom_source(context, kind));
        }
    };
    match value::enumeration(context, "type", kind)? {
        DiscoveryType::Static => Some(Source::Static),
        DiscoveryType::StrictDns => legacy.map(Source::Dns),
        DiscoveryType::LogicalDns => {
            context.warn("type", "LOGICAL_DNS is treated as STRICT_DNS");
            legacy.map(Source::Dns)
        }
        DiscoveryType::Eds => Some(Source::Eds),
        DiscoveryType::OriginalDst => Some(Source::OriginalDst),
    }
}

fn custom_source(context: &mut Context, kind: CustomClusterType) -> Option<Source> {
    let CustomClusterType { name, typed_config } = kind;
    match typed_config {
        Some(any) if extension::holds::<DnsCluster>(&any) => context
            .field("typed_config", |context| {
                cluster_dns::extension(context, &any)
            })
            .map(Source::Dns),
        Some(any) => {
            let kind = extension::type_name(&any);
            context.unsupported("typed_config", format!("{kind} is not supported"))
        }
        None => context.unsupported("name", format!("{name:?} is not supported")),
    }
}

fn discovery(
    context: &mut Context,
    source: Source,
    name: &str,
    eds: Option<EdsClusterConfig>,
    assignment: Option<ClusterLoadAssignment>,
) -> Option<Discovery> {
    if let Source::Eds = source {
        if assignment.is_some() {
            context.warn("load_assignment", "has no effect, the members come by EDS");
        }
        return context
            .required("eds_cluster_config", eds, |context, eds| {
                eds_name(context, eds, name)
            })
            .map(|service_name| Discovery::Eds { service_name });
    }
    if eds.is_some() {
        context.reject("eds_cluster_config", "the cluster is not of type EDS");
    }
    if let Source::OriginalDst = source {
        if assignment.is_some() {
            context.reject("load_assignment", "has no place in an ORIGINAL_DST cluster");
        }
        return Some(Discovery::OriginalDst);
    }
    // A cluster without members is legal: every request to it fails.
    let Some(assignment) = assignment else {
        return match source {
            Source::Dns(_) => context.missing("load_assignment"),
            Source::Eds | Source::OriginalDst | Source::Static => {
                Some(Discovery::Static(Arc::default()))
            }
        };
    };
    context.field("load_assignment", |context| match source {
        Source::Dns(settings) => {
            cluster_dns::targets(context, assignment, settings).map(Discovery::StrictDns)
        }
        Source::Eds | Source::OriginalDst | Source::Static => endpoint::decode(context, assignment)
            .map(Arc::new)
            .map(Discovery::Static),
    })
}

fn eds_name(context: &mut Context, eds: EdsClusterConfig, name: &str) -> Option<Name> {
    let EdsClusterConfig {
        eds_config,
        service_name,
    } = eds;
    context.required("eds_config", eds_config, config_source::aggregated)?;
    Some(if service_name.is_empty() {
        name.into()
    } else {
        service_name.into()
    })
}

/// Filters on upstream connections: only those that observe can be left out.
fn network_filters(context: &mut Context, filters: Vec<pb::Filter>) {
    context.each("filters", filters, |context, filter| {
        let pb::Filter {
            name,
            typed_config,
            config_discovery,
        } = filter;
        unsupported!(context, reject: config_discovery);
        match typed_config {
            Some(any) => {
                context.field("typed_config", |context| {
                    extension::unknown(context, &any, false);
                });
            }
            None => context.reject_unsupported("name", format!("{name:?} is not supported")),
        }
        Some(())
    });
}
