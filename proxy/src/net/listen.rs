//! Bound sockets. Each worker accepts on a socket of its own (`SO_REUSEPORT`), so that a connection
//! stays on the core the kernel gave it to.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpListener;
use tokio::net::UnixListener;

use crate::config::endpoint::Address;
use crate::config::socket::Family;
use crate::config::socket::Moment;
use crate::config::socket::SocketOption;
use crate::config::socket::SocketOptions;
use crate::net::NetStream;
use crate::net::socket_option;

/// A bound and listening socket that can be handed to a worker thread.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

/// How sockets are bound.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// Length of the accept queue.
    pub backlog: u32,
    /// One socket per worker.
    pub reuse_port: bool,
    /// Set before the socket is bound.
    pub options: &'a SocketOptions,
}

impl BoundSocket {
    /// Binds one socket per worker and returns them with the real address (port 0 is resolved by
    /// the first and shared by the rest). Without `How::reuse_port`, and for Unix sockets, which cannot
    /// share a path, the workers share one socket.
    ///
    /// # Errors
    /// Whatever the system says; nothing stays bound then.
    pub fn bind_all(
        address: &Address,
        how: How<'_>,
        workers: usize,
    ) -> io::Result<(Vec<Self>, Address)> {
        match address {
            Address::Pipe(path) => {
                bind_unix(path, how.options.mode, workers).map(|sockets| (sockets, address.clone()))
            }
            Address::Socket(address) => bind_tcp(*address, how, workers),
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
    how: How<'_>,
    workers: usize,
) -> io::Result<(Vec<BoundSocket>, Address)> {
    let first = listen_tcp(address, how)?;
    let real = first.local_addr()?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(BoundSocket::Tcp(if how.reuse_port {
            listen_tcp(real, how)?
        } else {
            first.try_clone()?
        }));
    }
    sockets.push(BoundSocket::Tcp(first));
    Ok((sockets, Address::Socket(real)))
}

fn listen_tcp(address: SocketAddr, how: How<'_>) -> io::Result<std::net::TcpListener> {
    let protocol = if how.options.multipath {
        Protocol::MPTCP
    } else {
        Protocol::TCP
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(how.reuse_port)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!how.options.takes_ipv4)?;
    }
    set_options(&socket, address.is_ipv6(), how.options)?;
    set_at(Moment::Unbound, &socket, address, how.options)?;
    socket.bind(&address.into())?;
    set_at(Moment::Bound, &socket, address, how.options)?;
    socket.listen(i32::try_from(how.backlog).unwrap_or(i32::MAX))?;
    set_at(Moment::Listening, &socket, address, how.options)?;
    Ok(socket.into())
}

fn set_options(socket: &Socket, is_ipv6: bool, options: &SocketOptions) -> io::Result<()> {
    match (options.freebind, is_ipv6) {
        (true, false) => socket.set_freebind_v4(true)?,
        (true, true) => socket.set_freebind_v6(true)?,
        (false, _) => {}
    }
    match (options.transparent, is_ipv6) {
        (true, false) => socket.set_ip_transparent_v4(true),
        (true, true) => socket.set_ip_transparent_v6(true),
        (false, _) => Ok(()),
    }
}

/// Those that are for this moment, and for sockets of this family.
fn set_at(
    moment: Moment,
    socket: &Socket,
    address: SocketAddr,
    options: &SocketOptions,
) -> io::Result<()> {
    let family = if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let is_due = |option: &&SocketOption| {
        option.moment == moment && option.family.is_none_or(|only| only == family)
    };
    let mut due = options.options.iter().filter(is_due);
    due.try_for_each(|option| socket_option::set(socket.as_fd(), option))
}

