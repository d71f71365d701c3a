//! The worker's read buffers.
//!
//! A socket that has nothing to say costs no memory: heads are read through one scratch buffer per
//! worker and copied out (they are short), content through one spare buffer whose filled part is
//! given away without a copy. What is copied out of the scratch goes into chunks of many pieces.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::ReadBuf;

use crate::net::NetStream;

/// A head with the beginning of a body fits; copying that much costs less than a second read.
const SCRATCH_BYTES: usize = 32 * 1024;

/// Content read at once: beyond 64 KiB a larger read saves no more time (loopback, 1 MiB bodies).
const CONTENT_BYTES: usize = 64 * 1024;

/// Below this what was read is copied out, so that a small piece does not keep a large buffer.
const COPY_BELOW: usize = 4 * 1024;

/// Heads and other small pieces are kept together in chunks of this size. One that is still in use
/// keeps its whole chunk, so a connection pins no more than this for each piece it holds.
const CHUNK_BYTES: usize = 4 * 1024;

/// Larger pieces are kept alone.
const PIECE_BYTES_MAX: usize = CHUNK_BYTES / 4;

thread_local! {
    /// The chunk that is being filled; used again from its start once nothing of it is in use.
    static CHUNK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads once and lets `take` see the bytes; none is the end of the stream.
pub(super) fn poll_read<R>(
    stream: &mut NetStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(SCRATCH_BYTES, 0);
        let mut buffer = ReadBuf::new(scratch);
        std::task::ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// A copy of `bytes` that outlives the scratch buffer. Costs no allocation as a rule, neither now nor
/// when it is cut into slices.
pub(super) fn keep(bytes: &[u8]) -> Bytes {
    if bytes.len() > PIECE_BYTES_MAX {
        return Bytes::copy_from_slice(bytes);
    }
    CHUNK.with_borrow_mut(|chunk| {
        if chunk.capacity() < bytes.len() && !chunk.try_reclaim(bytes.len()) {
            *chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        chunk.extend_from_slice(bytes);
        chunk.split().freeze()
    })
}

/// Reads content once, at most `bytes_max` of it; none is the end of the stream.
pub(super) fn poll_read_content(
    stream: &mut NetStream,
    bytes_max: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    SPARE.with_borrow_mut(|spare| {
        if spare.capacity() < CONTENT_BYTES / 4 {
            spare.reserve(CONTENT_BYTES);
        }
        let mut limited = (&mut *spare).limit(bytes_max);
        let len = std::task::ready!(pin!(stream.read_buf(&mut limited)).poll(cx))?;
        Poll::Ready(Ok(if len < COPY_BELOW {
            let content = Bytes::copy_from_slice(spare);
            spare.clear();
            content
        } else {
            spare.split().freeze()
        }))
    })
}
