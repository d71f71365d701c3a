//! Facts of a client connection.

use std::net::SocketAddr;

/// A client connection, as far as logs and forwarding headers want to know.
#[derive(Clone, Copy, Debug)]
pub struct Downstream {
    /// Number of the connection in this process.
    pub connection_id: u64,
    /// The client's end, unless it is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Our end, unless it is a Unix socket.
    pub local: Option<SocketAddr>,
}
