//! `FilterChain`s and which of them takes a connection.

use std::sync::Arc;

use xds_proto::pb::envoy::config::core::v3::CidrRange;
use xds_proto::pb::envoy::config::listener::v3 as pb;
use xds_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use xds_proto::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use xds_proto::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as PbConnectionLimit;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_proto::pb::envoy::extensions::filters::network::set_filter_state::v3::Config as SetFilterState;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds_proto::pb::xds::r#type::matcher::v3::Matcher;

use super::Context;
use super::chain_matcher;
use super::connection_limit;
use super::extension;
use super::filter_state;
use super::http_connection_manager;
use super::tcp_proxy;
use super::transport_socket;
use super::value;
use crate::config::chain_selector::ChainIndex;
use crate::config::chain_selector::ChainSelector;
use crate::config::chain_selector::Overlap;
use crate::config::connection_limits::ConnectionLimit;
use crate::config::filter_chain::Allowance;
use crate::config::filter_chain::FilterChain;
use crate::config::filter_chain::FilterChainMatch;
use crate::config::filter_chain::NetworkFilter;
use crate::config::filter_chain::SourceType;
use crate::config::filter_chain::TransportSocket;
use crate::config::filter_state::ConnectionState;
use crate::config::prefix_map::IpPrefix;

/// The chains of a listener.
pub(crate) struct Chains {
    pub(crate) chains: Vec<Arc<FilterChain>>,
    pub(crate) default: Option<Arc<FilterChain>>,
    pub(crate) selector: ChainSelector,
}

/// Reads the chains of a listener and how one is chosen.
pub(crate) fn chains(
    context: &mut Context,
    (chains, default): (Vec<pb::FilterChain>, Option<pb::FilterChain>),
    matcher: Option<Matcher>,
    allowance: Allowance,
) -> Option<Chains> {
    if chains.is_empty() && default.is_none() {
        context.reject("filter_chains", "must not be empty");
    }
    let has_matcher = matcher.is_some();
    let count = chains.len();
    let chains = context.each("filter_chains", chains, |context, chain| {
        if has_matcher && chain.name.is_empty() {
            context.reject("name", "is required with a filter_chain_matcher");
        }
        filter_chain(context, chain, allowance).map(Arc::new)
    });
    let default = context.optional("default_filter_chain", default, |context, chain| {
        filter_chain(context, chain, allowance).map(Arc::new)
    });
    if chains.len() != count {
        return None; // what is wrong was said
    }
    let selector = match matcher {
        Some(matcher) => context.field("filter_chain_matcher", |context| {
            chain_matcher::decode(context, matcher, &chains).map(ChainSelector::Tree)
        }),
        None => index(context, &chains).map(ChainSelector::Index),
    };
    Some(Chains {
        chains,
        default,
        selector: selector?,
    })
}

fn index(context: &mut Context, chains: &[Arc<FilterChain>]) -> Option<ChainIndex> {
    ChainIndex::new(chains.iter().map(|chain| &chain.conditions))
        .map_err(|(later, Overlap(earlier))| {
            context.item("filter_chains", later, |context| {
                context.reject(
                    "filter_chain_match",
                    format!("overlaps with that of filter_chains[{earlier}]"),
                );
            });
        })
        .ok()
}

/// Whether a chain can only be found if the first bytes of TLS are looked at.
pub(crate) fn needs_tls_inspector(chain: &FilterChain) -> bool {
    let conditions = &chain.conditions;
    let names_something =
        !conditions.server_names.is_empty() || !conditions.application_protocols.is_empty();
    match &*conditions.transport_protocol {
        "tls" => true,
        "" => names_something,
        _ => false,
    }
}

fn filter_chain(
    context: &mut Context,
    chain: pb::FilterChain,
    allowance: Allowance,
) -> Option<FilterChain> {
    let pb::FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = chain;
    let use_proxy_proto = value::is_true(use_proxy_proto);
    unsupported!(context, reject: use_proxy_proto);
    unsupported!(context, warn: metadata);
    // Zero is the same as absent.
    let transport_timeout = value::timeout(
        context,
        "transport_socket_connect_timeout",
        transport_socket_connect_timeout,
        None,
    );
    let conditions = match filter_chain_match {
        None => Some(FilterChainMatch::default()),
        Some(conditions) => context.field("filter_chain_match", |context| {
            self::conditions(context, conditions)
        }),
    };
    let transport_socket = match transport_socket {
        None => Some(TransportSocket::Raw),
        Some(socket) => context.field("transport_socket", |context| {
            transport_socket::downstream(context, socket)
        }),
    };
    let (connection_limits, state, filter) = network_filters(context, filters)?;
    Some(FilterChain {
        name: name.into(),
        conditions: conditions?,
        transport_socket: transport_socket?,
        transport_timeout,
        connection_limits,
        state,
        filter,
        allowance,
    })
}

