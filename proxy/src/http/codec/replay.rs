//! Request bodies that can be sent again: what was read is kept, up to a bound of the request and those
//! of its connection, its listener and the process (`overload::held`). Beyond any nothing is kept any more, and the request goes out once.
//!
//! Invariant: only the latest [`Reading`] reads from the client, the others are of attempts that have
//! ended, or have read all there is.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;

use crate::http::codec::Error;
use crate::http::codec::Incoming;
use crate::http::codec::Progress;
use crate::http::codec::body::poll_recorded;
use crate::overload::held::Account;
use crate::overload::held::Direction;

/// A request body for several attempts.
#[derive(Debug)]
pub struct Replay {
    source: RefCell<Incoming>,
    progress: Rc<Progress>,
    kept: RefCell<Kept>,
    bytes_max: usize,
    /// Nothing is kept any more.
    is_released: Cell<bool>,
    /// Because it was too much.
    overflowed: Cell<bool>,
    /// The client's body has ended.
    is_end: Cell<bool>,
}

/// What was read.
#[derive(Debug, Default)]
struct Kept {
    /// What attempts before the latest have read.
    blocks: Vec<Bytes>,
    /// What the latest has read.
    tail: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Of all that.
    bytes: usize,
    /// Room taken for it.
    taken: usize,
}

impl Replay {
    /// The body of a client, of which at most `bytes_max` bytes are kept.
    pub fn new(source: Incoming, progress: Rc<Progress>, bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            source: RefCell::new(source),
            progress,
            kept: RefCell::default(),
            bytes_max,
            is_released: Cell::new(false),
            overflowed: Cell::new(false),
            is_end: Cell::new(false),
        })
    }

    /// The body from its beginning.
    pub fn read(self: &Rc<Self>) -> Reading {
        let kept = &mut *self.kept.borrow_mut();
        if !kept.tail.is_empty() {
            kept.blocks.push(std::mem::take(&mut kept.tail).into());
        }
        Reading {
            replay: Rc::clone(self),
            next: 0,
            blocks: kept.blocks.len(),
            has_trailers: self.is_end.get() && kept.trailers.is_some(),
        }
    }

    /// Keeps nothing any more: there will be no other attempt.
    pub fn release(&self) {
        if !self.is_released.replace(true) {
            let mut kept = self.kept.borrow_mut();
            self.give_back(std::mem::take(&mut kept.taken));
            kept.tail = Vec::new();
        }
    }

    fn give_back(&self, room: usize) {
        if let Some(account) = self.progress.account().filter(|_| room > 0) {
            account.release(room);
        }
    }

    /// Whether it was too much to be kept.
    pub fn overflowed(&self) -> bool {
        self.overflowed.get()
    }

    /// Whether all of it was read.
    pub fn is_complete(&self) -> bool {
        self.is_end.get()
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_end.get() {
            return Poll::Ready(None);
        }
        let mut source = self.source.borrow_mut();
        let frame = std::task::ready!(poll_recorded(&mut source, &self.progress, cx));
        self.is_end.set(frame.is_none() || source.is_end_stream());
        if let Some(Ok(frame)) = &frame {
            self.keep(frame);
        }
        Poll::Ready(frame)
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        if self.is_released.get() {
            return;
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.kept.borrow_mut().trailers = Some(trailers.clone());
            return;
        }
        let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
        let kept = &mut *self.kept.borrow_mut();
        if kept.keep(data, self.bytes_max, self.progress.open_account()) {
            return;
        }
        self.overflowed.set(true);
        self.is_released.set(true);
        self.give_back(kept.taken);
        *kept = Kept::default(); // whoever reads from the client is past the blocks
    }
}

