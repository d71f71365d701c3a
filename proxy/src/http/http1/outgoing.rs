//! Bytes on their way to a socket: the end of a head, a piece of content, and what closes it, written
//! with one system call where that is possible.

use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::net::NetStream;

/// Buffers for heads kept per worker: as many as connections that are usually in the middle of one.
const SPARE_MAX: usize = 64;

/// A larger one is freed after use: few heads are that long.
const SPARE_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What is still to be written, in this order: head, content, tail.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    head: Vec<u8>,
    head_at: usize,
    content: Bytes,
    tail: &'static [u8],
    /// The stream may hold what it took: TLS does.
    needs_flush: bool,
    /// Bytes written since the beginning.
    written: u64,
}

impl Outgoing {
    /// Whether everything is in the socket.
    pub(super) fn is_empty(&self) -> bool {
        self.is_taken() && !self.needs_flush
    }

    fn is_taken(&self) -> bool {
        self.head_at == self.head.len() && self.content.is_empty() && self.tail.is_empty()
    }

    /// Bytes that are not in the socket.
    pub(super) fn len(&self) -> usize {
        self.head.len() - self.head_at + self.content.len() + self.tail.len()
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Room for a head or the frame of a chunk; what is appended is written before the content.
    pub(super) fn head(&mut self) -> &mut Vec<u8> {
        if self.head.capacity() == 0 {
            self.head = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.head
    }

    /// Takes a piece of content. There must be none yet.
    pub(super) fn set_content(&mut self, content: Bytes) {
        debug_assert!(self.content.is_empty(), "content would be lost");
        self.content = content;
    }

    /// What is written after the content. There must be none yet.
    pub(super) fn set_tail(&mut self, tail: &'static [u8]) {
        debug_assert!(self.tail.is_empty(), "an end would be lost");
        self.tail = tail;
    }

    /// Writes until nothing is left.
    pub(super) fn poll_flush(
        &mut self,
        stream: &mut NetStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_taken() {
            let len = std::task::ready!(self.poll_write(stream, cx))?;
            self.needs_flush = true;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(len);
        }
        std::task::ready!(Pin::new(stream).poll_flush(cx))?;
        self.needs_flush = false;
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, stream: &mut NetStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let head = self.head.get(self.head_at..).unwrap_or_default();
        let stream = Pin::new(stream);
        if self.content.is_empty() && self.tail.is_empty() {
            return stream.poll_write(cx, head);
        }
        let all = [head, &self.content, self.tail].map(IoSlice::new);
        let from = usize::from(head.is_empty());
        stream.poll_write_vectored(cx, all.get(from..).unwrap_or_default())
    }

    fn advance(&mut self, len: usize) {
        self.written += len as u64;
        let mut left = len;
        let head = left.min(self.head.len() - self.head_at);
        self.head_at += head;
        left -= head;
        let content = left.min(self.content.len());
        self.content.advance(content);
        left -= content;
        self.tail = self.tail.get(left..).unwrap_or_default();
    }

    /// An idle connection keeps no buffer.
    fn give_back(&mut self) {
        self.content = Bytes::new();
        let mut head = std::mem::take(&mut self.head);
        self.head_at = 0;
        if head.capacity() == 0 || head.capacity() > SPARE_BYTES_MAX {
            return;
        }
        head.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(head);
            }
        });
    }
}
