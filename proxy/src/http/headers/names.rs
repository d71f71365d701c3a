//! Header names that `http` has no constant for.

use http::HeaderName;

pub(super) static FORWARDED_CLIENT_CERT: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert");
pub(super) static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
pub(super) static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) static X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(super) static X_ENVOY_EXTERNAL_ADDRESS: HeaderName =
    HeaderName::from_static("x-envoy-external-address");
pub(super) static X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
pub(super) static X_ENVOY_ORIGINAL_HOST: HeaderName =
    HeaderName::from_static("x-envoy-original-host");
pub(super) static X_ENVOY_ORIGINAL_PATH: HeaderName =
    HeaderName::from_static("x-envoy-original-path");
pub(super) static X_ENVOY_DROP_OVERLOAD: HeaderName =
    HeaderName::from_static("x-envoy-drop-overload");
pub(super) static X_ENVOY_UNCONDITIONAL_DROP_OVERLOAD: HeaderName =
    HeaderName::from_static("x-envoy-unconditional-drop-overload");
pub(super) static X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
pub(super) static X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");
pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(in crate::http) static X_FORWARDED_PROTO: HeaderName =
    HeaderName::from_static("x-forwarded-proto");
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What only the inside may send; taken from every external request (Envoy's list).
pub(super) static INTERNAL_ONLY: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
];

/// What the first proxy of a trusted network also takes from a client (Envoy's edge request).
pub(super) static EDGE_ONLY: [HeaderName; 5] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-host"),
    HeaderName::from_static("x-envoy-original-path"),
];
