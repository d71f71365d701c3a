//! `Listener` and its filter chains.

use std::sync::Arc;

use xds_proto::pb::envoy::config::listener::v3 as pb;
use xds_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use xds_proto::pb::envoy::config::listener::v3::listener::DeprecatedV1;
use xds_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerFilterConfig;
use xds_proto::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use xds_proto::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use super::Context;
use super::address;
use super::extension;
use super::http_connection_manager;
use super::transport_socket;
use super::value;
use crate::config::Listener;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::filter_chain::FilterChain;
use crate::config::filter_chain::NetworkFilter;
use crate::config::filter_chain::TransportSocket;
use crate::config::limits;

/// Where a listener is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the bootstrap: port 0 takes any free port, a name may be missing.
    Bootstrap,
    /// At a control plane or in a watched file: everything is said.
    Dynamic,
}

/// Reads a listener.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
pub(crate) fn decode(
    context: &mut Context,
    listener: pb::Listener,
    origin: Origin,
) -> Option<Listener> {
    let pb::Listener {
        name,
        address,
        additional_addresses,
        stat_prefix,
        stats_matcher,
        filter_chains,
        fcds_config,
        filter_chain_matcher,
        use_original_dst,
        default_filter_chain,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        metadata,
        deprecated_v1,
        drain_type,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction,
        udp_listener_config,
        api_listener,
        connection_balance_config,
        reuse_port,
        enable_reuse_port,
        access_log,
        tcp_backlog_size,
        max_connections_to_accept_per_socket_event,
        bind_to_port,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager,
        tcp_keepalive,
        listener_specifier,
    } = listener;
    unsupported!(context, warn: stat_prefix, stats_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, metadata, drain_type, listener_filters_timeout,
        continue_on_listener_filters_timeout, freebind, socket_options, tcp_fast_open_queue_length,
        traffic_direction, connection_balance_config, access_log, enable_mptcp,
        ignore_global_conn_limit, bypass_overload_manager, tcp_keepalive);
    let use_original_dst = value::is_true(use_original_dst);
    let transparent = value::is_true(transparent);
    let internal_listener = listener_specifier;
    unsupported!(context, reject: additional_addresses, fcds_config, filter_chain_matcher,
        use_original_dst, transparent, udp_listener_config, internal_listener);
    unsupported!(context, reject "is for gRPC clients, not for proxies": api_listener);
    let bind_to_port = value::is_false(bind_to_port);
    unsupported!(context, reject "false is not supported": bind_to_port);
    context.optional(
        "deprecated_v1",
        deprecated_v1,
        |context, DeprecatedV1 { bind_to_port }| {
            let bind_to_port = value::is_false(bind_to_port);
            unsupported!(context, reject "false is not supported": bind_to_port);
            Some(())
        },
    );
    context.each("listener_filters", listener_filters, listener_filter);

    let ephemeral = origin == Origin::Bootstrap;
    let address = context.required("address", address, |context, address| {
        address::listen(context, address, ephemeral)
    });
    let name = self::name(context, name, address.as_ref(), origin);
    let (filter_chains, default_filter_chain) =
        chains(context, filter_chains, default_filter_chain);
    let accepts_per_event = value::number(
        context,
        "max_connections_to_accept_per_socket_event",
        max_connections_to_accept_per_socket_event,
        (1, u32::MAX),
    );
    // The older field could only say yes, which is the default by now.
    let reuse_port = reuse_port || !value::is_false(enable_reuse_port);
    Some(Listener {
        name: name?,
        address: address?,
        filter_chains,
        default_filter_chain,
        backlog: tcp_backlog_size.map_or(limits::LISTEN_BACKLOG, |size| size.value),
        reuse_port,
        accepts_per_event: accepts_per_event.unwrap_or(limits::ACCEPTS_PER_EVENT),
    })
}

fn name(
    context: &mut Context,
    name: String,
    address: Option<&Address>,
    origin: Origin,
) -> Option<Name> {
    if !name.is_empty() {
        return Some(name.into());
    }
    match (origin, address?) {
        // Envoy takes a random name; the address says more in a log line.
        (Origin::Bootstrap, Address::Socket(address)) => Some(address.to_string().into()),
        (Origin::Bootstrap, Address::Pipe(path)) => Some(path.display().to_string().into()),
        (Origin::Dynamic, _) => context.refuse("name", "must not be empty"),
    }
}

