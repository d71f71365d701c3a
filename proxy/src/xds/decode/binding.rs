//! Where a listener listens, and what is set on its sockets: the listener's own address, and those
//! beside it, which may say otherwise.

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::SocketOptionsOverride;
use xds_proto::pb::envoy::config::listener::v3 as pb;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::address;
use super::socket;
use crate::config::endpoint::Address;
use crate::config::socket::ListenAddress;
use crate::config::socket::SocketOption;
use crate::config::socket::SocketOptions;

/// The fields of a listener that are about its sockets.
pub(super) struct Fields {
    pub(super) address: Option<core::Address>,
    pub(super) additional_addresses: Vec<pb::AdditionalAddress>,
    pub(super) freebind: bool,
    pub(super) transparent: bool,
    pub(super) enable_mptcp: bool,
    pub(super) socket_options: Vec<core::SocketOption>,
    pub(super) tcp_keepalive: Option<core::TcpKeepalive>,
    pub(super) tcp_fast_open_queue_length: Option<UInt32Value>,
}

/// What is set on the sockets of a listener, unless an address says otherwise.
struct Usual {
    base: SocketOptions,
    options: Vec<SocketOption>,
    keepalive: Vec<SocketOption>,
    /// No address can say otherwise.
    fast_open: Option<SocketOption>,
}

/// All addresses, the listener's own first; port 0 only if `ephemeral`.
pub(super) fn addresses(
    context: &mut Context,
    fields: Fields,
    ephemeral: bool,
) -> (Option<ListenAddress>, Vec<ListenAddress>) {
    let usual = Usual {
        base: SocketOptions {
            freebind: fields.freebind,
            transparent: fields.transparent,
            multipath: fields.enable_mptcp,
            ..SocketOptions::default()
        },
        options: context.each("socket_options", fields.socket_options, socket::option),
        keepalive: context
            .optional(
                "tcp_keepalive",
                fields.tcp_keepalive,
                |context, keepalive| Some(socket::keepalive(context, keepalive)),
            )
            .unwrap_or_default(),
        fast_open: socket::fast_open(context, fields.tcp_fast_open_queue_length),
    };
    let own = context.required("address", fields.address, |context, address| {
        let address = address::listen(context, address, ephemeral)?;
        Some(usual.at(context, address, None, None))
    });
    let others = context.each(
        "additional_addresses",
        fields.additional_addresses,
        |context, address| additional(context, address, &usual, ephemeral),
    );
    (own, others)
}

impl Usual {
    /// An address replaces each list as a whole, if only by an empty one.
    fn at(
        &self,
        context: &mut Context,
        address: ListenAddress,
        options: Option<Vec<SocketOption>>,
        keepalive: Option<Vec<SocketOption>>,
    ) -> ListenAddress {
        let options = options.unwrap_or_else(|| self.options.clone());
        let keepalive = keepalive.unwrap_or_else(|| self.keepalive.clone());
        let options = options.into_iter().chain(keepalive);
        let all = SocketOptions {
            takes_ipv4: address.options.takes_ipv4,
            mode: address.options.mode,
            options: options.chain(self.fast_open.clone()).collect(),
            ..self.base.clone()
        };
        if matches!(address.address, Address::Pipe(_)) {
            return of_file(context, &all, address);
        }
        ListenAddress {
            address: address.address,
            options: all,
        }
    }
}

/// What is said of IP addresses is not for Unix sockets, here as in Envoy.
fn of_file(context: &mut Context, all: &SocketOptions, address: ListenAddress) -> ListenAddress {
    if all.multipath {
        context.reject("", "enable_mptcp is for IP addresses");
    }
    if all.freebind || all.transparent || !all.options.is_empty() {
        let reason = "options of sockets have no effect on Unix sockets";
        context.warn("", reason);
    }
    address
}

fn additional(
    context: &mut Context,
    address: pb::AdditionalAddress,
    usual: &Usual,
    ephemeral: bool,
) -> Option<ListenAddress> {
    let pb::AdditionalAddress {
        address,
        socket_options,
        tcp_keepalive,
    } = address;
    let options = context.optional("socket_options", socket_options, |context, options| {
        let SocketOptionsOverride { socket_options } = options;
        Some(context.each("socket_options", socket_options, socket::option))
    });
    let keepalive = context.optional("tcp_keepalive", tcp_keepalive, |context, keepalive| {
        Some(socket::keepalive(context, keepalive))
    });
    context.required("address", address, |context, address| {
        let address = address::listen(context, address, ephemeral)?;
        Some(usual.at(context, address, options, keepalive))
    })
}
