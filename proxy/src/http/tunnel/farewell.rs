//! Close frames with 1001, "going away" (RFC 6455 section 7.4.1), put between two frames of the other side;
//! then both sides have a while to answer.
//!
//! A side that is in the middle of a frame when the time is over is not told.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::config::limits;
use crate::http::codec::Peer;
use crate::http::tunnel::Tunnel;
use crate::http::tunnel::Way;
use crate::timer::LazyTimer;

/// FIN, opcode Close; the length of its payload.
const HEADER: [u8; 2] = [0x88, 2];

/// 1001.
const GOING_AWAY: [u8; 2] = [0x03, 0xe9];

const MASKED: u8 = 0x80;

/// What is read of an answer at once; it is thrown away.
const DISCARD_BYTES: usize = 1024;

/// How far saying goodbye has come.
#[derive(Debug)]
pub(super) struct Farewell {
    client: Side,
    upstream: Side,
    until: Instant,
    timer: LazyTimer,
}

#[derive(Debug)]
struct Side {
    /// What is left of our Close frame.
    frame: Vec<u8>,
    /// It is in the socket.
    is_told: bool,
    /// Nothing more is said to it: it is told, or cannot be.
    is_over: bool,
}

impl Side {
    /// A side to which a Close frame has gone before is told nothing.
    fn new(is_closed: bool, frame: Vec<u8>) -> Self {
        Self {
            frame: if is_closed { Vec::new() } else { frame },
            is_told: false,
            is_over: false,
        }
    }

    /// Writes the frame, once the way to this side stands between two frames.
    fn poll_tell(&mut self, stream: &mut dyn Peer, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frame.is_empty() {
            let len = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &self.frame))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.frame.drain(..len);
        }
        std::task::ready!(Pin::new(&mut *stream).poll_flush(cx))?;
        self.is_told = true;
        Poll::Ready(Ok(()))
    }
}

impl Farewell {
    /// Whether a Close frame has gone up, and down.
    pub(super) fn new((up, down): (bool, bool), mask: [u8; 4]) -> Self {
        let [first, second, ..] = mask;
        let [high, low] = GOING_AWAY;
        let to_upstream = [
            &[HEADER[0], HEADER[1] | MASKED][..],
            &mask,
            &[high ^ first, low ^ second],
        ];
        Self {
            client: Side::new(down, [HEADER, GOING_AWAY].concat()),
            upstream: Side::new(up, to_upstream.concat()),
            until: Instant::now() + limits::LAST_WORD,
            timer: LazyTimer::default(),
        }
    }
}

impl Tunnel {
    /// Ready once both sides were told and have answered, or their time is over.
    pub(super) fn poll_farewell(
        &mut self,
        client: &mut dyn Peer,
        upstream: &mut dyn Peer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(farewell) = &mut self.farewell else {
            return Poll::Ready(());
        };
        poll_stop(&mut self.down, (upstream, client), &mut farewell.client, cx);
        poll_stop(&mut self.up, (client, upstream), &mut farewell.upstream, cx);
        // Whoever sends is read by its way until that has stopped.
        if farewell.upstream.is_told || farewell.upstream.is_over {
            poll_answer(&mut self.up, client, &mut farewell.client, cx);
        }
        if farewell.client.is_told || farewell.client.is_over {
            poll_answer(&mut self.down, upstream, &mut farewell.upstream, cx);
        }
        if farewell.client.is_over && farewell.upstream.is_over {
            return Poll::Ready(());
        }
        farewell.timer.poll_until(farewell.until, cx)
    }
}

/// Passes on what is left of a frame, then tells the side the way leads to.
fn poll_stop(
    way: &mut Way,
    (mut from, mut to): (&mut dyn Peer, &mut dyn Peer),
    side: &mut Side,
    cx: &mut Context<'_>,
) {
    if side.is_told || side.is_over {
        return;
    }
    let is_between = |way: &Way| {
        let frames = way.watched.frames.as_ref();
        frames.is_some_and(super::Frames::is_between) && way.direction.holds_nothing()
    };
    if !is_between(way) && way.poll(&mut from, &mut to, cx).is_ready() {
        side.is_over = true; // it broke off in the middle
        return;
    }
    if is_between(way) && matches!(side.poll_tell(to, cx), Poll::Ready(Err(_))) {
        side.is_over = true;
    }
}

/// Reads until the side, which the way leads from, has sent its Close frame or its end.
fn poll_answer(way: &mut Way, from: &mut dyn Peer, side: &mut Side, cx: &mut Context<'_>) {
    while side.is_told && !side.is_over {
        let frames = way.watched.frames.get_or_insert_default();
        if frames.is_closed() {
            // The frame is in the socket; that the end could not be said is no matter.
            side.is_over = Pin::new(&mut *from).poll_shutdown(cx).is_ready();
            return;
        }
        let mut bytes = [0; DISCARD_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => frames.take(buffer.filled()),
            Poll::Ready(Ok(()) | Err(_)) => side.is_over = true,
        }
    }
}
