//! `core.v3.TransportSocket`: what stands between a socket and the filters.

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use xds_proto::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;

use super::Context;
use super::extension;
use crate::config::filter_chain::TransportSocket;

/// Reads the transport socket of a filter chain.
pub(crate) fn downstream(
    context: &mut Context,
    socket: core::TransportSocket,
) -> Option<TransportSocket> {
    raw(context, socket).map(|()| TransportSocket::Raw)
}

/// Accepts the transport that is no transport: plain bytes.
pub(crate) fn raw(context: &mut Context, socket: core::TransportSocket) -> Option<()> {
    let core::TransportSocket { name, config_type } = socket;
    match config_type {
        Some(ConfigType::TypedConfig(any)) if extension::holds::<RawBuffer>(&any) => Some(()),
        Some(ConfigType::TypedConfig(any)) => context.refuse(
            "typed_config",
            format!("{} is not supported", extension::type_name(&any)),
        ),
        None => context.refuse("name", format!("{name:?} is not supported")),
    }
}
