//! Type URLs, and the nine resource types of xDS.
//!
//! The constants are the URLs Weir compares with; tests hold each against the message it names.

use std::fmt;

/// What stands before the message's name in every URL written here.
pub const PREFIX: &str = "type.googleapis.com/";

/// The full name of the message a type URL names: what follows the last slash.
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Names each constant after its message.
macro_rules! type_urls {
    ($($constant:ident = $message:literal;)+) => {
        $(
            #[doc = concat!("`", $message, "`.")]
            pub const $constant: &str = concat!("type.googleapis.com/", $message);
        )+

        /// All constants, for tests and suggestions.
        #[cfg(test)]
        const ALL: &[&str] = &[$($constant),+];
    };
}

type_urls! {
    BASIC_AUTH = "envoy.extensions.filters.http.basic_auth.v3.BasicAuth";
    BASIC_AUTH_PER_ROUTE = "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute";
    BROTLI_COMPRESSOR = "envoy.extensions.compression.brotli.compressor.v3.Brotli";
    BUFFER = "envoy.extensions.filters.http.buffer.v3.Buffer";
    BUFFER_PER_ROUTE = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";
    CLIENT_SIDE_WEIGHTED_ROUND_ROBIN = "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
    CLUSTER = "envoy.config.cluster.v3.Cluster";
    CLUSTER_LOAD_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment";
    CLUSTER_PROVIDED = "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided";
    COMPRESSOR = "envoy.extensions.filters.http.compressor.v3.Compressor";
    COMPRESSOR_PER_ROUTE = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute";
    CORS = "envoy.extensions.filters.http.cors.v3.Cors";
    CORS_POLICY = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
    CREDENTIAL_INJECTOR = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector";
    CSRF_POLICY = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy";
    CUSTOM_RESPONSE = "envoy.extensions.filters.http.custom_response.v3.CustomResponse";
    DECOMPRESSOR = "envoy.extensions.filters.http.decompressor.v3.Decompressor";
    DIRECT_RESPONSE = "envoy.extensions.filters.network.direct_response.v3.Config";
    DNS_CLUSTER = "envoy.extensions.clusters.dns.v3.DnsCluster";
    DOWNSTREAM_TLS_CONTEXT = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    ECHO = "envoy.extensions.filters.network.echo.v3.Echo";
    EXTENSION_CONFIG = "envoy.config.core.v3.TypedExtensionConfig";
    EXT_AUTHZ = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
    EXT_AUTHZ_PER_ROUTE = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";
    EXT_PROC = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor";
    FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    FILE_ACCESS_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
    FILTER_CONFIG = "envoy.config.route.v3.FilterConfig";
    GRPC_STATS = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
    GRPC_WEB = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
    GZIP_COMPRESSOR = "envoy.extensions.compression.gzip.compressor.v3.Gzip";
    HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    HEADER_MUTATION = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    HEADER_MUTATION_PER_ROUTE = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";
    HEALTH_CHECK = "envoy.extensions.filters.http.health_check.v3.HealthCheck";
    HTTP_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    HTTP_GRPC_ACCESS_LOG = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig";
    HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
    HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    HTTP_RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC";
    HTTP_RBAC_PER_ROUTE = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
    INTERNAL_UPSTREAM_TRANSPORT = "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport";
    JWT_AUTHN = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
    JWT_AUTHN_PER_ROUTE = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig";
    LEAST_REQUEST = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    LISTENER = "envoy.config.listener.v3.Listener";
    LOCAL_RATE_LIMIT = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
    LUA = "envoy.extensions.filters.http.lua.v3.Lua";
    LUA_PER_ROUTE = "envoy.extensions.filters.http.lua.v3.LuaPerRoute";
    MAGLEV = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev";
    NETWORK_EXT_AUTHZ = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz";
    NETWORK_LOCAL_RATE_LIMIT = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";
    NETWORK_RBAC = "envoy.extensions.filters.network.rbac.v3.RBAC";
    OAUTH2 = "envoy.extensions.filters.http.oauth2.v3.OAuth2";
    OPEN_TELEMETRY_ACCESS_LOG = "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig";
    OPEN_TELEMETRY_TRACER = "envoy.config.trace.v3.OpenTelemetryConfig";
    ORIGINAL_DST = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    ORIGINAL_SRC = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc";
    PICK_FIRST = "envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst";
    PRESERVE_CASE = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";
    PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    PREVIOUS_PRIORITIES = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
    PROXY_PROTOCOL = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
    PROXY_PROTOCOL_UPSTREAM_TRANSPORT = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    QUIC_DOWNSTREAM_TRANSPORT = "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";
    QUIC_UPSTREAM_TRANSPORT = "envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport";
    RANDOM = "envoy.extensions.load_balancing_policies.random.v3.Random";
    RATE_LIMIT = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
    RATE_LIMIT_PER_ROUTE = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";
    RAW_BUFFER = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    RING_HASH = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash";
    ROUND_ROBIN = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
    ROUTER = "envoy.extensions.filters.http.router.v3.Router";
    ROUTE_CONFIGURATION = "envoy.config.route.v3.RouteConfiguration";
    RUNTIME = "envoy.service.runtime.v3.Runtime";
    SCOPED_ROUTE_CONFIGURATION = "envoy.config.route.v3.ScopedRouteConfiguration";
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret";
    SET_FILTER_STATE = "envoy.extensions.filters.http.set_filter_state.v3.Config";
    STATEFUL_SESSION = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
    STDERR_ACCESS_LOG = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
    STDOUT_ACCESS_LOG = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
    TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    TYPED_STRUCT = "xds.type.v3.TypedStruct";
    UDPA_TYPED_STRUCT = "udpa.type.v1.TypedStruct";
    UDP_PROXY = "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig";
    UPSTREAM_CODEC = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
    UPSTREAM_TLS_CONTEXT = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    URI_TEMPLATE_MATCH = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
    URI_TEMPLATE_REWRITE = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig";
    UUID_REQUEST_ID = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";
    VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost";
    WASM = "envoy.extensions.filters.http.wasm.v3.Wasm";
    WRR_LOCALITY = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality";
    ZIPKIN_TRACER = "envoy.config.trace.v3.ZipkinConfig";
    ZSTD_COMPRESSOR = "envoy.extensions.compression.zstd.compressor.v3.Zstd";
}

