//! The worker's read buffers.
//!
//! A socket that has nothing to say costs no memory: heads are read through one scratch buffer per
//! worker and copied out (they are short), content through one spare buffer whose filled part is
//! given away without a copy.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;

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

thread_local! {
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

/// Reads content once; none is the end of the stream.
pub(super) fn poll_read_content(
    stream: &mut NetStream,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    SPARE.with_borrow_mut(|spare| {
        if spare.capacity() < CONTENT_BYTES / 4 {
            spare.reserve(CONTENT_BYTES);
        }
        let len = std::task::ready!(pin!(stream.read_buf(spare)).poll(cx))?;
        Poll::Ready(Ok(if len < COPY_BELOW {
            let content = Bytes::copy_from_slice(spare);
            spare.clear();
            content
        } else {
            spare.split().freeze()
        }))
    })
}