fn bind_unix(path: &Path, mode: Option<u32>, workers: usize) -> io::Result<Vec<BoundSocket>> {
    let listener = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            std::os::unix::net::UnixListener::bind_addr(&address)?
        }
        None => {
            remove_stale(path)?;
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            listener
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

    fn how(reuse_port: bool) -> How<'static> {
        const OPTIONS: &SocketOptions = &SocketOptions {
            freebind: true,
            transparent: false,
            multipath: false,
            takes_ipv4: false,
            mode: None,
            options: Vec::new(),
        };
        How {
            backlog: 16,
            reuse_port,
            options: OPTIONS,
        }
    }

    fn tcp(name: i32, number: i32) -> SocketOption {
        SocketOption::number(libc::IPPROTO_TCP, name, number)
    }

    #[test]
    fn options_are_set_and_inherited() {
        let late = SocketOption {
            moment: Moment::Listening,
            ..tcp(libc::TCP_KEEPCNT, 5)
        };
        let foreign = SocketOption {
            family: Some(Family::V6),
            ..tcp(libc::TCP_KEEPIDLE, 99)
        };
        let options = SocketOptions {
            options: vec![
                late,
                SocketOption::number(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
                tcp(libc::TCP_KEEPIDLE, 77),
                SocketOption::number(libc::SOL_SOCKET, libc::SO_RCVBUF, 9000),
                SocketOption::number(libc::IPPROTO_IP, libc::IP_TOS, 0x10),
                foreign,
            ],
            ..SocketOptions::default()
        };
        let how = How {
            options: &options,
            ..how(true)
        };
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (sockets, real) = BoundSocket::bind_all(&any, how, 1).unwrap();
        let (Some(BoundSocket::Tcp(listener)), Address::Socket(real)) = (sockets.first(), real)
        else {
            unreachable!("TCP was asked for")
        };
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(real).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let accepted = socket2::SockRef::from(&stream);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap().as_secs(), 77);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(accepted.tos_v4().unwrap(), 0x10);
        let listening = socket2::SockRef::from(listener);
        assert_eq!(
            listening.recv_buffer_size().unwrap(),
            18_000,
            "the system doubles it"
        );
    }

    #[test]
    fn an_option_nobody_knows_is_named() {
        let options = SocketOptions {
            options: vec![tcp(4711, 1)],
            ..SocketOptions::default()
        };
        let how = How {
            options: &options,
            ..how(true)
        };
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let error = BoundSocket::bind_all(&any, how, 1).unwrap_err().to_string();
        assert!(error.contains("socket option 4711 of level 6:"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_of_both_families_tells_them_apart() {
        let options = SocketOptions {
            takes_ipv4: true,
            ..SocketOptions::default()
        };
        let how = How {
            options: &options,
            ..how(true)
        };
        let any = Address::Socket(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)));
        let (mut sockets, real) = BoundSocket::bind_all(&any, how, 1).unwrap();
        let Address::Socket(real) = real else {
            unreachable!("TCP was asked for")
        };
        let acceptor = sockets.remove(0).into_acceptor().unwrap();
        for ip in ["127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = ip.parse().unwrap();
            let client = std::net::TcpStream::connect((ip, real.port())).unwrap();
            let stream = acceptor.accept().await.unwrap();
            assert_eq!(stream.peer_address(), client.local_addr().ok());
            assert_eq!(stream.local_address(), client.peer_addr().ok());
        }
    }

    #[test]
    fn a_socket_file_gets_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let options = SocketOptions {
            mode: Some(0o600),
            ..SocketOptions::default()
        };
        let how = How {
            options: &options,
            ..how(true)
        };
        let (_sockets, _) = BoundSocket::bind_all(&Address::Pipe(path.clone()), how, 1).unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn clients_of_one_path_are_welcome_where_several_are() {
        let options = SocketOptions {
            multipath: true,
            options: vec![SocketOption::number(
                libc::SOL_SOCKET,
                libc::SO_KEEPALIVE,
                1,
            )],
            ..SocketOptions::default()
        };
        let how = How {
            options: &options,
            ..how(true)
        };
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = BoundSocket::bind_all(&any, how, 1);
        if matches!(&bound, Err(error) if error.raw_os_error().is_some()) {
            return; // a kernel without it says so, and the listener is not made
        }
        let (sockets, real) = bound.unwrap();
        let (Some(BoundSocket::Tcp(listener)), Address::Socket(real)) = (sockets.first(), real)
        else {
            unreachable!("TCP was asked for")
        };
        let protocol = socket2::SockRef::from(listener).protocol().unwrap();
        assert_eq!(protocol, Some(Protocol::MPTCP));
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(real).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(socket2::SockRef::from(&stream).keepalive().unwrap());
    }

    #[test]
    fn workers_share_the_port_the_system_chose() {
        let any = Address::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (sockets, real) = BoundSocket::bind_all(&any, how(true), 3).unwrap();
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
        let (sockets, real) = BoundSocket::bind_all(&any, how(false), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        let error = BoundSocket::bind_all(&real, how(true), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_sockets, _) =
            BoundSocket::bind_all(&Address::Pipe(path.clone()), how(true), 2).unwrap();
        let error = BoundSocket::bind_all(&Address::Pipe(path), how(true), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
