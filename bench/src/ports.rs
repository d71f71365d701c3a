//! Loopback ports reserved before the process that listens on them exists.
//!
//! A reservation is a bound socket that never listens. Linux lets a second socket bind beside it
//! when both carry `SO_REUSEADDR` (or `SO_REUSEPORT`) and neither listens, while `bind(0)` and
//! `connect` keep away from the number. So the number stays ours for as long as the value lives.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port of 127.0.0.1 that nobody else is handed while this value lives.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    /// The system's error when no port or no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let bound = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            number: bound.port(),
            _socket: socket,
        })
    }

    /// The port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The address to connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::ReservedPort;
    use crate::socket::listen;

    #[tokio::test]
    async fn a_listener_may_join_its_reservation_and_answers() {
        let port = ReservedPort::new().expect("a free port");
        let _listener = listen(port.number()).expect("the reservation does not stand in the way");
        TcpStream::connect(port.addr()).expect("the listener answers, the reservation does not");
    }

    #[test]
    fn a_reserved_port_refuses_connections_and_is_given_once() {
        let first = ReservedPort::new().expect("a free port");
        let second = ReservedPort::new().expect("a free port");
        assert_ne!(first.number(), second.number());
        assert!(TcpStream::connect(first.addr()).is_err());
    }
}
