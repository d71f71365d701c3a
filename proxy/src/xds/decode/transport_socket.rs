//! `core.v3.TransportSocket`: what stands between a socket and the filters.

use std::sync::Arc;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use xds_proto::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use xds_proto::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;

use super::Context;
use super::added_tlv;
use super::extension;
use super::listener_filter;
use super::tls;
use crate::config::cluster::ProxyHeader;
use crate::config::cluster::UpstreamTransport;
use crate::config::filter_chain::TransportSocket;
use crate::config::tls::UpstreamTls;

/// Reads the transport socket of a filter chain.
pub(crate) fn downstream(
    context: &mut Context,
    socket: core::TransportSocket,
) -> Option<TransportSocket> {
    let core::TransportSocket {
        name: _,
        config_type: Some(ConfigType::TypedConfig(any)),
    } = &socket
    else {
        return raw(context, socket).map(|()| TransportSocket::Raw);
    };
    if !extension::holds::<DownstreamTlsContext>(any) {
        return raw(context, socket).map(|()| TransportSocket::Raw);
    }
    context.field("typed_config", |context| {
        let context_of_chain = extension::unpack(context, any)?;
        tls::downstream(context, context_of_chain)
            .map(Arc::new)
            .map(TransportSocket::Tls)
    })
}

/// Reads the transport socket of a cluster.
pub(crate) fn upstream(
    context: &mut Context,
    socket: core::TransportSocket,
) -> Option<UpstreamTransport> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any))
            if extension::holds::<ProxyProtocolUpstreamTransport>(any) =>
        {
            context.field("typed_config", |context| {
                let transport = extension::unpack(context, any)?;
                proxy_protocol(context, transport)
            })
        }
        _ => plain_or_tls(context, socket).map(|tls| UpstreamTransport {
            proxy_protocol: None,
            tls,
        }),
    }
}

fn plain_or_tls(
    context: &mut Context,
    socket: core::TransportSocket,
) -> Option<Option<UpstreamTls>> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) if extension::holds::<UpstreamTlsContext>(any) => {
            context.field("typed_config", |context| {
                let context_of_cluster = extension::unpack(context, any)?;
                tls::upstream(context, context_of_cluster).map(Some)
            })
        }
        _ => raw(context, socket).map(|()| None),
    }
}

/// A PROXY protocol header before another transport.
fn proxy_protocol(
    context: &mut Context,
    transport: ProxyProtocolUpstreamTransport,
) -> Option<UpstreamTransport> {
    let ProxyProtocolUpstreamTransport {
        config,
        transport_socket,
        allow_unspecified_address,
        tlv_as_pool_key,
    } = transport;
    unsupported!(context, warn "has no effect, an unspecified address is sent as LOCAL": allow_unspecified_address);
    unsupported!(context, warn "has no effect, no connection is shared": tlv_as_pool_key);
    let tls = context.required("transport_socket", transport_socket, plain_or_tls)?;
    let config = config.unwrap_or_default();
    let header = context.field("config", |context| proxy_header(context, config))?;
    Some(UpstreamTransport {
        proxy_protocol: Some(header),
        tls,
    })
}

fn proxy_header(context: &mut Context, config: core::ProxyProtocolConfig) -> Option<ProxyHeader> {
    let core::ProxyProtocolConfig {
        version,
        pass_through_tlvs,
        added_tlvs,
    } = config;
    let version = context.field("version", |context| {
        listener_filter::version(context, version)
    })?;
    let passed = context.optional(
        "pass_through_tlvs",
        pass_through_tlvs,
        listener_filter::kept_tlvs,
    );
    let added_tlvs = context.each("added_tlvs", added_tlvs, added_tlv::decode);
    Some(ProxyHeader {
        version,
        passed_tlvs: passed.unwrap_or_default(),
        added_tlvs,
    })
}

/// Accepts the transport that is no transport: plain bytes.
pub(crate) fn raw(context: &mut Context, socket: core::TransportSocket) -> Option<()> {
    let core::TransportSocket { name, config_type } = socket;
    match config_type {
        Some(ConfigType::TypedConfig(any)) if extension::holds::<RawBuffer>(&any) => Some(()),
        Some(ConfigType::TypedConfig(any)) => context.unsupported(
            "typed_config",
            format!("{} is not supported", extension::type_name(&any)),
        ),
        None => context.unsupported("name", format!("{name:?} is not supported")),
    }
}
