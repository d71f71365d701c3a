//! The groups of the data plane, under Envoy's names so that existing dashboards and alerts work.
//!
//! Only what Weir counts is declared: a name that would always be zero is not shown.

use std::sync::Arc;

use crate::telemetry::stats::Scope;
use crate::telemetry::stats::group::Declared;

stats! {
    /// Of one cluster.
    pub struct ClusterStats(ClusterCells) in "cluster" by "envoy_cluster_name" {
        counter upstream_cx_total: "Connections opened.";
        gauge upstream_cx_active: "Connections open.";
        counter upstream_cx_http1_total: "HTTP/1 connections opened.";
        counter upstream_cx_http2_total: "HTTP/2 connections opened.";
        counter upstream_cx_connect_fail: "Connections that could not be opened.";
        counter upstream_cx_connect_timeout: "Connections that could not be opened in time.";
        counter upstream_cx_connect_attempts_exceeded: "TCP streams for which no connection could be opened.";
        counter upstream_cx_overflow: "Times no connection could be opened because there were too many.";
        counter upstream_cx_rx_bytes_total: "Bytes of TCP streams and of upgraded connections received from hosts.";
        counter upstream_cx_tx_bytes_total: "Bytes of TCP streams and of upgraded connections sent to hosts.";
        counter upstream_cx_none_healthy: "Times no usable host was found.";
        counter upstream_cx_destroy: "Connections closed.";
        counter upstream_rq_total: "Requests sent.";
        gauge upstream_rq_active: "Requests in progress.";
        counter upstream_rq_active_overflow: "Requests not sent because there were too many.";
        counter upstream_rq_drop_overload: "Requests not sent because the control plane wanted them dropped.";
        counter upstream_rq_completed: "Requests that got a response.";
        codes upstream_rq: "Responses by status code.";
        counter upstream_rq_1xx: "Responses by class of status code.";
        counter upstream_rq_2xx: "Responses by class of status code.";
        counter upstream_rq_3xx: "Responses by class of status code.";
        counter upstream_rq_4xx: "Responses by class of status code.";
        counter upstream_rq_5xx: "Responses by class of status code.";
        gauge upstream_rq_pending_active: "Requests that wait for a connection.";
        counter upstream_rq_pending_total: "Requests that waited for a connection.";
        counter lb_healthy_panic: "Choices made among all members of a priority because too few are healthy.";
        counter lb_load_report: "Load reports of servers that were read.";
        counter lb_load_report_invalid: "Load reports that were ignored because nothing can be made of them.";
        counter upstream_rq_pending_overflow: "Requests not sent because too many waited for a connection.";
        counter upstream_rq_retry: "Retries made.";
        counter upstream_rq_retry_success: "Requests that a retry made good.";
        counter upstream_rq_breaker_open: "Requests refused because too many before were slow or failed.";
        counter upstream_rq_retry_overflow: "Retries not made because there were too many.";
        counter upstream_rq_retry_limit_exceeded: "Requests that failed for the last time they were allowed to.";
        counter upstream_rq_retry_backoff_exponential: "Retries after a wait by the policy.";
        counter upstream_rq_retry_backoff_ratelimited: "Retries after a wait the response asked for.";
        counter upstream_rq_hedge: "Attempts made beside one that was slower than most.";
        counter upstream_rq_per_try_timeout: "Attempts that took longer than one may.";
        counter upstream_rq_per_try_idle_timeout: "Attempts on which nothing moved for too long.";
        counter retry_or_shadow_abandoned: "Requests that could not be tried again because of their size.";
        codes retry_upstream_rq as "retry.upstream_rq": "Responses that were not good enough, by status code.";
        counter upstream_rq_timeout: "Requests that took longer than the route allows.";
        counter upstream_rq_rx_reset: "Requests reset by the upstream.";
        counter upstream_rq_tx_reset: "Requests reset by this side.";
        counter upstream_rq_drain_cut: "Requests and TCP streams ended because the drain time of their host was over.";
        histogram upstream_rq_time: "Time from request to end of response.";
        level membership_total: "Hosts.";
        level membership_healthy: "Hosts that are healthy.";
        level membership_degraded: "Hosts that are degraded.";
        level membership_excluded: "Hosts that do not count, as nobody knows them yet or they said so.";
        counter membership_change: "Changes of the set of hosts.";
        counter upstream_context_secrets_not_ready as "client_ssl_socket_factory.upstream_context_secrets_not_ready": "Connections not made because their TLS has not its secrets.";
    }
}

