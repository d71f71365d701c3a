//! Options of listening sockets; connections inherit them.

use crate::config::endpoint::Address;

/// What is set on the sockets of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Addresses that no interface has may be bound.
    pub freebind: bool,
    /// Take connections to any address (TPROXY).
    pub transparent: bool,
    /// Clients may use several paths (MPTCP, RFC 8684).
    pub multipath: bool,
    /// A socket for IPv6 takes IPv4, too.
    pub takes_ipv4: bool,
    /// Of the file of a Unix socket, unless the system decides.
    pub mode: Option<u32>,
    /// In the order of the configuration.
    pub options: Vec<SocketOption>,
}

/// An address with what is set on its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Where.
    pub address: Address,
    /// How.
    pub options: SocketOptions,
}

/// One option (`core.v3.SocketOption`), by the system's own numbers: which ones there are, and what
/// they mean, the system knows best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// `SOL_SOCKET`, `IPPROTO_TCP`, ...
    pub level: i32,
    /// `SO_KEEPALIVE`, `TCP_FASTOPEN`, ...
    pub name: i32,
    /// As the system reads it.
    pub value: Box<[u8]>,
    /// When it is set.
    pub moment: Moment,
    /// Only on sockets of this family.
    pub family: Option<Family>,
}

/// When an option is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Before the socket is bound.
    #[default]
    Unbound,
    /// After that.
    Bound,
    /// Once it listens.
    Listening,
}

/// Of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl SocketOption {
    /// A number as most options take it, set first of all.
    pub fn number(level: i32, name: i32, number: i32) -> Self {
        Self {
            level,
            name,
            value: Box::new(number.to_ne_bytes()),
            moment: Moment::Unbound,
            family: None,
        }
    }
}