fn conditions(context: &mut Context, conditions: pb::FilterChainMatch) -> Option<FilterChainMatch> {
    let pb::FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = conditions;
    unsupported!(context, reject "not supported, Envoy does not implement it either": address_suffix, suffix_len);
    let destination_port = match destination_port {
        None => None,
        Some(port) => Some(value::port(context, "destination_port", port.value)?),
    };
    let prefix_ranges = ranges(context, "prefix_ranges", prefix_ranges);
    let direct_source_prefix_ranges = ranges(
        context,
        "direct_source_prefix_ranges",
        direct_source_prefix_ranges,
    );
    let source_prefix_ranges = ranges(context, "source_prefix_ranges", source_prefix_ranges);
    let source_ports = context.each("source_ports", source_ports, |context, port| {
        value::port(context, "", port)
    });
    let server_names = context.each("server_names", server_names, server_name);
    let source_type = match value::enumeration(context, "source_type", source_type)? {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    };
    Some(FilterChainMatch {
        destination_port,
        prefix_ranges,
        server_names,
        transport_protocol: transport_protocol.into(),
        application_protocols: application_protocols.into_iter().map(Into::into).collect(),
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
    })
}

fn server_name(context: &mut Context, name: String) -> Option<Box<str>> {
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    if rest.contains('*') {
        return context.refuse("", "a star may only stand before the first dot");
    }
    Some(name.to_ascii_lowercase().into())
}

fn ranges(context: &mut Context, field: &str, ranges: Vec<CidrRange>) -> Vec<IpPrefix> {
    context.each(field, ranges, range)
}

/// Reads a range of addresses.
pub(crate) fn range(context: &mut Context, range: CidrRange) -> Option<IpPrefix> {
    let CidrRange {
        address_prefix,
        prefix_len,
    } = range;
    let Ok(address) = address_prefix.parse() else {
        return context.refuse(
            "address_prefix",
            format!("{address_prefix:?} is not an IP address"),
        );
    };
    let length = value::number(context, "prefix_len", prefix_len, (0, 128)).unwrap_or(0);
    Some(IpPrefix::new(address, length))
}

/// The last one takes the connection; those before it limit connections, give them filter state, or can be
/// left out.
fn network_filters(
    context: &mut Context,
    filters: Vec<pb::Filter>,
) -> Option<(Vec<ConnectionLimit>, ConnectionState, NetworkFilter)> {
    let Some(last) = filters.len().checked_sub(1) else {
        return context.refuse("filters", "must not be empty");
    };
    let mut position = 0..;
    let (mut limits, mut state) = (Vec::new(), ConnectionState::default());
    let mut filters = context.each("filters", filters, |context, filter| {
        let is_last = position.next() == Some(last);
        network_filter(context, filter, is_last, (&mut limits, &mut state))
    });
    Some((limits, state, filters.pop()?))
}

fn network_filter(
    context: &mut Context,
    filter: pb::Filter,
    is_last: bool,
    (limits, state): (&mut Vec<ConnectionLimit>, &mut ConnectionState),
) -> Option<NetworkFilter> {
    let pb::Filter { name, config_type } = filter;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return context.unsupported("config_discovery", "not supported");
        }
        None => return context.missing("typed_config"),
    };
    context.field("typed_config", |context| {
        if extension::holds::<PbConnectionLimit>(&any) {
            if is_last {
                context.reject("", "the last filter must be HTTP or TCP");
            }
            let limit = extension::unpack(context, &any)?;
            limits.extend(connection_limit::decode(context, limit));
            return None;
        }
        if extension::holds::<SetFilterState>(&any) {
            if is_last {
                context.reject("", "the last filter must be HTTP or TCP");
            }
            let config = extension::unpack(context, &any)?;
            let mut more = filter_state::of_connection(context, config);
            state.at_first.append(&mut more.at_first);
            state.after_handshake.append(&mut more.after_handshake);
            return None;
        }
        let is_http = extension::holds::<HttpConnectionManager>(&any);
        let is_tcp = extension::holds::<TcpProxy>(&any);
        if !is_http && !is_tcp {
            extension::unknown(context, &any, false);
            if is_last && extension::is_observing(&any) {
                context.reject("", "the last filter must be HTTP or TCP");
            }
            return None;
        }
        if !is_last {
            context.reject("", "this filter must be the last one");
        }
        if is_tcp {
            let proxy = extension::unpack(context, &any)?;
            let proxy = tcp_proxy::decode(context, proxy)?;
            return Some(NetworkFilter::TcpProxy(Arc::new(proxy)));
        }
        let manager = extension::unpack(context, &any)?;
        let manager = http_connection_manager::decode(context, manager)?;
        Some(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
    })
}