stats! {
    /// Of hosts that leave one cluster; there once one has left.
    pub struct DrainStats(DrainCells) in "cluster" by "envoy_cluster_name" {
        counter hosts_left as "drain.hosts_left": "Hosts that were removed or began to drain.";
        level hosts as "drain.hosts": "Hosts that have left and still have connections.";
        level connections as "drain.connections": "Connections to hosts that have left.";
        level requests as "drain.requests": "Requests in progress on hosts that have left.";
    }
}

stats! {
    /// Of the health checks of one cluster, among its other counters.
    pub struct HealthCheckStats(HealthCheckCells) in "health_check" {
        counter attempt as "health_check.attempt": "Health checks begun.";
        counter success as "health_check.success": "Health checks that went well.";
        counter failure as "health_check.failure": "Health checks that failed, and answers that say so.";
        counter network_failure as "health_check.network_failure": "Health checks that failed without an answer.";
        counter passive_failure as "health_check.passive_failure": "Answers to requests that say that their host is unfit.";
        level healthy as "health_check.healthy": "Hosts that are checked and fit.";
        level degraded as "health_check.degraded": "Hosts that are checked and say that they are degraded.";
    }
}

stats! {
    /// Of the outlier detection of one cluster, among its other counters.
    pub struct OutlierStats(OutlierCells) in "outlier_detection" {
        level ejections_active as "outlier_detection.ejections_active": "Hosts that are ejected.";
        counter ejections_enforced_total as "outlier_detection.ejections_enforced_total": "Ejections.";
        counter ejections_overflow as "outlier_detection.ejections_overflow": "Ejections that did not take place because too many hosts are ejected.";
        counter detected_5xx as "outlier_detection.ejections_detected_consecutive_5xx": "Hosts that answered with 5xx too often in a row.";
        counter detected_gateway as "outlier_detection.ejections_detected_consecutive_gateway_failure": "Hosts that answered with 502, 503, 504 too often in a row.";
        counter detected_local_origin as "outlier_detection.ejections_detected_consecutive_local_origin_failure": "Hosts that were not reached too often in a row.";
        counter detected_success_rate as "outlier_detection.ejections_detected_success_rate": "Hosts that were worse than the others.";
        counter detected_local_success_rate as "outlier_detection.ejections_detected_local_origin_success_rate": "Hosts that were reached less often than the others.";
        counter detected_failure_percentage as "outlier_detection.ejections_detected_failure_percentage": "Hosts that failed too often.";
        counter detected_local_failure_percentage as "outlier_detection.ejections_detected_local_origin_failure_percentage": "Hosts that were not reached too often.";
        counter detected_degradation as "outlier_detection.ejections_detected_degradation": "Hosts that said in an answer that they are degraded.";
        counter enforced_5xx as "outlier_detection.ejections_enforced_consecutive_5xx": "Ejections by reason.";
        counter enforced_gateway as "outlier_detection.ejections_enforced_consecutive_gateway_failure": "Ejections by reason.";
        counter enforced_local_origin as "outlier_detection.ejections_enforced_consecutive_local_origin_failure": "Ejections by reason.";
        counter enforced_success_rate as "outlier_detection.ejections_enforced_success_rate": "Ejections by reason.";
        counter enforced_local_success_rate as "outlier_detection.ejections_enforced_local_origin_success_rate": "Ejections by reason.";
        counter enforced_failure_percentage as "outlier_detection.ejections_enforced_failure_percentage": "Ejections by reason.";
        counter enforced_local_failure_percentage as "outlier_detection.ejections_enforced_local_origin_failure_percentage": "Ejections by reason.";
    }
}

