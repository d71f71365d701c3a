//! `core.v3.Address`: TCP addresses and pipes; names to resolve only where a cluster allows it.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::address::Address as Kind;
use xds_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_proto::pb::envoy::config::core::v3::socket_address::Protocol;

use super::Context;
use super::value;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::socket::ListenAddress;
use crate::config::socket::SocketOptions;

/// All that may be said of who may read, write and execute; Envoy's bound, too.
const MODE_MAX: u32 = 0o777;

/// A host as written, and its port.
pub(crate) enum Target {
    /// To be resolved.
    Name(Name, u16),
    /// Ready to use.
    Resolved(Address),
}

/// Where to listen, with what the address says of its socket; port 0 only if `ephemeral`.
pub(crate) fn listen(
    context: &mut Context,
    address: core::Address,
    ephemeral: bool,
) -> Option<ListenAddress> {
    match kind(context, address)? {
        Kind::SocketAddress(socket) => context.field("socket_address", |context| {
            socket_address(context, socket, ephemeral)
        }),
        Kind::Pipe(pipe) => context.field("pipe", |context| listening_pipe(context, pipe)),
        Kind::EnvoyInternalAddress(_) => {
            context.unsupported("envoy_internal_address", "not supported")
        }
    }
}

/// Where a member of a cluster listens.
pub(crate) fn connect(context: &mut Context, address: core::Address) -> Option<Address> {
    match target(context, address)? {
        Target::Resolved(address) => Some(address),
        Target::Name(host, _) => context.refuse(
            "socket_address.address",
            format!("{host:?} is not an IP address; use a cluster of type STRICT_DNS"),
        ),
    }
}

/// Where a member of a DNS cluster listens, perhaps still to be resolved.
pub(crate) fn target(context: &mut Context, address: core::Address) -> Option<Target> {
    match kind(context, address)? {
        Kind::SocketAddress(socket) => {
            context.field("socket_address", |context| socket_target(context, socket))
        }
        Kind::Pipe(pipe) => context
            .field("pipe", |context| self::pipe(context, pipe))
            .map(Target::Resolved),
        Kind::EnvoyInternalAddress(_) => {
            context.unsupported("envoy_internal_address", "not supported")
        }
    }
}

fn kind(context: &mut Context, address: core::Address) -> Option<Kind> {
    let core::Address { address } = address;
    if address.is_none() {
        context.reject("", "needs a socket_address or a pipe");
    }
    address
}

fn socket_address(
    context: &mut Context,
    mut socket: core::SocketAddress,
    ephemeral: bool,
) -> Option<ListenAddress> {
    let takes_ipv4 = std::mem::take(&mut socket.ipv4_compat);
    let (host, port) = parts(context, socket)?;
    let ip: IpAddr = match host.parse() {
        Ok(ip) => ip,
        Err(_) => return context.refuse("address", format!("{host:?} is not an IP address")),
    };
    let port = match port {
        0 if ephemeral => 0,
        port => value::port(context, "port_value", port)?,
    };
    if takes_ipv4 && ip.is_ipv4() {
        context.warn("ipv4_compat", "is for IPv6 addresses, has no effect");
    }
    Some(ListenAddress {
        address: Address::Socket(SocketAddr::new(ip, port)),
        options: SocketOptions {
            takes_ipv4: takes_ipv4 && ip.is_ipv6(),
            ..SocketOptions::default()
        },
    })
}

fn listening_pipe(context: &mut Context, mut pipe: core::Pipe) -> Option<ListenAddress> {
    let mode = std::mem::take(&mut pipe.mode);
    if mode > MODE_MAX {
        return context.refuse("mode", format!("{mode} is above 0777, which is {MODE_MAX}"));
    }
    if mode != 0 && pipe.path.starts_with('@') {
        return context.refuse("mode", "is for files, and an abstract socket has none");
    }
    Some(ListenAddress {
        address: self::pipe(context, pipe)?,
        options: SocketOptions {
            mode: (mode != 0).then_some(mode),
            ..SocketOptions::default()
        },
    })
}

fn socket_target(context: &mut Context, socket: core::SocketAddress) -> Option<Target> {
    let (host, port) = parts(context, socket)?;
    let port = value::port(context, "port_value", port)?;
    Some(match host.parse() {
        Ok(ip) => Target::Resolved(Address::Socket(SocketAddr::new(ip, port))),
        Err(_) => Target::Name(host.into(), port),
    })
}

fn parts(context: &mut Context, socket: core::SocketAddress) -> Option<(String, u32)> {
    let core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = socket;
    unsupported!(context, reject: resolver_name, network_namespace_filepath);
    unsupported!(context, warn "has no effect, it is for listeners": ipv4_compat);
    match value::enumeration(context, "protocol", protocol)? {
        Protocol::Tcp => {}
        Protocol::Udp => return context.unsupported("protocol", "UDP is not supported"),
    }
    if address.is_empty() {
        return context.refuse("address", "must not be empty");
    }
    match port_specifier {
        Some(PortSpecifier::PortValue(port)) if port <= u32::from(u16::MAX) => {
            Some((address, port))
        }
        Some(PortSpecifier::PortValue(port)) => {
            context.refuse("port_value", format!("{port} is not within 0 and 65535"))
        }
        Some(PortSpecifier::NamedPort(_)) => context.unsupported("named_port", "not supported"),
        None => context.missing("port_value"),
    }
}

fn pipe(context: &mut Context, pipe: core::Pipe) -> Option<Address> {
    let core::Pipe { path, mode } = pipe;
    if path.is_empty() {
        return context.refuse("path", "must not be empty");
    }
    unsupported!(context, warn "has no effect, it is for listeners": mode);
    Some(Address::Pipe(PathBuf::from(path)))
}
