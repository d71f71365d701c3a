//! What a connection of HTTP/1.1 goes on as after a 101.

use std::task::Context;
use std::task::Poll;

use crate::net::NetStream;

/// An extension of a request whose `Connection` offers an upgrade (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug)]
pub struct AsksUpgrade;

/// A body of a response that may take over the connection, if the response is a 101.
pub trait Switch {
    /// These bytes came after the request.
    fn begin(&mut self, early: Vec<u8>);

    /// Passes bytes on; ready at the end of all. `is_last_word`: the connection is about to be cut.
    fn poll_switched(
        &mut self,
        client: &mut NetStream,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()>;

    /// Bytes from the client and to it.
    fn moved(&self) -> (u64, u64);
}