stats! {
    /// Of all HTTP connection managers with one `stat_prefix`.
    pub struct HttpStats(HttpCells) in "http" by "envoy_http_conn_manager_prefix" {
        counter downstream_cx_total: "Connections accepted.";
        gauge downstream_cx_active: "Connections open.";
        counter downstream_cx_destroy: "Connections closed.";
        counter downstream_cx_drain_close: "Connections closed by draining.";
        counter downstream_cx_delayed_close_timeout: "Connections whose client did not close them in time after the last byte.";
        counter downstream_cx_http1_total: "HTTP/1 connections accepted.";
        gauge downstream_cx_http1_active: "HTTP/1 connections open.";
        counter downstream_cx_http2_total: "HTTP/2 connections accepted.";
        gauge downstream_cx_http2_active: "HTTP/2 connections open.";
        counter downstream_cx_idle_timeout: "Connections closed because nothing used them.";
        counter downstream_cx_max_duration_reached: "Connections closed at their longest duration.";
        counter downstream_cx_upgrades_total: "Requests that may go on as another protocol.";
        gauge downstream_cx_upgrades_active: "Those of them that have not ended.";
        counter downstream_rq_ws_on_non_ws_route: "Requests that may not go on as the protocol they ask for.";
        counter downstream_cx_max_requests_reached: "Connections closed after their last allowed request.";
        counter downstream_cx_overload_disable_keepalive: "Connections closed after an answer because of overload.";
        counter downstream_cx_protocol_error: "Connections on which the client broke the protocol.";
        counter downstream_cx_rx_bytes_total: "Bytes received from clients.";
        counter downstream_cx_tx_bytes_total: "Bytes sent to clients.";
        counter downstream_rq_total: "Requests received.";
        gauge downstream_rq_active: "Requests in progress.";
        counter downstream_rq_http1_total: "HTTP/1 requests received.";
        counter downstream_rq_http2_total: "HTTP/2 requests received.";
        counter downstream_rq_completed: "Requests answered.";
        counter downstream_rq_1xx: "Responses by class of status code.";
        counter downstream_rq_2xx: "Responses by class of status code.";
        counter downstream_rq_3xx: "Responses by class of status code.";
        counter downstream_rq_4xx: "Responses by class of status code.";
        counter downstream_rq_5xx: "Responses by class of status code.";
        flags downstream_rq_flag: "Exchanges by response flag.";
        counter downstream_rq_header_timeout: "Requests whose head did not come in time.";
        counter downstream_rq_idle_timeout: "Requests on which no byte moved for too long.";
        counter downstream_rq_max_duration_reached: "Requests that took longer, all in all, than they may.";
        counter downstream_rq_overload_close: "Requests refused because of overload.";
        counter rq_overload_local_reply: "Requests refused because of overload once they had a cluster.";
        counter downstream_rq_redirected_with_normalized_path: "Requests redirected to the canonical form of their path.";
        counter downstream_rq_rx_reset: "Requests reset by the client.";
        histogram downstream_rq_time: "Time from first byte of the request to end of the response.";
        counter no_route: "Requests that no route matched.";
        counter no_cluster: "Requests whose route names an unknown cluster.";
        counter rq_total: "Requests routed.";
        counter rq_direct_response: "Requests answered by a route.";
        counter rq_redirect: "Requests redirected by a route.";
        counter rq_reset_after_downstream_response_started: "Requests that failed after the response had begun.";
    }
}

stats! {
    /// Of one listener.
    pub struct ListenerStats(ListenerCells) in "listener" by "envoy_listener_address" {
        counter downstream_cx_total: "Connections accepted.";
        gauge downstream_cx_active: "Connections open.";
        counter downstream_cx_destroy: "Connections closed.";
        counter downstream_cx_overflow: "Connections refused by the listener's limit.";
        counter downstream_global_cx_overflow: "Connections refused by the limit of the process, or because few descriptors are left.";
        counter downstream_cx_overload_reject: "Connections refused because of overload.";
        gauge downstream_held_bytes: "Bytes held for clients: kept for another attempt, or not taken yet.";
        counter downstream_held_overflow: "Times a body was not kept because its connection, the listener or the process holds too much.";
        counter downstream_cx_accept_fail: "Attempts to accept that failed, for want of descriptors or memory.";
        gauge downstream_pre_cx_active: "Connections in listener filters.";
        counter downstream_pre_cx_timeout: "Connections on which listener filters took too long.";
        counter downstream_listener_filter_error: "Connections that a listener filter refused.";
        counter downstream_listener_filter_remote_close: "Connections that ended in listener filters.";
        counter no_filter_chain_match: "Connections that no filter chain matched.";
        counter downstream_cx_transport_socket_connect_timeout: "Connections whose TLS handshake took too long.";
        counter downstream_context_secrets_not_ready as "server_ssl_socket_factory.downstream_context_secrets_not_ready": "Connections closed because their TLS has not its secrets.";
    }
}

