//! Small model values for the tests of this room.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::StatusCode;

use crate::config::CircuitBreakers;
use crate::config::Cluster;
use crate::config::Endpoints;
use crate::config::Listener;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::client_certificate::ForwardClientCertificate;
use crate::config::cluster::AutoNames;
use crate::config::cluster::Discovery;
use crate::config::cluster::Dns;
use crate::config::cluster::DnsFamily;
use crate::config::cluster::DnsTarget;
use crate::config::cluster::Http2Options;
use crate::config::cluster::UpstreamProtocol;
use crate::config::cluster::UpstreamTransport;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Locality;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::endpoint::Policy;
use crate::config::filter_chain::Allowance;
use crate::config::filter_chain::FilterChain;
use crate::config::filter_chain::FilterChainMatch;
use crate::config::filter_chain::NetworkFilter;
use crate::config::filter_chain::TransportSocket;
use crate::config::limits;
use crate::config::listener::Codec;
use crate::config::listener::EscapedSlashes;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::HttpFilter;
use crate::config::listener::Jittered;
use crate::config::listener::RouteSource;
use crate::config::listener::ServerHeader;
use crate::config::listener::StripHostPort;
use crate::config::listener::Underscores;
use crate::config::load_balancing::LoadBalancing;
use crate::config::route::Action;
use crate::config::route::CertificateMatch;
use crate::config::route::ClusterSpecifier;
use crate::config::route::Forward;
use crate::config::route::HeaderEdits;
use crate::config::route::HostRewrite;
use crate::config::route::PathMatch;
use crate::config::route::Retries;
use crate::config::route::Route;
use crate::config::route::RouteMatch;
use crate::config::route::VirtualHost;
use crate::config::secret::Secret;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretNames;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;
use crate::config::secret::TicketKeys;
use crate::config::socket::SocketOptions;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Parameters;
use crate::config::tls::Tickets;
use crate::config::tls::UpstreamTls;
use crate::xds::resource::ReadSecret;

/// Members that are told apart by `mark`.
pub(crate) fn endpoints(mark: u16) -> Endpoints {
    let endpoint = Endpoint {
        address: Address::Socket(SocketAddr::from(([127, 0, 0, 1], mark))),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Unknown,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    };
    Endpoints {
        localities: vec![LocalityEndpoints {
            endpoints: vec![endpoint],
            ..LocalityEndpoints::default()
        }],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    }
}

/// A cluster; `mark` tells its versions apart.
pub(crate) fn cluster(name: &str, discovery: Discovery, mark: u64) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: name.into(),
        stat_name: name.into(),
        discovery,
        transport: UpstreamTransport::default(),
        transport_matches: Vec::new(),
        connect_timeout: Duration::from_millis(mark),
        circuit_breakers: CircuitBreakers::default(),
        outcome_breaker: None,
        load_balancing: LoadBalancing::default(),
        protocol: UpstreamProtocol::Http1,
        auto_names: AutoNames::default(),
        idle_timeout: None,
        max_connection_duration: None,
        max_requests_per_connection: None,
        http2: Http2Options::default(),
        health: crate::config::health::Health::default(),
        buffer_bytes: limits::CONNECTION_BUFFER_BYTES,
    })
}

pub(crate) fn eds(service: &str) -> Discovery {
    Discovery::Eds {
        service_name: service.into(),
    }
}

pub(crate) fn fixed(mark: u16) -> Discovery {
    Discovery::Static(Arc::new(endpoints(mark)))
}

pub(crate) fn dns(host: &str) -> Dns {
    Dns {
        targets: vec![DnsTarget {
            host: host.into(),
            port: 80,
            locality: Locality::default(),
            priority: 0,
            locality_weight: None,
            weight: 1,
            hostname: host.into(),
            health: HealthStatus::Unknown,
            locality_labels: None,
            labels: None,
            hash_key: None,
            traits: None,
            check: None,
        }],
        refresh_rate: Duration::from_secs(5),
        family: DnsFamily::Auto,
        policy: Policy::default(),
    }
}

/// One route to each cluster.
pub(crate) fn routes(name: &str, clusters: &[&str]) -> Arc<RouteConfig> {
    let host = VirtualHost {
        routes: clusters.iter().map(|c| route(c)).collect(),
        ..VirtualHost::default()
    };
    Arc::new(RouteConfig {
        name: name.into(),
        virtual_hosts: vec![host],
        ..RouteConfig::default()
    })
}

fn route(cluster: &str) -> Route {
    Route {
        name: "".into(),
        matches: RouteMatch {
            path: PathMatch::Prefix("/".into()),
            case_sensitive: true,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            runtime_fraction_per_million: None,
            grpc: false,
            certificate: CertificateMatch::default(),
        },
        action: Action::Forward(Box::new(Forward {
            upgrades: Vec::new(),
            cluster: ClusterSpecifier::Cluster(cluster.into()),
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
            timeout: None,
            idle_timeout: None,
            flush_timeout: None,
            prefix_rewrite: None,
            host_rewrite: HostRewrite::Keep,
            hash_policies: Vec::new(),
            hash_chooses_cluster: false,
            priority: crate::config::circuit_breakers::Priority::Default,
            retries: Retries::default(),
            criteria: None,
            stream_duration: None,
            grpc_timeout: None,
        })),
        headers: HeaderEdits::default(),
        sessions: Box::default(),
    }
}

