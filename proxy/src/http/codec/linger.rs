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

use crate::http::codec::IoFacts;
use crate::net::NetStream;

/// Bytes that are thrown away meanwhile; whoever sends more does not mean to end.
const DISCARD_MAX: usize = 256 * 1024;

/// Thrown away at once.
const PIECE: usize = 2 * 1024;

/// A connection whose last byte was written.
#[derive(Debug)]
pub(in crate::http) struct Linger {
    /// None if the peer is not waited for.
    end: Option<Pin<Box<Sleep>>>,
    left: usize,
    is_shut: bool,
}

impl Linger {
    /// From now on, all of it.
    pub(in crate::http) fn new(patience: Option<Duration>) -> Self {
        Self {
            end: patience.map(|patience| Box::pin(tokio::time::sleep(patience))),
            left: DISCARD_MAX,
            is_shut: false,
        }
    }

    /// Ready when the peer has closed or failed, or enough was waited for: however it ends, the connection
    /// is over.
    pub(in crate::http) fn poll_over(
        &mut self,
        stream: &mut NetStream,
        facts: &IoFacts,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(end) = &mut self.end else {
            // As far as the socket takes it.
            let _ = Pin::new(stream).poll_shutdown(cx);
            return Poll::Ready(());
        };
        if end.as_mut().poll(cx).is_ready() {
            facts.is_cut.set(true);
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

    const PATIENCE: Duration = Duration::from_secs(3);

    fn pair() -> (NetStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (NetStream::Unix(ours), theirs)
    }

    /// Whether the peer took too long.
    async fn over(linger: &mut Linger, stream: &mut NetStream) -> bool {
        let facts = IoFacts::default();
        std::future::poll_fn(|cx| linger.poll_over(stream, &facts, cx)).await;
        facts.is_cut.get()
    }

    #[tokio::test]
    async fn it_is_over_when_the_peer_has_closed() {
        let (mut ours, mut theirs) = pair();
        let mut linger = Linger::new(Some(PATIENCE));
        let sent = [0; 3 * PIECE];
        theirs.write_all(&sent).await.expect("there is room");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = linger.poll_over(&mut ours, &IoFacts::default(), &mut cx);
        assert!(polled.is_pending());
        let end = theirs.read(&mut [0]).await;
        assert_eq!(end.expect("nothing failed"), 0, "it is told the end");
        drop(theirs);
        assert!(!over(&mut linger, &mut ours).await);
        assert_eq!(linger.left, DISCARD_MAX - sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stays_is_left_after_a_while() {
        let (mut ours, _theirs) = pair();
        let before = Instant::now();
        assert!(over(&mut Linger::new(Some(PATIENCE)), &mut ours).await);
        assert!(before.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_peer_that_goes_on_is_left_when_it_has_sent_enough() {
        let (mut ours, mut theirs) = pair();
        let mut linger = Linger::new(Some(PATIENCE));
        let more = vec![0; 2 * DISCARD_MAX];
        tokio::select! {
            is_cut = over(&mut linger, &mut ours) => assert!(!is_cut),
            sent = theirs.write_all(&more) => panic!("all of it was taken: {sent:?}"),
        }
        assert_eq!(linger.left, 0);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_where_there_is_no_patience() {
        let (mut ours, mut theirs) = pair();
        assert!(!over(&mut Linger::new(None), &mut ours).await);
        let end = theirs.read(&mut [0]).await;
        assert_eq!(end.expect("nothing failed"), 0, "it is told the end");
    }
}