stats! {
    /// Of the TLS of one listener or cluster, among its other counters.
    pub struct TlsStats(TlsCells) in "ssl" {
        counter handshake as "ssl.handshake": "TLS handshakes made.";
        counter connection_error as "ssl.connection_error": "TLS handshakes that failed, but for certificates.";
        counter session_reused as "ssl.session_reused": "TLS handshakes that resumed a session.";
        counter no_certificate as "ssl.no_certificate": "TLS handshakes in which the peer showed no certificate.";
        counter fail_verify_no_cert as "ssl.fail_verify_no_cert": "TLS handshakes that failed because there was no certificate.";
        counter fail_verify_error as "ssl.fail_verify_error": "TLS handshakes that failed because of the certificate's chain.";
        counter fail_verify_san as "ssl.fail_verify_san": "TLS handshakes that failed because of the certificate's names.";
        counter fail_verify_cert_hash as "ssl.fail_verify_cert_hash": "TLS handshakes that failed because of the certificate's hash.";
        counter tls12 as "ssl.versions.TLSv1.2": "TLS handshakes by version.";
        counter tls13 as "ssl.versions.TLSv1.3": "TLS handshakes by version.";
        counter aes128 as "ssl.ciphers.TLS_AES_128_GCM_SHA256": "TLS handshakes by cipher suite.";
        counter aes256 as "ssl.ciphers.TLS_AES_256_GCM_SHA384": "TLS handshakes by cipher suite.";
        counter chacha20 as "ssl.ciphers.TLS_CHACHA20_POLY1305_SHA256": "TLS handshakes by cipher suite.";
        counter ecdsa_aes128 as "ssl.ciphers.ECDHE-ECDSA-AES128-GCM-SHA256": "TLS handshakes by cipher suite.";
        counter ecdsa_aes256 as "ssl.ciphers.ECDHE-ECDSA-AES256-GCM-SHA384": "TLS handshakes by cipher suite.";
        counter ecdsa_chacha20 as "ssl.ciphers.ECDHE-ECDSA-CHACHA20-POLY1305": "TLS handshakes by cipher suite.";
        counter rsa_aes128 as "ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256": "TLS handshakes by cipher suite.";
        counter rsa_aes256 as "ssl.ciphers.ECDHE-RSA-AES256-GCM-SHA384": "TLS handshakes by cipher suite.";
        counter rsa_chacha20 as "ssl.ciphers.ECDHE-RSA-CHACHA20-POLY1305": "TLS handshakes by cipher suite.";
        counter context_update_by_sds as "ssl.context_update_by_sds": "Times new secrets were taken in.";
        level connections_with_current_secrets as "ssl.connections_with_current_secrets": "Clients that came with the secrets of now.";
        level connections_with_older_secrets as "ssl.connections_with_older_secrets": "Clients that came with secrets of before.";
    }
}

stats! {
    /// Of one certificate in use, or of a bundle of roots.
    pub struct CertificateStats(CertificateCells) in "ssl.certificate" by "envoy_ssl_certificate" {
        level expiration_unix_time_seconds: "When it expires, in seconds since 1970.";
        level seconds_to_expiration: "Seconds until it expires.";
        level is_expiring: "1 when it expires soon, or has expired.";
    }
}

