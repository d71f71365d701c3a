//! Sockets as every measurement wants them: loopback, no Nagle delay, cubic.
//!
//! BBR paces with kernel timers even on loopback, which makes bandwidth and tails noisy; so our own
//! ends ask for cubic. A process without the right keeps the system's default; the comparison
//! prints what is in force.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// The congestion control of every measured connection.
pub(crate) const CONGESTION: &str = "cubic";

/// Connections the kernel may hold for one of our listeners; the comparison opens 10,000 at once.
const BACKLOG: i32 = 16_384;

/// Connects to `target` with the options of a measurement.
pub(crate) async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    tune(&stream)?;
    Ok(stream)
}

/// Accepted and connected sockets pass here once.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let _refused_without_privilege =
        SockRef::from(stream).set_tcp_congestion(CONGESTION.as_bytes());
    Ok(())
}

/// Listens on `port` of 127.0.0.1; 0 takes a free one.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it, so the accept path needs no call of its own.
    let _refused_without_privilege = socket.set_tcp_congestion(CONGESTION.as_bytes());
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
