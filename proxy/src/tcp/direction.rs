//! One direction of a relay: bytes from one stream to the other, then the end of the one as the half
//! close of the other.
//!
//! Bytes are copied through a scratch buffer of the worker while they are few, and spliced once they
//! come in bulk and both streams are plain sockets. Reading stops while the other side takes
//! nothing. Invariant: a direction that waits for its reader's side holds neither pipe nor buffer;
//! one that waits for its writer's side holds at most one of them, or what the writer's TLS holds.
//!
//! What is read at once is what may have to be kept, so it grows with a stream that is taken as fast
//! as it comes, and shrinks with one that is not.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::io::ReadBuf;

use crate::config::limits;
use crate::net::NetStream;
use crate::net::Pipe;

/// First size of a read; when one fills it, the stream is in bulk. A record of TLS has as much.
const READ_BYTES_USUAL: usize = limits::BUFFER_BYTES / 2;

/// Least size of a read from a plain socket towards TLS, which is never spliced: a page.
const READ_BYTES_MIN: usize = 4 * 1024;

/// A splice that moves less than this costs more than a copy.
const BULK_BYTES: usize = 4 * 1024;

/// Small splices in a row after which the direction copies again.
const SMALL_MAX: u8 = 8;

/// Rounds before other tasks of the worker get a turn: some 4 MB.
const ROUNDS_MAX: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A stream of bytes that a direction leads from or to.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// The socket that has the same bytes, if one has: then they can be spliced.
    fn socket(&self) -> Option<&NetStream>;
}

impl End for NetStream {
    fn socket(&self) -> Option<&NetStream> {
        self.is_plain().then_some(self)
    }
}

/// Somebody who looks at the bytes of a direction, and decides how many pass.
pub(crate) trait Watch {
    /// So many may be read next; none is a pause.
    fn read_max(&self) -> usize;
    /// So many of them may pass unseen.
    fn splice_max(&self) -> usize;
    /// These were read.
    fn saw(&mut self, bytes: &[u8]);
    /// So many passed unseen.
    fn spliced(&mut self, len: usize);
}

/// Nobody does.
#[derive(Debug)]
pub(super) struct Unwatched;

impl Watch for Unwatched {
    fn read_max(&self) -> usize {
        usize::MAX
    }

    fn splice_max(&self) -> usize {
        usize::MAX
    }

    fn saw(&mut self, _: &[u8]) {}

    fn spliced(&mut self, _: usize) {}
}

/// Which stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The one that is read.
    From,
    /// The one that is written.
    To,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    state: State,
    /// Bytes read that the other side has not taken yet, and how many of them it has.
    rest: Vec<u8>,
    rest_taken: usize,
    pipe: Option<Pipe>,
    /// Size of the next read, if it is not the least.
    read_bytes: u32,
    /// Most bytes that are held.
    bytes_max: u32,
    is_splicing: bool,
    /// The system has refused.
    cannot_splice: bool,
    small_splices: u8,
    needs_flush: bool,
    /// Bytes read.
    pub(crate) received: u64,
    /// Of them, spliced.
    pub(crate) spliced: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Bytes may come.
    #[default]
    Open,
    /// The end has come; what is held must still be written.
    Ending,
    /// The other side has been told.
    Ended,
}

impl Direction {
    /// One of which `early` was read before, and no more than `bytes_max` are held.
    pub(crate) fn new(early: Vec<u8>, bytes_max: usize) -> Self {
        Self {
            bytes_max: u32::try_from(bytes_max.max(limits::BUFFER_BYTES_MIN)).unwrap_or(u32::MAX),
            received: early.len() as u64,
            needs_flush: !early.is_empty(),
            rest: early,
            ..Self::default()
        }
    }