pub(crate) fn rds(table: &str) -> RouteSource {
    RouteSource::Rds(table.into())
}

pub(crate) fn inline(clusters: &[&str]) -> RouteSource {
    RouteSource::Inline(routes("inline", clusters))
}

fn manager(routes: RouteSource) -> HttpConnectionManager {
    HttpConnectionManager {
        upgrades: Vec::new(),
        stat_prefix: "".into(),
        codec: Codec::Auto,
        routes,
        http_filters: vec![HttpFilter::Router {
            suppress_envoy_headers: false,
            respects_expected_timeout: false,
        }],
        access_logs: Vec::new(),
        server_name: HeaderValue::from_static("weir"),
        server_header: ServerHeader::Overwrite,
        via: None,
        use_remote_address: false,
        xff_trusted_hops: 0,
        skip_xff_append: false,
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        client_certificate: ForwardClientCertificate::Sanitize,
        request_timeout: None,
        request_headers_timeout: None,
        stream_idle_timeout: None,
        stream_flush_timeout: None,
        delayed_close_timeout: None,
        drain_timeout: Jittered {
            time: limits::HTTP2_DRAIN_TIMEOUT,
            jitter: 0.0,
        },
        idle_timeout: None,
        max_connection_duration: None,
        max_stream_duration: None,
        internal_addresses: None,
        max_requests_per_connection: None,
        request_headers_bytes_max: 1,
        header_count_max: 1,
        underscores: Underscores::Allow,
        normalize_path: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::Keep,
        strip_host_port: StripHostPort::None,
        accept_http_10: false,
        http2: Http2Options::default(),
    }
}

pub(crate) fn listener(name: &str, routes: RouteSource) -> Arc<Listener> {
    let chain = FilterChain {
        name: "".into(),
        conditions: FilterChainMatch::default(),
        transport_socket: TransportSocket::Raw,
        transport_timeout: None,
        connection_limits: Vec::new(),
        state: crate::config::filter_state::ConnectionState::default(),
        allowance: Allowance::default(),
        filter: NetworkFilter::HttpConnectionManager(Arc::new(manager(routes))),
    };
    Arc::new(Listener {
        name: name.into(),
        address: Address::Pipe("/dev/null".into()),
        additional_addresses: Vec::new(),
        socket_options: SocketOptions::default(),
        listener_filters: Vec::new(),
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        filter_chains: vec![Arc::new(chain)],
        default_filter_chain: None,
        selector: Arc::default(),
        access_logs: Vec::new(),
        backlog: 1,
        reuse_port: true,
        accepts_per_event: 1,
        ignores_process_limit: false,
        ignores_overload: false,
        binds: true,
        hands_over: false,
        balances_exactly: false,
        stat_prefix: "".into(),
    })
}

/// The name of a secret that comes over the aggregated stream.
pub(crate) fn named(secret: &str) -> SecretRef {
    SecretRef {
        key: SecretKey {
            source: SecretSource::Ads,
            name: secret.into(),
        },
        kind: SecretKind::TicketKeys,
        fetch_timeout: Some(Duration::from_secs(15)),
    }
}

fn common_tls(secret: SecretRef) -> CommonTls {
    CommonTls {
        parameters: Parameters::default(),
        certificates: Vec::new(),
        validation: None,
        alpn: Vec::new(),
        secrets: SecretNames {
            ticket_keys: Some(secret),
            ..SecretNames::default()
        },
    }
}

/// The listener with TLS that needs this secret of the aggregated stream.
pub(crate) fn with_secret(listener: &Listener, secret: &str) -> Arc<Listener> {
    with_secret_of(listener, named(secret))
}

/// The listener with TLS that needs this secret.
pub(crate) fn with_secret_of(listener: &Listener, secret: SecretRef) -> Arc<Listener> {
    let mut listener = listener.clone();
    let mut chain = FilterChain::clone(&listener.filter_chains[0]);
    chain.transport_socket = TransportSocket::Tls(Arc::new(DownstreamTls {
        common: common_tls(secret),
        require_client_certificate: false,
        require_sni: false,
        full_scan_on_mismatch: false,
        prefer_server_ciphers: false,
        tickets: Tickets::Off,
        session_timeout: Duration::ZERO,
    }));
    listener.filter_chains = vec![Arc::new(chain)];
    Arc::new(listener)
}

/// The cluster with TLS that needs this secret.
pub(crate) fn cluster_with_secret(cluster: &Cluster, secret: &str) -> Arc<Cluster> {
    let mut cluster = cluster.clone();
    cluster.transport.tls = Some(UpstreamTls {
        common: common_tls(named(secret)),
        sni: None,
        auto_host_sni: false,
        auto_sni_san_validation: false,
        session_keys_max: 0,
    });
    Arc::new(cluster)
}

/// Keys for tickets, told apart by `mark`.
pub(crate) fn secret(mark: &str) -> Arc<ReadSecret> {
    let mut key = [0; 80];
    for (place, byte) in key.iter_mut().zip(mark.bytes()) {
        *place = byte;
    }
    Arc::new(ReadSecret {
        secret: Secret::TicketKeys(TicketKeys(vec![Arc::new(key)])),
        directories: BTreeSet::new(),
    })
}

pub(crate) fn names<'a>(names: impl IntoIterator<Item = &'a Name>) -> Vec<&'a str> {
    names.into_iter().map(|n| &**n).collect()
}
