//! What a connection of HTTP/1.1 goes on as after a 101, and a stream of HTTP/2 after an extended CONNECT.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::http::http2::extended::Http2Stream;
use crate::net::NetStream;
use crate::tcp::End;

/// An extension of a request whose `Connection` offers an upgrade (RFC 9110 section 7.8), or that HTTP/2 asks
/// for by an extended CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct AsksUpgrade;

/// The client's end of what follows.
#[derive(Debug)]
pub enum Client<'c> {
    /// A whole connection.
    Connection(&'c mut NetStream),
    /// A stream of one.
    Stream(&'c mut Http2Stream),
}

impl End for Client<'_> {
    fn socket(&self) -> Option<&NetStream> {
        match self {
            Self::Connection(stream) => stream.socket(),
            Self::Stream(_) => None,
        }
    }
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// A body of a response that may take over the connection, if the response is a 101.
pub trait Switch {
    /// These bytes came after the request.
    fn begin(&mut self, early: Vec<u8>);

    /// Passes bytes on; ready at the end of all. `is_last_word`: the connection is about to be cut.
    fn poll_switched(
        &mut self,
        client: &mut Client<'_>,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()>;

    /// Bytes from the client and to it.
    fn moved(&self) -> (u64, u64);
}
