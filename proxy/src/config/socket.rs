//! Options of listening sockets; connections inherit them.

use std::time::Duration;

use crate::config::endpoint::Address;

/// All options of a listener's sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Addresses that no interface has may be bound.
    pub freebind: bool,
    /// Take connections to any address (TPROXY).
    pub transparent: bool,
    /// Clients may use several paths (MPTCP, RFC 8684).
    pub multipath: bool,
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

/// One option (`core.v3.SocketOption`, by its numbers on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// `SO_KEEPALIVE`.
    Keepalive(bool),
    /// `SO_MARK`.
    Mark(u32),
    /// `SO_PRIORITY`.
    Priority(u32),
    /// `SO_RCVBUF`, bytes.
    ReceiveBuffer(usize),
    /// `SO_SNDBUF`, bytes.
    SendBuffer(usize),
    /// `TCP_KEEPCNT`.
    TcpKeepaliveCount(u32),
    /// `TCP_KEEPIDLE`.
    TcpKeepaliveIdle(Duration),
    /// `TCP_KEEPINTVL`.
    TcpKeepaliveInterval(Duration),
    /// `TCP_USER_TIMEOUT`.
    TcpUserTimeout(Duration),
    /// `IP_TOS`.
    TypeOfService(u32),
}
