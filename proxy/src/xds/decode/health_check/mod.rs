//! `HealthCheck`: how members are asked, and how often; what a member says about it.
//!
//! | file | reads |
//! |---|---|
//! | `probe` | what is asked over HTTP, gRPC, TCP |
//! | `payload` | bytes that are sent and expected |
//! | `outlier` | `OutlierDetection` |

pub(super) mod outlier;
mod payload;
mod probe;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::HealthCheck as PbHealthCheck;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::config::core::v3::health_check::HealthChecker;
use xds_proto::pb::envoy::config::core::v3::health_check::TlsOptions;
use xds_proto::pb::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use xds_proto::pb::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use xds_proto::pb::google::protobuf::Duration as PbDuration;

use super::Context;
use super::address;
use super::extension;
use super::labels;
use super::tls;
use super::value;
use crate::config::endpoint::Address;
use crate::config::health::EndpointCheck;
use crate::config::health::EventLog;
use crate::config::health::HealthCheck;
use crate::config::health::Probe;
use crate::config::limits;

/// Envoy's default of `no_traffic_interval`.
const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

/// Reads the checks of a cluster, of which Envoy, too, allows only one. `cluster` is the authority they
/// are made with if nothing else is said.
pub(super) fn decode(
    context: &mut Context,
    checks: Vec<PbHealthCheck>,
    cluster: &str,
) -> Option<Arc<HealthCheck>> {
    if checks.len() > 1 {
        context.reject_unsupported("health_checks", "more than one check is not supported");
    }
    let mut read = context.each("health_checks", checks, |context, check| {
        self::check(context, check, cluster)
    });
    read.pop().map(Arc::new)
}

#[expect(clippy::too_many_lines, reason = "one field after another")]
fn check(context: &mut Context, check: PbHealthCheck, cluster: &str) -> Option<HealthCheck> {
    let PbHealthCheck {
        timeout,
        interval,
        initial_jitter,
        interval_jitter,
        interval_jitter_percent,
        unhealthy_threshold,
        healthy_threshold,
        alt_port,
        reuse_connection,
        no_traffic_interval,
        no_traffic_healthy_interval,
        unhealthy_interval,
        unhealthy_edge_interval,
        healthy_edge_interval,
        event_log_path,
        event_logger,
        event_service,
        always_log_health_check_failures,
        always_log_health_check_success,
        tls_options,
        transport_socket_match_criteria,
        health_checker,
    } = check;
    unsupported!(context, warn: event_service);
    let timeout = required(context, "timeout", timeout);
    let interval = required(context, "interval", interval);
    let unhealthy_threshold = threshold(context, "unhealthy_threshold", unhealthy_threshold);
    let healthy_threshold = threshold(context, "healthy_threshold", healthy_threshold);
    let port = alt_port.and_then(|port| value::port(context, "alt_port", port.value));
    let jitter = |context: &mut Context, field, jitter| {
        value::duration(context, field, jitter).unwrap_or_default()
    };
    let initial_jitter = jitter(context, "initial_jitter", initial_jitter);
    let interval_jitter = jitter(context, "interval_jitter", interval_jitter);
    let labels = context.optional(
        "transport_socket_match_criteria",
        transport_socket_match_criteria,
        labels::of_struct,
    );
    let alpn = context.optional("tls_options", tls_options, |context, options| {
        let TlsOptions { alpn_protocols } = options;
        Some(tls::alpn(context, alpn_protocols))
    });
    let log = EventLog {
        path: log_path(context, event_log_path, event_logger),
        all_failures: always_log_health_check_failures,
        all_successes: always_log_health_check_success,
    };
    let no_traffic = waits(context, "no_traffic_interval", no_traffic_interval);
    let no_traffic_healthy = waits(
        context,
        "no_traffic_healthy_interval",
        no_traffic_healthy_interval,
    );
    let unhealthy = waits(context, "unhealthy_interval", unhealthy_interval);
    let unhealthy_edge = waits(context, "unhealthy_edge_interval", unhealthy_edge_interval);
    let healthy_edge = waits(context, "healthy_edge_interval", healthy_edge_interval);
    let probe = probe(context, health_checker, cluster);
    let interval = interval?;
    let no_traffic_interval = no_traffic.unwrap_or(NO_TRAFFIC_INTERVAL);
    let unhealthy_interval = unhealthy.unwrap_or(interval);
    Some(HealthCheck {
        timeout: timeout?,
        interval,
        initial_jitter,
        interval_jitter,
        interval_jitter_percent,
        unhealthy_threshold: unhealthy_threshold?,
        healthy_threshold: healthy_threshold?,
        no_traffic_interval,
        no_traffic_healthy_interval: no_traffic_healthy.unwrap_or(no_traffic_interval),
        unhealthy_interval,
        unhealthy_edge_interval: unhealthy_edge.unwrap_or(unhealthy_interval),
        healthy_edge_interval: healthy_edge.unwrap_or(interval),
        reuses_connection: !value::is_false(reuse_connection),
        port,
        transport_labels: labels.map(Arc::new),
        alpn: alpn.map(|names| names.iter().map(|name| name.to_vec()).collect()),
        log,
        probe: probe?,
    })
}

