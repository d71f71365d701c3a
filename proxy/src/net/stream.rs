//! A connected socket, TCP or Unix, or TLS over one of them, as one type.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::io::Ready;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

use crate::config::endpoint::Address;
use crate::net::TlsStream;
use crate::net::socket_option;

/// Most bytes that can be peeked at: a PROXY protocol header of the largest size it can announce.
pub const PEEK_BYTES_MAX: usize = 16 + 65_535;

thread_local! {
    /// What is peeked at is looked at and forgotten before anything else runs, so that a worker
    /// needs one buffer and a silent connection none.
    static PEEKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connected socket.
#[derive(Debug)]
pub enum NetStream {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream>),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A connected socket that belongs to no thread.
#[derive(Debug)]
pub enum PlainSocket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix.
    Unix(std::os::unix::net::UnixStream),
}

impl PlainSocket {
    /// Gives it to this thread's runtime.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn into_stream(self) -> io::Result<NetStream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(NetStream::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(NetStream::Unix),
        }
    }
}

impl NetStream {
    /// Connects; `TCP_NODELAY` is set, as a proxy has already gathered what belongs together.
    ///
    /// # Errors
    /// Whatever the system says of the connection attempt.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Pipe(path) => UnixStream::connect(path).await.map(Self::Unix),
            Address::Socket(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Whether an idle connection has neither data nor its end waiting to be read. Costs a system call
    /// only if something has happened to the socket since it was last read.
    pub fn is_idle_clean(&mut self) -> bool {
        if let Self::Tls(stream) = self {
            return stream.is_idle_clean();
        }
        let read = self.try_read_socket(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the socket has bytes that nobody has read. The system is asked, because the runtime hears of
    /// them only when its worker has nothing else to do.
    pub fn has_unread(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(self, &mut [0; 1], flags);
        matches!(peeked, Ok((len, _)) if len > 0)
    }

    /// Reads what the socket has, if the runtime has heard of something.
    pub(super) fn try_read_socket(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Tls(stream) => stream.socket().try_read_socket(buf),
            Self::Unix(stream) => stream.try_read(buf),
        }
    }

    /// Whether the socket's bytes are the stream's bytes, so that they can be spliced.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
        }
    }

    /// Makes the other end see a reset instead of an end when this is dropped.
    pub fn reset_on_close(&self) {
        // Refused only for a socket that is gone already.
        let _ = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }

    /// Ready once the socket may have something to read.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn poll_socket_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.socket().poll_socket_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Ready once the socket may take something.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn poll_socket_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.socket().poll_socket_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Our end, if it is TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(plain),
            Self::Tls(stream) => stream.socket().local_address(),
            Self::Unix(_) => None,
        }
    }

    /// The round-trip time that the kernel measured, if it is TCP. One system call.
    pub fn round_trip(&self) -> Option<Duration> {
        match self {
            Self::Tcp(stream) => socket_option::round_trip(stream.as_fd()),
            Self::Tls(stream) => stream.socket().round_trip(),
            Self::Unix(_) => None,
        }
    }

    /// Where the connection was going before netfilter redirected it to us, if it did.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        let Self::Tcp(stream) = self else { return None };
        let socket = socket2::SockRef::from(stream);
        let original = if self.local_address()?.is_ipv4() {
            socket.original_dst_v4()
        } else {
            socket.original_dst_v6()
        };
        original.ok()?.as_socket()
    }

    /// The other end, if it is TCP.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(plain),
            Self::Tls(stream) => stream.socket().peer_address(),
            Self::Unix(_) => None,
        }
    }
}

