//! The end of a downstream connection: its sending side is closed, and what comes is thrown away until the peer
//! has closed as well.
//!
//! Closing a socket that has unread bytes resets it: a peer that is just writing, a window update or one more
//! request, fails then before it has read what it was sent (RFC 9112 section 9.6; Envoy's
//! `delayed_close_timeout`).

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use crate::net::NetStream;

/// How long all of it takes: a peer that reads at all has read by then.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away meanwhile; whoever sends more does not mean to end.
const DISCARD_MAX: usize = 256 * 1024;

/// Thrown away at once.
const PIECE: usize = 2 * 1024;

/// A connection whose last byte was written.
#[derive(Debug)]
pub(in crate::http) struct Linger {
    end: Pin<Box<Sleep>>,
    left: usize,
    is_shut: bool,
}

impl Linger {
    /// From now on.
    pub(in crate::http) fn new() -> Self {
        Self {
            end: Box::pin(tokio::time::sleep(LINGER)),
            left: DISCARD_MAX,
            is_shut: false,
        }
    }

    /// Ready when the peer has closed or failed, or enough was waited for: however it ends, the connection
    /// is over.
    pub(in crate::http) fn poll_over(
        &mut self,
        stream: &mut NetStream,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.is_shut {
            let shut = std::task::ready!(Pin::new(&mut *stream).poll_shutdown(cx));
            if shut.is_err() {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        let mut piece = [0; PIECE];
        while self.left > 0 {
            let mut buf = ReadBuf::new(&mut piece);
            let read = std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf));
            let len = buf.filled().len();
            if read.is_err() || len == 0 {
                break;
            }
            self.left = self.left.saturating_sub(len);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;
    use tokio::time::Instant;

    use super::*;

    fn pair() -> (NetStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (NetStream::Unix(ours), theirs)
    }

    async fn over(linger: &mut Linger, stream: &mut NetStream) {
        std::future::poll_fn(|cx| linger.poll_over(stream, cx)).await;
    }

    #[tokio::test]
    async fn it_is_over_when_the_peer_has_closed() {
        let (mut ours, mut theirs) = pair();
        let mut linger = Linger::new();
        let sent = [0; 3 * PIECE];
        theirs.write_all(&sent).await.expect("there is room");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(linger.poll_over(&mut ours, &mut cx).is_pending());
        let end = theirs.read(&mut [0]).await;
        assert_eq!(end.expect("nothing failed"), 0, "it is told the end");
        drop(theirs);
        over(&mut linger, &mut ours).await;
        assert!(!linger.end.is_elapsed());
        assert_eq!(linger.left, DISCARD_MAX - sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stays_is_left_after_a_while() {
        let (mut ours, _theirs) = pair();
        let before = Instant::now();
        over(&mut Linger::new(), &mut ours).await;
        assert!(before.elapsed() >= LINGER);
    }

    #[tokio::test]
    async fn a_peer_that_goes_on_is_left_when_it_has_sent_enough() {
        let (mut ours, mut theirs) = pair();
        let mut linger = Linger::new();
        let more = vec![0; 2 * DISCARD_MAX];
        tokio::select! {
            () = over(&mut linger, &mut ours) => {}
            sent = theirs.write_all(&more) => panic!("all of it was taken: {sent:?}"),
        }
        assert_eq!(linger.left, 0);
    }
}