fn required(context: &mut Context, field: &str, time: Option<PbDuration>) -> Option<Duration> {
    if time.is_none() {
        return context.missing(field);
    }
    waits(context, field, time)
}

/// A time to wait. Envoy counts milliseconds; less than one would be a busy loop.
fn waits(context: &mut Context, field: &str, time: Option<PbDuration>) -> Option<Duration> {
    let time = value::positive_duration(context, field, time)?;
    if time < limits::HEALTH_CHECK_TIME_MIN {
        return context.refuse(field, "must not be shorter than 1ms");
    }
    Some(time)
}

fn threshold(
    context: &mut Context,
    field: &str,
    value: Option<xds_proto::pb::google::protobuf::UInt32Value>,
) -> Option<u32> {
    match value {
        None => context.missing(field),
        Some(value) => Some(value.value),
    }
}

fn probe(context: &mut Context, checker: Option<HealthChecker>, cluster: &str) -> Option<Probe> {
    match checker {
        None => context.refuse("", "says neither http_health_check nor another check"),
        Some(HealthChecker::HttpHealthCheck(http)) => context
            .field("http_health_check", |context| {
                probe::http(context, http, cluster)
            })
            .map(Probe::Http),
        Some(HealthChecker::TcpHealthCheck(tcp)) => context
            .field("tcp_health_check", |context| probe::tcp(context, tcp))
            .map(Probe::Tcp),
        Some(HealthChecker::GrpcHealthCheck(grpc)) => context
            .field("grpc_health_check", |context| {
                probe::grpc(context, grpc, cluster)
            })
            .map(Probe::Grpc),
        Some(HealthChecker::CustomHealthCheck(custom)) => {
            let core::health_check::CustomHealthCheck { name, .. } = custom;
            context.unsupported("custom_health_check", format!("{name:?} is not supported"))
        }
    }
}

/// Where events are written: the deprecated field, or the one kind of sink.
fn log_path(
    context: &mut Context,
    path: String,
    loggers: Vec<TypedExtensionConfig>,
) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = context.each("event_logger", loggers, sink);
    if !path.is_empty() {
        paths.push(path.into());
    }
    if paths.len() > 1 {
        context.reject_unsupported("event_logger", "more than one sink is not supported");
    }
    paths.pop()
}

fn sink(context: &mut Context, logger: TypedExtensionConfig) -> Option<PathBuf> {
    let TypedExtensionConfig {
        name: _,
        typed_config,
    } = logger;
    context.required("typed_config", typed_config, |context, any| {
        if !extension::holds::<HealthCheckEventFileSink>(&any) {
            extension::unknown(context, &any, false);
            return None;
        }
        let sink: HealthCheckEventFileSink = extension::unpack(context, &any)?;
        if sink.event_log_path.is_empty() {
            return context.refuse("event_log_path", "must not be empty");
        }
        Some(sink.event_log_path.into())
    })
}

/// Reads what a member says; nothing if it is nothing.
pub(super) fn of_endpoint(
    context: &mut Context,
    config: HealthCheckConfig,
) -> Option<Arc<EndpointCheck>> {
    let HealthCheckConfig {
        port_value,
        hostname,
        address,
        disable_active_health_check,
    } = config;
    let port = match port_value {
        0 => None,
        port => value::port(context, "port_value", port),
    };
    let address = context.optional("address", address, address::connect);
    if port.is_some() && matches!(address, Some(Address::Pipe(_))) {
        context.reject("port_value", "stands beside the address of a pipe");
    }
    let read = EndpointCheck {
        address,
        port,
        hostname: hostname.into(),
        is_disabled: disable_active_health_check,
    };
    (read != EndpointCheck::default()).then(|| Arc::new(read))
}