impl Kept {
    /// Keeps a copy, because a piece of a buffer would keep the whole buffer; false if that is too much.
    fn keep(&mut self, data: &[u8], bytes_max: usize, account: &Account) -> bool {
        let bytes = self.bytes.saturating_add(data.len());
        if bytes > bytes_max {
            return false;
        }
        let free = self.tail.capacity() - self.tail.len();
        if data.len() > free {
            // It doubles, but never beyond what may be kept.
            let most = bytes_max.saturating_sub(self.bytes);
            let more = data.len().max(self.tail.capacity()).min(most);
            if !account.keep(more.saturating_sub(free)) {
                return false;
            }
            self.taken += more.saturating_sub(free);
            self.tail.reserve_exact(more);
        }
        self.bytes = bytes;
        self.tail.extend_from_slice(data);
        true
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.release();
    }
}

/// The body as one attempt reads it.
#[derive(Debug)]
pub struct Reading {
    replay: Rc<Replay>,
    /// The next block.
    next: usize,
    /// Those that were there when it began.
    blocks: usize,
    /// Trailers were kept, and are still to be read.
    has_trailers: bool,
}

impl Reading {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.go_on();
        let block = self.replay.kept.borrow().blocks.get(self.next).cloned();
        if let Some(block) = block.filter(|_| self.next < self.blocks) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(block))));
        }
        if std::mem::take(&mut self.has_trailers) {
            let trailers = self.replay.kept.borrow().trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        self.replay.poll_source(cx)
    }

    pub(super) fn poll_waiting(&self, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        let replay = &*self.replay;
        let unread = || replay.source.borrow_mut().unread();
        let account = replay.progress.open_account();
        account.poll_waiting(Direction::Request, bytes, unread, cx)
    }

    pub(super) fn go_on(&self) {
        if let Some(account) = self.replay.progress.account() {
            account.go_on(Direction::Request);
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let replay = &*self.replay;
        let has_come = replay.is_end.get() || replay.source.borrow().is_end_stream();
        self.next >= self.blocks && !self.has_trailers && has_come
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::Instant;

    use super::*;
    use crate::overload::held::OfConnection;

    fn replay(bytes_max: usize) -> Rc<Replay> {
        let progress = Rc::new(Progress::new(Instant::now(), &OfConnection::alone()));
        Replay::new(Incoming::empty(), progress, bytes_max)
    }

    /// What is read, without asking the client.
    fn read(replay: &Rc<Replay>) -> (Vec<u8>, bool) {
        let mut reading = replay.read();
        let (mut bytes, mut has_trailers) = (Vec::new(), false);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = reading.poll_frame(&mut cx) {
            has_trailers |= frame.is_trailers();
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        assert!(reading.is_end_stream());
        (bytes, has_trailers)
    }

    #[test]
    fn every_reading_begins_anew() {
        let replay = replay(10);
        assert_eq!(read(&replay), (Vec::new(), false));
        replay.is_end.set(false);
        replay.keep(&Frame::data(Bytes::from_static(b"abc")));
        assert_eq!(read(&replay).0, b"abc");
        replay.keep(&Frame::data(Bytes::from_static(b"defg")));
        replay.keep(&Frame::trailers(HeaderMap::new()));
        assert!(replay.is_complete());
        for _ in 0..2 {
            assert_eq!(read(&replay), (b"abcdefg".to_vec(), true));
        }
        assert!(!replay.overflowed());
    }

    #[test]
    fn too_much_is_not_kept() {
        let replay = replay(4);
        replay.keep(&Frame::data(Bytes::from_static(b"abcd")));
        assert!(!replay.overflowed());
        replay.keep(&Frame::data(Bytes::from_static(b"e")));
        assert!(replay.overflowed());
        assert_eq!(replay.kept.borrow().bytes, 0);
        replay.keep(&Frame::data(Bytes::from_static(b"f")));
        assert_eq!(replay.kept.borrow().bytes, 0);
    }

    #[test]
    fn room_is_taken_for_what_is_reserved() {
        let account = Account::open(&OfConnection::alone());
        let mut kept = Kept::default();
        for _ in 0..100 {
            assert!(kept.keep(b"abc", 300, &account));
            assert_eq!(kept.taken, kept.tail.capacity());
        }
        assert!(!kept.keep(b"a", 300, &account));
        assert_eq!((kept.bytes, kept.taken), (300, 300));
    }
}