/// The resource types a client can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// ECDS.
    ExtensionConfig,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// RTDS.
    Runtime,
    /// SRDS.
    ScopedRoute,
    /// SDS.
    Secret,
    /// VHDS.
    VirtualHost,
}

impl ResourceType {
    /// Every type, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::Cluster,
        Self::Endpoints,
        Self::ExtensionConfig,
        Self::Listener,
        Self::Route,
        Self::Runtime,
        Self::ScopedRoute,
        Self::Secret,
        Self::VirtualHost,
    ];

    /// The type a URL names, whatever stands before its last slash.
    pub fn from_url(type_url: &str) -> Option<Self> {
        let name = message_name(type_url);
        Self::ALL
            .into_iter()
            .find(|kind| message_name(kind.url()) == name)
    }

    /// The type URL.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => CLUSTER,
            Self::Endpoints => CLUSTER_LOAD_ASSIGNMENT,
            Self::ExtensionConfig => EXTENSION_CONFIG,
            Self::Listener => LISTENER,
            Self::Route => ROUTE_CONFIGURATION,
            Self::Runtime => RUNTIME,
            Self::ScopedRoute => SCOPED_ROUTE_CONFIGURATION,
            Self::Secret => SECRET,
            Self::VirtualHost => VIRTUAL_HOST,
        }
    }

    /// The short name people use for the type's discovery service, as in metrics and logs.
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
            Self::ExtensionConfig => "ecds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::Runtime => "rtds",
            Self::ScopedRoute => "srds",
            Self::Secret => "sds",
            Self::VirtualHost => "vhds",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use super::ResourceType;
    use super::message_name;
    use crate::Pool;

    #[test]
    fn every_url_names_a_message_of_the_pool() {
        let pool = Pool::new();
        for url in ALL {
            assert!(pool.message(message_name(url)).is_some(), "{url}");
        }
    }

    #[test]
    fn resource_types_are_found_by_url_whatever_the_prefix() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_url(kind.url()), Some(kind));
            let bare = message_name(kind.url());
            assert_eq!(ResourceType::from_url(bare), Some(kind));
            assert_eq!(
                ResourceType::from_url(&format!("example.com/{bare}")),
                Some(kind)
            );
        }
        assert_eq!(
            ResourceType::from_url("type.googleapis.com/envoy.config.listener.v3.Filter"),
            None
        );
    }
}
