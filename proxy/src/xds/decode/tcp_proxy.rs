//! `TcpProxy`: where a stream goes, and for how long.

use std::sync::Arc;
use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3::BackoffStrategy;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::UpstreamConnectMode;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::TcpAccessLogOptions;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::WeightedCluster as PbWeighted;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;

use super::Context;
use super::access_log;
use super::added_tlv;
use super::hash_policy;
use super::subset;
use super::value;
use crate::config::limits;
use crate::config::subset::Criteria;
use crate::config::tcp_proxy::Backoff;
use crate::config::tcp_proxy::ConnectWhen;
use crate::config::tcp_proxy::LogTimes;
use crate::config::tcp_proxy::TcpProxy;
use crate::config::tcp_proxy::WeightedCluster;

/// Shortest `access_log_flush_interval`, as in Envoy.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Largest `max_early_data_bytes`, as in Envoy.
const EARLY_BYTES_MAX: u32 = 1024 * 1024;

/// Reads a TCP proxy.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
pub(crate) fn decode(context: &mut Context, proxy: pb::TcpProxy) -> Option<TcpProxy> {
    let pb::TcpProxy {
        stat_prefix,
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log,
        max_connect_attempts,
        backoff_options,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = proxy;
    unsupported!(context, reject: on_demand, tunneling_config);
    let added_tlvs = context.each(
        "proxy_protocol_tlvs",
        proxy_protocol_tlvs,
        added_tlv::decode,
    );
    let tlv_merge = added_tlv::merge(context, proxy_protocol_tlv_merge_policy);
    unsupported!(context, warn "has no effect, as in Envoy": downstream_idle_timeout, upstream_idle_timeout);
    let check_drain_close = value::is_true(check_drain_close);
    unsupported!(context, warn: check_drain_close);
    let mode = value::enumeration(context, "upstream_connect_mode", upstream_connect_mode)?;
    let early_bytes_max = value::number(
        context,
        "max_early_data_bytes",
        max_early_data_bytes,
        (0, EARLY_BYTES_MAX),
    );
    let connect_when = connect_when(context, mode, early_bytes_max)?;
    if stat_prefix.is_empty() {
        context.reject("stat_prefix", "must not be empty");
    }
    let criteria = subset::criteria(context, "metadata_match", metadata_match).map(Arc::new);
    let clusters = match cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            context.refuse("cluster", "must not be empty")
        }
        Some(ClusterSpecifier::Cluster(name)) => Some(vec![WeightedCluster {
            name: name.into(),
            weight: 1,
            criteria,
        }]),
        Some(ClusterSpecifier::WeightedClusters(clusters)) => context
            .field("weighted_clusters", |context| {
                weighted(context, clusters, criteria.as_ref())
            }),
        None => context.refuse("", "needs a cluster or weighted_clusters"),
    };
    let attempts = value::number(
        context,
        "max_connect_attempts",
        max_connect_attempts,
        (1, u32::MAX),
    );
    let access_logs = access_log::decode(context, "access_log", access_log);
    let old_interval = value::positive_duration(
        context,
        "access_log_flush_interval",
        access_log_flush_interval,
    );
    let options = context.optional("access_log_options", access_log_options, log_times);
    let log_times = options.unwrap_or(LogTimes {
        on_start: false,
        on_connected: flush_access_log_on_connected,
        interval: old_interval,
    });
    let idle_timeout = value::timeout(
        context,
        "idle_timeout",
        idle_timeout,
        Some(limits::CONNECTION_IDLE_TIMEOUT),
    );
    let max_duration = value::positive_duration(
        context,
        "max_downstream_connection_duration",
        max_downstream_connection_duration,
    );
    let jitter = context.optional(
        "max_downstream_connection_duration_jitter_percentage",
        max_downstream_connection_duration_jitter_percentage,
        value::share,
    );
    let backoff = context.optional("backoff_options", backoff_options, backoff);
    let hash_source = hash_policy::tcp(context, hash_policy);
    Some(TcpProxy {
        stat_prefix: stat_prefix.into(),
        clusters: clusters?,
        hash_source,
        idle_timeout,
        max_duration,
        max_duration_jitter: jitter.unwrap_or(0.0),
        connect_when,
        connect_attempts_max: attempts.unwrap_or(1),
        backoff,
        access_logs,
        log_times,
        added_tlvs,
        tlv_merge: tlv_merge?,
    })
}

/// Envoy connects before the handshake of the client's TLS unless it is told to wait; we always wait.
fn connect_when(
    context: &mut Context,
    mode: UpstreamConnectMode,
    early_bytes_max: Option<u32>,
) -> Option<ConnectWhen> {
    if mode == UpstreamConnectMode::Immediate {
        if early_bytes_max.is_some() {
            let reason = "has no effect with IMMEDIATE, what comes early stays in the socket";
            context.warn("max_early_data_bytes", reason);
        }
        return Some(ConnectWhen::Accepted);
    }
    let Some(most) = early_bytes_max else {
        return context.missing("max_early_data_bytes");
    };
    if mode == UpstreamConnectMode::OnDownstreamTlsHandshake {
        return Some(ConnectWhen::Accepted);
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    // At least one has to be read to know of it; one read takes no more than the buffer of a direction.
    Some(ConnectWhen::Data {
        early_bytes_max: most.clamp(1, limits::BUFFER_BYTES),
    })
}

fn weighted(
    context: &mut Context,
    clusters: PbWeighted,
    criteria: Option<&Arc<Criteria>>,
) -> Option<Vec<WeightedCluster>> {
    let PbWeighted { clusters } = clusters;
    let clusters = context.each("clusters", clusters, |context, cluster| {
        let ClusterWeight {
            name,
            weight,
            metadata_match,
        } = cluster;
        let own = subset::criteria(context, "metadata_match", metadata_match);
        if name.is_empty() {
            context.reject("name", "must not be empty");
        }
        if weight == 0 {
            context.reject("weight", "must be at least 1");
        }
        Some(WeightedCluster {
            name: name.into(),
            weight,
            criteria: Criteria::of_choice(criteria, own),
        })
    });
    let total: u64 = clusters
        .iter()
        .map(|cluster| u64::from(cluster.weight))
        .sum();
    if clusters.is_empty() {
        return context.refuse("clusters", "must not be empty");
    }
    if total > u64::from(u32::MAX) {
        return context.refuse("clusters", "the weights add up to too much");
    }
    Some(clusters)
}

fn log_times(context: &mut Context, options: TcpAccessLogOptions) -> Option<LogTimes> {
    let TcpAccessLogOptions {
        access_log_flush_interval,
        flush_access_log_on_connected,
        flush_access_log_on_start,
    } = options;
    let interval = value::positive_duration(
        context,
        "access_log_flush_interval",
        access_log_flush_interval,
    );
    Some(LogTimes {
        on_start: flush_access_log_on_start,
        on_connected: flush_access_log_on_connected,
        interval: interval.map(|interval| interval.max(FLUSH_INTERVAL_MIN)),
    })
}

fn backoff(context: &mut Context, strategy: BackoffStrategy) -> Option<Backoff> {
    let BackoffStrategy {
        base_interval,
        max_interval,
    } = strategy;
    if base_interval.is_none() {
        return context.missing("base_interval");
    }
    let base = value::positive_duration(context, "base_interval", base_interval)?;
    let max = value::positive_duration(context, "max_interval", max_interval);
    let max = max.unwrap_or_else(|| base.saturating_mul(10)); // Envoy's default
    if max < base {
        return context.refuse("max_interval", "must not be less than base_interval");
    }
    Some(Backoff { base, max })
}