stats! {
    /// Of all TLS inspectors.
    pub struct TlsInspectorStats(TlsInspectorCells) in "tls_inspector" {
        counter tls_found: "Connections that begin with a ClientHello.";
        counter tls_not_found: "Connections that do not.";
        counter client_hello_too_big: "Connections closed for the size of their ClientHello.";
        counter sni_found: "ClientHellos with a server name.";
        counter sni_not_found: "ClientHellos without.";
        counter alpn_found: "ClientHellos with application protocols.";
        counter alpn_not_found: "ClientHellos without.";
    }
}

stats! {
    /// Of all HTTP inspectors.
    pub struct HttpInspectorStats(HttpInspectorCells) in "http_inspector" {
        counter http10_found: "Connections that begin with an HTTP/1.0 request.";
        counter http11_found: "Connections that begin with an HTTP/1.1 request.";
        counter http2_found: "Connections that begin with the HTTP/2 preface.";
        counter http_not_found: "Connections that begin with something else.";
    }
}

stats! {
    /// Of all PROXY protocol listener filters.
    pub struct ProxyProtocolStats(ProxyProtocolCells) in "proxy_proto" {
        counter not_found_allowed: "Connections without a header, where none is needed.";
        counter not_found_disallowed: "Connections refused because they have no header.";
        counter v1_found as "versions.v1.found": "Headers of version 1.";
        counter v1_disallowed as "versions.v1.disallowed": "Connections refused because version 1 is not allowed.";
        counter v1_error as "versions.v1.error": "Connections refused for a broken header of version 1.";
        counter v2_found as "versions.v2.found": "Headers of version 2.";
        counter v2_disallowed as "versions.v2.disallowed": "Connections refused because version 2 is not allowed.";
        counter v2_error as "versions.v2.error": "Connections refused for a broken header of version 2.";
    }
}

stats! {
    /// Of all connection limits with one `stat_prefix`.
    pub struct ConnectionLimitStats(ConnectionLimitCells) in "connection_limit" by "envoy_connection_limit_prefix" {
        gauge active_connections: "Connections open.";
        counter limited_connections: "Connections refused.";
    }
}

stats! {
    /// Of all TCP proxies with one `stat_prefix`.
    pub struct TcpStats(TcpCells) in "tcp" by "envoy_tcp_prefix" {
        counter downstream_cx_total: "Connections handled.";
        gauge downstream_cx_active: "Connections open.";
        counter downstream_cx_no_route: "Connections without a cluster to go to.";
        counter downstream_cx_rx_bytes_total: "Bytes received from clients.";
        counter downstream_cx_tx_bytes_total: "Bytes sent to clients.";
        counter idle_timeout: "Connections closed because no byte moved.";
        counter max_downstream_connection_duration: "Connections closed at their longest duration.";
        counter spliced_bytes_total: "Bytes, both ways, that never came to user space.";
        counter copied_bytes_total: "Bytes, both ways, that did.";
    }
}

stats! {
    /// Of the set of listeners.
    pub struct ListenerManagerStats(ListenerManagerCells) in "listener_manager" {
        counter listener_added: "Listeners added.";
        counter listener_modified: "Listeners changed.";
        counter listener_removed: "Listeners removed.";
        counter listener_create_success: "Listeners bound.";
        counter listener_create_failure: "Listeners that could not be bound.";
        counter listener_in_place_updated: "Listeners changed without closing their socket.";
        level total_listeners_active: "Listeners accepting.";
    }
}

stats! {
    /// Of the set of clusters.
    pub struct ClusterManagerStats(ClusterManagerCells) in "cluster_manager" {
        counter cluster_added: "Clusters added.";
        counter cluster_removed: "Clusters removed.";
        counter cluster_updated: "Updates of members.";
        level active_clusters: "Clusters in use.";
    }
}

stats! {
    /// Of the stream to the control plane.
    pub struct ControlPlaneStats(ControlPlaneCells) in "control_plane" {
        level connected_state: "1 while connected.";
        level stale_seconds: "Seconds since a control plane has last confirmed what is in force; 0 while one does.";
        level serving_kept_config: "1 while what is in force was read from disk.";
        counter config_saved: "Times the configuration was written to disk.";
        counter config_save_failed: "Times it could not be written.";
    }
}

