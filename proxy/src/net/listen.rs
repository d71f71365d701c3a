//! Bound sockets. Each worker accepts on a socket of its own (`SO_REUSEPORT`), so that a connection
//! stays on the core the kernel gave it to.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpListener;
use tokio::net::UnixListener;

use crate::config::endpoint::Address;
use crate::net::NetStream;

/// A bound and listening socket that can be handed to a worker thread.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

impl BoundSocket {
    /// Binds one socket per worker and returns them with the real address (port 0 is resolved by
    /// the first and shared by the rest). Without `reuse_port`, and for Unix sockets, which cannot
    /// share a path, the workers share one socket.
    ///
    /// # Errors
    /// Whatever the system says; nothing stays bound then.
    pub fn bind_all(
        address: &Address,
        backlog: u32,
        reuse_port: bool,
        workers: usize,
    ) -> io::Result<(Vec<Self>, Address)> {
        match address {
            Address::Pipe(path) => {
                bind_unix(path, workers).map(|sockets| (sockets, address.clone()))
            }
            Address::Socket(address) => bind_tcp(*address, backlog, reuse_port, workers),
        }
    }

    /// Registers the socket with the current runtime.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener).map(Acceptor::Unix),
        }
    }
}

fn bind_tcp(
    address: SocketAddr,
    backlog: u32,
    reuse_port: bool,
    workers: usize,
) -> io::Result<(Vec<BoundSocket>, Address)> {
    let first = listen_tcp(address, backlog, reuse_port)?;
    let real = first.local_addr()?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(BoundSocket::Tcp(if reuse_port {
            listen_tcp(real, backlog, reuse_port)?
        } else {
            first.try_clone()?
        }));
    }
    sockets.push(BoundSocket::Tcp(first));
    Ok((sockets, Address::Socket(real)))
}

fn listen_tcp(
    address: SocketAddr,
    backlog: u32,
    reuse_port: bool,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Vec<BoundSocket>> {
    let listener = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            std::os::unix::net::UnixListener::bind_addr(&address)?
        }
        None => {
            remove_stale(path)?;
            std::os::unix::net::UnixListener::bind(path)?
        }
    };
    listener.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(BoundSocket::Unix(listener.try_clone()?));
    }
    sockets.push(BoundSocket::Unix(listener));
    Ok(sockets)
}

/// A socket file nobody answers on is left over from a process that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
    }
}

/// A socket that accepts on the current runtime.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Acceptor {
    /// Closes the socket and returns the connections that were waiting on it, so that none is reset.
    ///
    /// # Errors
    /// Whatever the system says; the socket is closed all the same.
    pub fn close(self) -> io::Result<Vec<NetStream>> {
        let mut waiting = Vec::new();
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    waiting.push(NetStream::Tcp(tokio::net::TcpStream::from_std(stream)?));
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    waiting.push(NetStream::Unix(tokio::net::UnixStream::from_std(stream)?));
                }
            }
        }
        Ok(waiting)
    }

    /// The next connection; TCP ones get `TCP_NODELAY`.
    ///
    /// # Errors
    /// Whatever the system says of the accept; the socket stays usable.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<NetStream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(NetStream::Tcp(stream))
            }
            Self::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| NetStream::Unix(stream)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_port_the_system_chose() {
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (sockets, real) = BoundSocket::bind_all(&any, 16, true, 3).unwrap();
        let Address::Socket(real) = real else {
            unreachable!("TCP was asked for")
        };
        assert_ne!(real.port(), 0);
        for socket in sockets {
            let BoundSocket::Tcp(socket) = socket else {
                unreachable!("TCP was asked for")
            };
            assert_eq!(socket.local_addr().unwrap(), real);
        }
    }

    #[test]
    fn without_reuse_port_nobody_else_may_bind() {
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (sockets, real) = BoundSocket::bind_all(&any, 16, false, 2).unwrap();
        assert_eq!(sockets.len(), 2);
        let error = BoundSocket::bind_all(&real, 16, true, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_sockets, _) =
            BoundSocket::bind_all(&Address::Pipe(path.clone()), 16, true, 2).unwrap();
        let error = BoundSocket::bind_all(&Address::Pipe(path), 16, true, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
