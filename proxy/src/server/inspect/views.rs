//! Live state in the words of the admin interface.

use std::time::Duration;
use std::time::SystemTime;

use tokio::time::Instant;
use xds_proto::pb::google::protobuf::Any;

use crate::admin::ClusterView;
use crate::admin::ConfigError;
use crate::admin::DepartingView;
use crate::admin::HostStats;
use crate::admin::HostView;
use crate::admin::LimitView;
use crate::admin::OutcomeView;
use crate::admin::ResourceState;
use crate::admin::ResourceView;
use crate::admin::ThresholdsView;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::Thresholds;
use crate::config::endpoint;
use crate::config::endpoint::Locality;
use crate::server::clock;
use crate::upstream::Breakers;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::UpstreamCluster;
use crate::upstream::breaker::Resource;
use crate::upstream::departure::Departing;
use crate::upstream::dropped::Dropped;
use crate::upstream::health::HostHealth;
use crate::xds::resource::ResourceType;
use crate::xds::store::ClientStatus;
use crate::xds::store::Stored;

pub(super) fn age(since: SystemTime) -> Duration {
    clock().duration_since(since).unwrap_or_default()
}

pub(super) fn stored_view(
    resource_type: ResourceType,
    name: &str,
    stored: &Stored,
) -> ResourceView {
    let good = stored.good.as_ref();
    ResourceView {
        name: name.to_owned(),
        state: if matches!(stored.status, ClientStatus::Acked | ClientStatus::Nacked)
            && good.is_some()
        {
            ResourceState::Active
        } else {
            ResourceState::Warming
        },
        version_info: good.map(|good| good.version.clone()).unwrap_or_default(),
        last_updated: good.map(|good| good.last_updated),
        resource: good.map(|good| Any {
            type_url: resource_type.type_url().to_owned(),
            value: good.body.to_vec(),
        }),
        error: stored.last_error.as_ref().map(|error| ConfigError {
            details: error.detail.clone(),
            last_update_attempt: Some(error.at),
            version_info: String::new(),
            failed_configuration: None,
        }),
    }
}

pub(super) fn departing(departing: &Departing) -> DepartingView {
    let left = departing.cut_at.saturating_duration_since(Instant::now());
    DepartingView {
        cluster: departing.cluster.to_string(),
        address: departing.host.address.clone(),
        cause: departing.cause,
        connections: departing.connections(),
        requests: departing.requests(),
        left,
    }
}

fn host_stats(host: &Host) -> HostStats {
    HostStats {
        cx_active: host.sum(|counts| &counts.cx_active),
        cx_connect_fail: host.sum(|counts| &counts.cx_connect_fail),
        cx_total: host.sum(|counts| &counts.cx_total),
        rq_active: host.sum(|counts| &counts.rq_active),
        rq_error: host.sum(|counts| &counts.rq_error),
        rq_pending_active: 0, // counted for the cluster
        rq_success: host.sum(|counts| &counts.rq_success),
        rq_timeout: host.sum(|counts| &counts.rq_timeout),
        rq_total: host.sum(|counts| &counts.rq_total),
    }
}

/// All limits, by priority.
fn limits(breakers: &Breakers) -> Vec<LimitView> {
    let of_priority = |priority: Priority| {
        Resource::ALL.into_iter().map(move |resource| LimitView {
            priority: priority.as_str(),
            resource: resource.as_str(),
            standing: breakers.standing(priority, resource),
        })
    };
    Priority::ALL.into_iter().flat_map(of_priority).collect()
}

/// What looks at outcomes: of the cluster, and of its members.
fn outcomes(current: &UpstreamCluster) -> Vec<OutcomeView> {
    let Some(outcomes) = &current.outcomes else {
        return Vec::new();
    };
    let now = outcomes.age(Instant::now());
    let of_cluster = OutcomeView {
        host: None,
        report: outcomes.report(now),
    };
    let of_members = current.hosts.members().iter().filter_map(|member| {
        let breaker = outcomes.of_host(&member.host)?;
        Some(OutcomeView {
            host: Some(member.host.label.clone()),
            report: breaker.report(now),
        })
    });
    std::iter::once(of_cluster).chain(of_members).collect()
}

fn thresholds(limits: &Thresholds) -> ThresholdsView {
    ThresholdsView {
        max_connections: limits.connections_max,
        max_pending_requests: limits.pending_max,
        max_requests: limits.requests_max,
        max_retries: limits.retries_max,
    }
}

pub(super) fn cluster_view(cluster: &ClusterHandle, added_via_api: bool) -> ClusterView {
    let current = cluster.load();
    let localities = current.serving.localities.iter();
    let places: Vec<&Locality> = localities
        .flat_map(|locality| locality.endpoints.iter().map(|_| &locality.locality))
        .collect();
    let hosts = current
        .hosts
        .members()
        .iter()
        .enumerate()
        .map(|(index, member)| HostView {
            address: member.host.address.clone(),
            hostname: member.host.hostname.to_string(),
            locality: places
                .get(index)
                .map(|place| (*place).clone())
                .unwrap_or_default(),
            priority: member.priority,
            weight: member.weight,
            standing: cluster.standing(&member.host),
            shadow: cluster.shadow_share(&member.host),
            health: member.health,
            flags: member.host.health_flags(),
            events: member
                .host
                .health()
                .map_or_else(Vec::new, HostHealth::events),
            success_rate: member.host.health().and_then(HostHealth::success_rate),
            is_canary: endpoint::is_canary(member.traits.as_deref()),
            stats: host_stats(&member.host),
        });
    ClusterView {
        name: cluster.name().to_string(),
        added_via_api,
        default_thresholds: thresholds(&current.config.circuit_breakers.default),
        high_thresholds: thresholds(&current.config.circuit_breakers.high),
        limits: limits(cluster.breakers()),
        outcomes: outcomes(&current),
        policy: current.config.load_balancing.policy.name(),
        shadow: cluster.shadow(),
        dropped: cluster.dropped().map_or_else(Vec::new, Dropped::all),
        hosts: hosts.collect(),
    }
}