stats! {
    /// Of one resource type that comes from the control plane; the scope is the caller's.
    pub struct SubscriptionStats(SubscriptionCells) in "xds" {
        counter update_attempt: "Requests sent.";
        counter update_success: "Responses acknowledged.";
        counter update_failure: "Streams that failed.";
        counter update_rejected: "Responses refused.";
        counter init_fetch_timeout: "Times the first response did not come in time.";
        level update_time: "Time of the last change, in milliseconds since 1970.";
        level version: "Hash of the version in force.";
    }
}

stats! {
    /// Of the access log writer.
    pub struct AccessLogStats(AccessLogCells) in "access_log" {
        counter entries_total: "Entries written by the data path.";
        counter entries_dropped: "Entries lost because the writer was behind.";
        counter bytes_written: "Bytes written to sinks.";
        counter write_failed: "Writes that a sink refused.";
        counter reopen_failed: "Sinks that could not be opened again.";
    }
}

stats! {
    /// Of one action of the overload manager.
    pub struct OverloadActionStats(OverloadActionCells) in "overload" by "envoy_overload_action" {
        level active: "1 while it is taken in full force.";
        level scale_percent: "How strongly it is taken.";
        counter count: "Streams reset by it.";
    }
}

stats! {
    /// Of one place where load is shed.
    pub struct ShedPointStats(ShedPointCells) in "overload" by "envoy_load_shed_point" {
        level scale_percent: "How strongly it is shed.";
        counter shed_load_count: "Times it was shed.";
    }
}

stats! {
    /// Of one resource the overload manager looks at.
    pub struct OverloadResourceStats(OverloadResourceCells) in "overload" by "envoy_overload_resource" {
        level pressure: "How much of it is used, in percent.";
        counter failed_updates: "Times it could not be looked at.";
    }
}

stats! {
    /// Of the process.
    pub struct ServerStats(ServerCells) in "server" {
        level uptime: "Seconds since the start.";
        level live: "1 while ready for traffic.";
        level state: "0 live, 1 draining, 2 pre-initializing, 3 initializing.";
        level concurrency: "Workers.";
        level config_last_reload_successful: "1 unless the bootstrap was refused when it was read again.";
        level held_bytes: "Bytes held for clients: kept for another attempt, or not taken yet.";
        counter watchdog_miss: "Times a worker was silent for three seconds.";
        counter watchdog_mega_miss: "Times a worker was silent for ten seconds.";
        level version: "Version: major * 65536 + minor * 256 + patch.";
        level memory_physical_size: "Resident memory in bytes.";
        level memory_allocated: "Memory in use in bytes.";
        level memory_heap_size: "Memory reserved in bytes.";
    }
}

/// What listener filters count; one of each for all listeners.
#[derive(Clone, Debug)]
pub struct InspectorStats {
    /// The HTTP inspectors'.
    pub http: Arc<HttpInspectorStats>,
    /// The PROXY protocol filters'.
    pub proxy_protocol: Arc<ProxyProtocolStats>,
    /// The TLS inspectors'.
    pub tls: Arc<TlsInspectorStats>,
}

impl ClusterStats {
    /// Where names of clusters live, for what else is told of them.
    #[must_use]
    pub fn scope() -> Scope {
        Self::SCOPE
    }

    /// Counts a response: by code, by class, and as completed.
    #[inline]
    pub fn record_response(&self, code: u16) {
        self.upstream_rq_completed().inc();
        self.upstream_rq().record(code);
        let class = match code / 100 {
            1 => self.upstream_rq_1xx(),
            2 => self.upstream_rq_2xx(),
            3 => self.upstream_rq_3xx(),
            4 => self.upstream_rq_4xx(),
            _ => self.upstream_rq_5xx(),
        };
        class.inc();
    }
}

impl HttpStats {
    /// Counts a response: by class, and as completed.
    #[inline]
    pub fn record_response(&self, code: u16) {
        self.downstream_rq_completed().inc();
        let class = match code / 100 {
            1 => self.downstream_rq_1xx(),
            2 => self.downstream_rq_2xx(),
            3 => self.downstream_rq_3xx(),
            4 => self.downstream_rq_4xx(),
            _ => self.downstream_rq_5xx(),
        };
        class.inc();
    }
}