type Chains = (Vec<Arc<FilterChain>>, Option<Arc<FilterChain>>);

fn chains(
    context: &mut Context,
    chains: Vec<pb::FilterChain>,
    default: Option<pb::FilterChain>,
) -> Chains {
    if chains.is_empty() && default.is_none() {
        context.reject("filter_chains", "must not be empty");
    }
    if chains.len() > 1 {
        // None of them can have a match yet, so they all have the same.
        context.reject(
            "filter_chains",
            "several chains need filter_chain_match, which is not supported",
        );
    }
    let chains = context.each("filter_chains", chains, |context, chain| {
        filter_chain(context, chain).map(Arc::new)
    });
    let default = context.optional("default_filter_chain", default, |context, chain| {
        filter_chain(context, chain).map(Arc::new)
    });
    (chains, default)
}

/// The inspectors only feed `filter_chain_match`, which is refused itself.
fn listener_filter(context: &mut Context, filter: pb::ListenerFilter) -> Option<()> {
    let pb::ListenerFilter {
        name,
        filter_disabled,
        config_type,
    } = filter;
    unsupported!(context, warn: filter_disabled);
    let any = match config_type {
        Some(ListenerFilterConfig::TypedConfig(any)) => any,
        Some(ListenerFilterConfig::ConfigDiscovery(_)) => {
            return context.refuse("config_discovery", "not supported");
        }
        None => return context.refuse("typed_config", format!("is required for {name:?}")),
    };
    if extension::holds::<TlsInspector>(&any) || extension::holds::<HttpInspector>(&any) {
        context.warn("typed_config", "left out: nothing uses what it finds");
        return Some(());
    }
    context.field("typed_config", |context| {
        extension::unknown(context, &any, false);
    });
    Some(())
}

fn filter_chain(context: &mut Context, chain: pb::FilterChain) -> Option<FilterChain> {
    let pb::FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = chain;
    // A match without conditions holds for every connection, as no match does.
    let filter_chain_match =
        filter_chain_match.filter(|conditions| *conditions != pb::FilterChainMatch::default());
    unsupported!(context, reject: filter_chain_match);
    let use_proxy_proto = value::is_true(use_proxy_proto);
    unsupported!(context, reject: use_proxy_proto);
    unsupported!(context, warn: metadata, transport_socket_connect_timeout);
    let transport_socket = match transport_socket {
        None => Some(TransportSocket::Raw),
        Some(socket) => context.field("transport_socket", |context| {
            transport_socket::downstream(context, socket)
        }),
    };
    let filter = network_filters(context, filters)?;
    Some(FilterChain {
        name: name.into(),
        transport_socket: transport_socket?,
        filter,
    })
}

/// The last one takes the connection; those before it must be such that can be left out.
fn network_filters(context: &mut Context, filters: Vec<pb::Filter>) -> Option<NetworkFilter> {
    let Some(last) = filters.len().checked_sub(1) else {
        return context.refuse("filters", "must not be empty");
    };
    let mut position = 0..;
    let mut filters = context.each("filters", filters, |context, filter| {
        let is_last = position.next() == Some(last);
        network_filter(context, filter, is_last)
    });
    filters.pop()
}

fn network_filter(
    context: &mut Context,
    filter: pb::Filter,
    is_last: bool,
) -> Option<NetworkFilter> {
    let pb::Filter { name, config_type } = filter;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return context.refuse("config_discovery", "not supported");
        }
        None => return context.refuse("typed_config", "is required"),
    };
    context.field("typed_config", |context| {
        if !extension::holds::<HttpConnectionManager>(&any) {
            extension::unknown(context, &any, false);
            if is_last && extension::is_observing(&any) {
                context.reject("", "the last filter must be the HTTP connection manager");
            }
            return None;
        }
        if !is_last {
            context.reject("", "the HTTP connection manager must be the last filter");
        }
        let manager = extension::unpack(context, &any)?;
        let manager = http_connection_manager::decode(context, manager)?;
        Some(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
    })
}