    /// Whether it has ended, and the other side knows.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the other side has taken all that was read.
    pub(crate) fn holds_nothing(&self) -> bool {
        let is_piped = self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0);
        self.rest.is_empty() && !is_piped && !self.needs_flush
    }

    /// Moves what can be moved; ready at the end of the direction.
    pub(super) fn poll(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.poll_watched(from, to, &mut Unwatched, cx)
    }

    /// The same while somebody watches. In a pause only what was read before is written.
    pub(crate) fn poll_watched(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        watch: &mut impl Watch,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.has_ended() {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS_MAX {
            std::task::ready!(self.poll_write(to, cx))?;
            // What is read now could only be kept beside what the other side's TLS still holds.
            std::task::ready!(self.poll_flush(to, cx)).map_err(|()| Broken::To)?;
            if self.state == State::Ending {
                std::task::ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Broken::To)?;
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
            let is_paused = watch.read_max() == 0;
            if is_paused || self.poll_read(from, to, watch, cx)?.is_pending() {
                self.pipe = None;
                self.rest = Vec::new();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready once the other side holds nothing.
    fn poll_flush(&mut self, to: &mut impl End, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.needs_flush {
            match Pin::new(&mut *to).poll_flush(cx) {
                Poll::Ready(flushed) => flushed.map_err(drop)?,
                Poll::Pending => {
                    self.read_bytes /= 2;
                    return Poll::Pending;
                }
            }
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once nothing is held.
    fn poll_write(&mut self, to: &mut impl End, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
            let socket = to.socket().ok_or(Broken::To)?; // only then there is a pipe
            std::task::ready!(socket.poll_socket_write_ready(cx)).map_err(|_| Broken::To)?;
            match socket.try_io(Interest::WRITABLE, || pipe.drain(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_refusal(&error) => {
                    self.cannot_splice = true;
                    self.is_splicing = false;
                    self.rest = pipe.empty().map_err(|_| Broken::To)?;
                    self.rest_taken = 0;
                }
                Err(_) => return Poll::Ready(Err(Broken::To)),
            }
        }
        while let Some(rest) = self
            .rest
            .get(self.rest_taken..)
            .filter(|rest| !rest.is_empty())
        {
            let written = std::task::ready!(Pin::new(&mut *to).poll_write(cx, rest));
            match written {
                Ok(len) if len > 0 => self.rest_taken += len,
                Ok(_) | Err(_) => return Poll::Ready(Err(Broken::To)),
            }
        }
        self.rest.clear();
        self.rest_taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        watch: &mut impl Watch,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        if self.is_splicing
            && watch.splice_max() >= BULK_BYTES
            && let Some(socket) = from.socket()
            && let Some(spliced) = self.poll_splice(socket, watch, cx)?
        {
            return Ok(spliced);
        }
        self.poll_copy(from, to, watch, cx)
    }

    /// None if it has to be copied after all.
    fn poll_splice(
        &mut self,
        from: &NetStream,
        watch: &mut impl Watch,
        cx: &mut Context<'_>,
    ) -> Result<Option<Poll<()>>, Broken> {
        loop {
            match from.poll_socket_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Broken::From),
                Poll::Pending => return Ok(Some(Poll::Pending)),
            }
            let Some(pipe) = self.pipe.take().or_else(Pipe::take) else {
                self.is_splicing = false; // until the stream is in bulk again
                return Ok(None);
            };
            let pipe = self.pipe.insert(pipe);
            match from.try_io(Interest::READABLE, || {
                pipe.fill(from, watch.splice_max().min(self.bytes_max as usize))
            }) {
                Ok(0) => {
                    self.state = State::Ending;
                    return Ok(Some(Poll::Ready(())));
                }
                Ok(len) => {
                    self.received += len as u64;
                    self.spliced += len as u64;
                    watch.spliced(len);
                    self.note_size(len);
                    return Ok(Some(Poll::Ready(())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_refusal(&error) => {
                    self.cannot_splice = true;
                    self.is_splicing = false;
                    return Ok(None);
                }
                Err(_) => return Err(Broken::From),
            }
        }
    }

    fn note_size(&mut self, len: usize) {
        if len >= BULK_BYTES {
            self.small_splices = 0;
        } else {
            self.small_splices += 1;
            if self.small_splices >= SMALL_MAX {
                self.small_splices = 0;
                self.is_splicing = false;
            }
        }
    }

    /// Reads into the worker's scratch buffer and writes at once; only what the other side does not
    /// take is kept.
    fn poll_copy(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        watch: &mut impl Watch,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        let is_plain = (from.socket().is_some(), to.socket().is_some());
        let can_splice = !self.cannot_splice && is_plain == (true, true);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(limits::BUFFER_BYTES, 0);
            let least = if is_plain == (true, false) {
                READ_BYTES_MIN
            } else {
                READ_BYTES_USUAL
            };
            let most = limits::BUFFER_BYTES.min(self.bytes_max as usize);
            let size = (self.read_bytes as usize).clamp(least.min(most), most);
            let mut buffer = ReadBuf::new(
                scratch
                    .get_mut(..size.min(watch.read_max()))
                    .unwrap_or_default(),
            );
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(_)) => return Err(Broken::From),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state = State::Ending;
                return Ok(Poll::Ready(()));
            }
            self.received += bytes.len() as u64;
            watch.saw(bytes);
            let is_full = bytes.len() == size;
            self.is_splicing = is_full && can_splice;
            let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Pending => 0,
                Poll::Ready(Ok(len)) if len > 0 => len,
                Poll::Ready(Ok(_) | Err(_)) => return Err(Broken::To),
            };
            self.needs_flush = true;
            let next = next_size(size, bytes.len(), written);
            self.read_bytes = u32::try_from(next).unwrap_or(u32::MAX);
            self.rest
                .extend_from_slice(bytes.get(written..).unwrap_or_default());
            Ok(Poll::Ready(()))
        })
    }
}

/// Size of the read after one of `size` that gave `read` bytes, of which `written` were taken.
fn next_size(size: usize, read: usize, written: usize) -> usize {
    let is_small = read < size / 4;
    match (read == size, written == read) {
        (true, true) => size * 2,
        (false, true) if !is_small => size,
        (_, _) => size / 2,
    }
}

/// The system does not splice between such files at all.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::OutOfMemory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (NetStream, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        (NetStream::Unix(ours), theirs)
    }

    /// What is held, at most, of a stream in bulk whose reader takes nothing.
    async fn held(bytes_max: usize) -> usize {
        let ((mut from, client), (mut to, _origin)) = (pair(), pair());
        let mut direction = Direction::new(Vec::new(), bytes_max);
        let mut most = 0;
        let chunk = vec![7; 256 * 1024];
        // The first reads are taken, so that the stream is one in bulk; then all buffers fill.
        for _ in 0..64 {
            let _ = client.try_write(&chunk); // once all is full nothing goes in
            tokio::task::yield_now().await;
            let polled = std::future::poll_fn(|cx| {
                Poll::Ready(direction.poll(&mut from, &mut to, cx).is_ready())
            });
            assert!(!polled.await, "nobody ends it");
            let piped = direction.pipe.as_ref().map_or(0, Pipe::held);
            most = most.max(piped + direction.rest.len() - direction.rest_taken);
        }
        assert!(direction.spliced > 0, "it was in bulk");
        most
    }

    #[tokio::test]
    async fn no_more_is_held_than_may_be() {
        let usual = held(limits::CONNECTION_BUFFER_BYTES).await;
        assert!(usual > 8192, "{usual} is what it is without a limit");
        assert!((1..=8192).contains(&held(8192).await));
        let least = held(1).await;
        assert!((1..=limits::BUFFER_BYTES_MIN).contains(&least), "{least}");
    }

    #[test]
    fn reads_grow_with_what_is_taken_and_shrink_with_what_is_not() {
        assert_eq!(next_size(4096, 4096, 4096), 8192, "more may be there");
        assert_eq!(next_size(8192, 5000, 5000), 8192, "as it should be");
        assert_eq!(next_size(8192, 100, 100), 4096, "little comes");
        assert_eq!(next_size(8192, 8192, 100), 4096, "little is taken");
        assert_eq!(next_size(8192, 8192, 0), 4096);
    }
}