/// IPv4 as such, though it came by a socket for both families.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl NetStream {
    /// Shows the first bytes to `look`, again each time more have come, until it returns something;
    /// none if the stream ends, or holds `max` bytes, and `look` still wants more. Nothing is taken
    /// out of the socket.
    ///
    /// # Errors
    /// Whatever the system says.
    ///
    /// # Cancel safety
    /// Nothing is lost, but [`Self::look_again`] must be called before the stream is read.
    pub async fn peek_until<T>(
        &self,
        max: usize,
        mut look: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let max = max.min(PEEK_BYTES_MAX);
        let mut seen = 0;
        loop {
            let ready = self.ready(Interest::READABLE).await?;
            let step = self.try_io(Interest::READABLE, || {
                PEEKED.with_borrow_mut(|buffer| {
                    buffer.resize(max.max(buffer.len()), 0);
                    let buffer = buffer.get_mut(..max).unwrap_or_default();
                    let (_, len) = rustix::net::recv(self, &mut *buffer, RecvFlags::PEEK)?;
                    let is_all = len == 0 || len >= max || ready.is_read_closed();
                    if len <= seen && !is_all {
                        return Err(io::ErrorKind::WouldBlock.into()); // until more comes
                    }
                    seen = len;
                    let bytes = buffer.get(..len.min(max)).unwrap_or_default();
                    match look(bytes) {
                        None if !is_all => Err(io::ErrorKind::WouldBlock.into()),
                        found => Ok(found),
                    }
                })
            });
            match step {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                step => return step,
            }
        }
    }

    /// Takes exactly `len` bytes that were peeked at out of the socket.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn skip(&self, len: usize) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            left -= self.try_io(Interest::READABLE, || {
                PEEKED.with_borrow_mut(|buffer| {
                    let end = left.min(buffer.len());
                    let buffer = buffer.get_mut(..end).unwrap_or_default();
                    match rustix::net::recv(self, &mut *buffer, RecvFlags::empty())? {
                        (_, 0) => Err(io::ErrorKind::UnexpectedEof.into()),
                        (_, len) => Ok(len),
                    }
                })
            })?;
        }
        Ok(())
    }

    /// Makes the runtime ask the system again whether there is something to read: after peeking was
    /// given up, it believes that there is not.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn look_again(self) -> io::Result<Self> {
        self.into_plain()?.into_stream()
    }

    /// Takes the socket away from this thread's runtime.
    ///
    /// # Errors
    /// Whatever the system says; of TLS, which is more than a socket.
    pub fn into_plain(self) -> io::Result<PlainSocket> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(PlainSocket::Tcp),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Unix(stream) => stream.into_std().map(PlainSocket::Unix),
        }
    }

    /// Waits until the socket may be ready for `interest`.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()), // ready is not the socket's word
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// Does `io` if the socket may be ready; if it says that it is not, that is remembered.
    ///
    /// # Errors
    /// Whatever `io` says.
    pub fn try_io<R>(
        &self,
        interest: Interest,
        io: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, io),
            Self::Tls(stream) => stream.socket().try_io(interest, io),
            Self::Unix(stream) => stream.try_io(interest, io),
        }
    }
}

impl AsFd for NetStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.socket().as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for NetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair() -> (NetStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (NetStream::Unix(ours), theirs)
    }

    fn line(bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte == b'\n')
    }

    #[tokio::test]
    async fn peeking_waits_for_more_and_takes_nothing() {
        let (mut ours, mut theirs) = pair();
        let write = async {
            for byte in b"abc\nd" {
                theirs.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (found, ()) = tokio::join!(ours.peek_until(100, line), write);
        assert_eq!(found.unwrap(), Some(3));
        ours.skip(2).unwrap();
        let mut rest = [0; 3];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"c\nd");
    }

    #[tokio::test]
    async fn peeking_ends_with_the_stream_and_at_the_limit() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"abc").await.unwrap();
        assert_eq!(ours.peek_until(3, line).await.unwrap(), None);
        drop(theirs);
        assert_eq!(ours.peek_until(100, line).await.unwrap(), None);
        let (ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.peek_until(100, line).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_peeked_at_in_vain_can_still_be_read() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"abc").await.unwrap();
        let peeked = tokio::time::timeout(Duration::from_secs(1), async {
            ours.peek_until(100, line).await
        });
        assert!(peeked.await.is_err());
        let mut ours = ours.look_again().unwrap();
        let mut bytes = [0; 3];
        ours.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"abc");
    }
}
