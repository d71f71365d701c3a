//! `Listener`: where connections come from, what is found out of them, which chains there are.

use std::sync::Arc;

use xds_proto::pb::envoy::config::listener::v3 as pb;
use xds_proto::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use xds_proto::pb::envoy::config::listener::v3::listener::DeprecatedV1;
use xds_proto::pb::envoy::config::listener::v3::listener::DrainType;
use xds_proto::pb::envoy::config::listener::v3::listener::connection_balance_config::BalanceType;
use xds_proto::pb::envoy::config::listener::v3::listener::connection_balance_config::ExactBalance;

use super::Context;
use super::access_log;
use super::binding;
use super::filter_chain;
use super::listener_filter;
use super::value;
use crate::config::Listener;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::filter_chain::Allowance;
use crate::config::filter_chain::FilterChain;
use crate::config::limits;
use crate::config::listener_filter::ListenerFilter;
use crate::config::listener_filter::ListenerFilterKind;

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
    unsupported!(context, warn: stats_matcher, per_connection_buffer_high_watermark_timeout, metadata,
        traffic_direction);
    // What DEFAULT adds is for health that an operator takes away, which nobody can here.
    let _: Option<DrainType> = value::enumeration(context, "drain_type", drain_type);
    let internal_listener = listener_specifier;
    unsupported!(context, reject: fcds_config, udp_listener_config, internal_listener);
    unsupported!(context, reject "is for gRPC clients, not for proxies": api_listener);
    let DeprecatedV1 {
        bind_to_port: old_bind_to_port,
    } = deprecated_v1.unwrap_or_default();
    let balances_exactly = context.optional(
        "connection_balance_config",
        connection_balance_config,
        balance,
    );
    let mut listener_filters = context.each(
        "listener_filters",
        listener_filters,
        listener_filter::decode,
    );
    let hands_over = value::is_true(use_original_dst);
    if hands_over {
        listener_filters.push(listener_filter::original_dst()); // as Envoy does
    }
    let listener_filters_timeout = value::timeout(
        context,
        "listener_filters_timeout",
        listener_filters_timeout,
        Some(limits::LISTENER_FILTERS_TIMEOUT),
    );

    let ephemeral = origin == Origin::Bootstrap;
    let sockets = binding::Fields {
        address,
        additional_addresses,
        freebind: value::is_true(freebind),
        transparent: value::is_true(transparent),
        enable_mptcp,
        socket_options,
        tcp_keepalive,
        tcp_fast_open_queue_length,
    };
    let (address, additional_addresses) = binding::addresses(context, sockets, ephemeral);
    let (address, socket_options) = address
        .map(|address| (address.address, address.options))
        .unzip();
    let name = self::name(context, name, address.as_ref(), origin);
    let allowance = Allowance {
        buffer_bytes: value::buffer_limit(per_connection_buffer_limit_bytes),
        ignores_overload: bypass_overload_manager,
    };
    let chains = filter_chain::chains(
        context,
        (filter_chains, default_filter_chain),
        filter_chain_matcher,
        allowance,
    );
    let accepts_per_event = value::number(
        context,
        "max_connections_to_accept_per_socket_event",
        max_connections_to_accept_per_socket_event,
        (1, u32::MAX),
    );
    // The older field could only say yes, which is the default by now.
    let reuse_port = reuse_port || !value::is_false(enable_reuse_port);
    let access_logs = access_log::decode(context, "access_log", access_log);
    let chains = chains?;
    let inspects_tls =
        |filter: &ListenerFilter| matches!(filter.kind, ListenerFilterKind::TlsInspector(_));
    let needs_inspector = |chain: &Arc<FilterChain>| filter_chain::needs_tls_inspector(chain);
    if chains.chains.iter().any(needs_inspector) && !listener_filters.iter().any(inspects_tls) {
        listener_filters.push(listener_filter::default_tls_inspector()); // as Envoy does
    }
    Some(Listener {
        name: name?,
        address: address?,
        additional_addresses,
        socket_options: socket_options?,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        filter_chains: chains.chains,
        default_filter_chain: chains.default,
        selector: Arc::new(chains.selector),
        access_logs,
        backlog: tcp_backlog_size.map_or(limits::LISTEN_BACKLOG, |size| size.value),
        reuse_port,
        accepts_per_event: accepts_per_event.unwrap_or(limits::ACCEPTS_PER_EVENT),
        ignores_process_limit: ignore_global_conn_limit,
        ignores_overload: bypass_overload_manager,
        binds: !value::is_false(bind_to_port) && !value::is_false(old_bind_to_port),
        hands_over,
        balances_exactly: balances_exactly.is_some(),
        stat_prefix: stat_prefix.into(),
    })
}

/// Nothing, if it is the exact one, which is the only one.
fn balance(context: &mut Context, balance: ConnectionBalanceConfig) -> Option<()> {
    let ConnectionBalanceConfig { balance_type } = balance;
    match balance_type {
        Some(BalanceType::ExactBalance(ExactBalance {})) => Some(()),
        Some(BalanceType::ExtendBalance(_)) => {
            context.unsupported("extend_balance", "not supported")
        }
        Some(BalanceType::CpuLocalityBalance(_)) => {
            context.unsupported("cpu_locality_balance", "not supported")
        }
        None => context.refuse("", "needs exact_balance"),
    }
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
