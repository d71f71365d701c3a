//! What a connection of HTTP/1.1 goes on as after a 101, and a stream of HTTP/2 after an extended CONNECT.

use std::task::Context;
use std::task::Poll;

use crate::net::NetStream;
use crate::tcp::End;

/// An extension of a request whose `Connection` offers an upgrade (RFC 9110 section 7.8), or that HTTP/2 asks
/// for by an extended CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct AsksUpgrade;

/// How a side of what follows has ended, or broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It said its end.
    Ended,
    /// Its connection is gone, or is all there was of it.
    Lost,
    /// What one of us had sent was not well-formed.
    Malformed,
    /// It refused the stream, which may go elsewhere.
    Refused,
    /// It reset the stream.
    Reset,
    /// It lost what was behind the stream.
    Severed,
}

/// One side of what follows: a whole connection, or a stream of one.
pub trait Peer: End + std::fmt::Debug {
    /// It sends no more: ready when it reads no more, either. Of a connection the one is the other, as in Envoy.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Ready once nothing that was written would be lost if it were left now.
    fn poll_sent(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// How it ended, once it has.
    fn fate(&self) -> Fate {
        Fate::Lost
    }
}

impl Peer for NetStream {}

impl End for &mut dyn Peer {
    fn socket(&self) -> Option<&NetStream> {
        (**self).socket()
    }
}

/// A body of a response that may take over the connection, if the response is a 101.
pub trait Switch {
    /// These bytes came after the request.
    fn begin(&mut self, early: Vec<u8>);

    /// Passes bytes on; ready at the end of all. `is_last_word`: the connection is about to be cut.
    fn poll_switched(
        &mut self,
        client: &mut dyn Peer,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()>;

    /// Bytes from the client and to it.
    fn moved(&self) -> (u64, u64);
}
