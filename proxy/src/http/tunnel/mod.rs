//! What follows a 101: bytes of another protocol, both ways, until either side ends. A WebSocket that has
//! to go is told so first.
//!
//! Bytes take the way of TCP streams (`tcp::Direction`): spliced when both sides are plain. Of a WebSocket
//! only the payload of large frames is, so that ends of frames are known.
//!
//! | file | holds |
//! |---|---|
//! | `frames` | where a direction stands among the frames of a WebSocket |
//! | `farewell` | Close frames of our own, and the wait for the answers |

mod farewell;
mod frames;

use std::task::Context;
use std::task::Poll;

use crate::http::codec::Peer;
use crate::tcp::Broken;
use crate::tcp::Direction;
use crate::tcp::End;
use crate::tcp::Watch;
use farewell::Farewell;
use frames::Frames;

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Ended {
    /// The client.
    Client,
    /// We did, and both sides were told if they could be.
    Told,
    /// The upstream.
    Upstream,
}

/// The bytes between a client and an upstream that have agreed on another protocol.
#[derive(Debug)]
pub(in crate::http) struct Tunnel {
    up: Way,
    down: Way,
    /// Bytes held, each way.
    bytes_max: usize,
    /// Once it has to go.
    farewell: Option<Box<Farewell>>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    direction: Direction,
    watched: Watched,
}

#[derive(Debug)]
struct Watched {
    /// Of a WebSocket.
    frames: Option<Frames>,
    /// Stops between two frames.
    stops: bool,
}

impl Watch for Watched {
    fn read_max(&self) -> usize {
        match &self.frames {
            Some(frames) if self.stops => frames.bytes_left(),
            Some(_) | None => usize::MAX,
        }
    }

    fn splice_max(&self) -> usize {
        self.frames.as_ref().map_or(usize::MAX, Frames::payload_max)
    }

    fn saw(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.take(bytes);
        }
    }

    fn spliced(&mut self, len: usize) {
        if let Some(frames) = &mut self.frames {
            frames.skip(len);
        }
    }
}

impl Way {
    /// `early` was read before.
    fn new(is_websocket: bool, early: Vec<u8>, bytes_max: usize) -> Self {
        let mut watched = Watched {
            frames: is_websocket.then(Frames::default),
            stops: false,
        };
        watched.saw(&early);
        Self {
            direction: Direction::new(early, bytes_max),
            watched,
        }
    }

    fn poll(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.direction.poll_watched(from, to, &mut self.watched, cx)
    }
}

impl Tunnel {
    /// `early` came from the upstream after its head; no more than `bytes_max` are held, each way.
    pub(in crate::http) fn new(is_websocket: bool, early: Vec<u8>, bytes_max: usize) -> Self {
        Self {
            up: Way::new(is_websocket, Vec::new(), bytes_max),
            down: Way::new(is_websocket, early, bytes_max),
            bytes_max,
            farewell: None,
        }
    }

    /// These came from the client after its request, before anything was read for the tunnel.
    pub(in crate::http) fn add_early(&mut self, early: Vec<u8>) {
        self.up.watched.saw(&early);
        self.up.direction = Direction::new(early, self.bytes_max);
    }

    /// Bytes read from the client and from the upstream.
    pub(in crate::http) fn moved(&self) -> (u64, u64) {
        (self.up.direction.received, self.down.direction.received)
    }

    /// Bytes that passed unseen.
    #[cfg(test)]
    fn spliced(&self) -> u64 {
        self.up.direction.spliced + self.down.direction.spliced
    }

    /// Passes bytes on until somebody ends it. The end of either side is the end of both, as in Envoy; that of a
    /// client's stream is passed on, and the rest is up to the upstream.
    pub(in crate::http) fn poll(
        &mut self,
        mut client: &mut dyn Peer,
        mut upstream: &mut dyn Peer,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        if self.farewell.is_some() {
            return self
                .poll_farewell(client, upstream, cx)
                .map(|()| Ended::Told);
        }
        match self.down.poll(&mut upstream, &mut client, cx) {
            Poll::Ready(Ok(()) | Err(Broken::From)) => return Poll::Ready(Ended::Upstream),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::Client),
            Poll::Pending => {}
        }
        match self.up.poll(&mut client, &mut upstream, cx) {
            Poll::Ready(Ok(())) => client.poll_gone(cx).map(|()| Ended::Client),
            Poll::Ready(Err(Broken::From)) => Poll::Ready(Ended::Client),
            Poll::Ready(Err(Broken::To)) => Poll::Ready(Ended::Upstream),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether it says goodbye already.
    pub(in crate::http) fn is_leaving(&self) -> bool {
        self.farewell.is_some()
    }

    /// Begins to say goodbye; false if nothing can be said in its protocol. `mask` is for what goes to the
    /// upstream.
    pub(in crate::http) fn leave(&mut self, mask: [u8; 4]) -> bool {
        let (Some(up), Some(down)) = (&self.up.watched.frames, &self.down.watched.frames) else {
            return false;
        };
        let farewell = Farewell::new((up.is_closed(), down.is_closed()), mask);
        self.up.watched.stops = true;
        self.down.watched.stops = true;
        self.farewell.get_or_insert_with(|| Box::new(farewell));
        true
    }
}

#[cfg(test)]
mod tests;
