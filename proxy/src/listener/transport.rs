//! The step between socket and filter: the transport socket of the chosen chain.

use crate::config::filter_chain::TransportSocket;
use crate::downstream::Downstream;
use crate::listener::ActiveChain;
use crate::net::NetStream;

/// The stream as the chain's filter reads it; none if the client failed to get there. What the
/// transport learns of the client is added to `downstream`.
#[expect(
    clippy::unused_async,
    reason = "a handshake waits for the client and learns who it is"
)]
pub(super) async fn accept(
    chain: &ActiveChain,
    stream: NetStream,
    _downstream: &mut Downstream,
) -> Option<NetStream> {
    match chain.config.transport_socket {
        TransportSocket::Raw => Some(stream),
    }
}
