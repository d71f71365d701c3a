//! One HTTP/1.1 connection that repeats one request: one write and, as a rule, one read each.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::worker::Answer;
use crate::message::{self, BodyCounter, Head};
use crate::wire::{Transport, Wire};

/// Enough for a response of the small scenarios in one read.
const READ_BYTES: usize = 8 * 1024;

/// For bodies that do not fit: as much as one read of a full socket buffer tends to give.
const READ_BYTES_LARGE: usize = 256 * 1024;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Wire,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(target: SocketAddr, transport: &Transport) -> io::Result<Self> {
        Ok(Self {
            stream: Wire::connect(target, transport).await?,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Whether it took up an earlier TLS session.
    pub(super) fn is_resumed(&self) -> bool {
        self.stream.is_resumed()
    }

    /// Whether the other side has ended the connection while nothing was asked of it.
    pub(super) fn has_ended(&self) -> bool {
        self.stream.has_ended()
    }

    /// Sends `request` and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        // TLS may keep records back until asked.
        self.stream.flush().await?;
        let (head, filled) = self.read_head().await?;
        let mut body = BodyCounter::new(head.framing);
        let front = self.buffer.get(head.bytes..filled).unwrap_or_default();
        let mut read = front.len();
        let mut used = body.consume(front).map_err(invalid)?;
        if !body.is_done() && self.buffer.len() < READ_BYTES_LARGE {
            self.buffer.resize(READ_BYTES_LARGE, 0);
        }
        while !body.is_done() {
            read = self.stream.read(&mut self.buffer).await?;
            if read == 0 && head.close && body.received > 0 {
                break;
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            used = body
                .consume(self.buffer.get(..read).unwrap_or_default())
                .map_err(invalid)?;
        }
        if used != read {
            return Err(invalid("bytes after the end of the answer"));
        }
        Ok(Answer {
            status: head.status,
            body_bytes: body.received,
            close: head.close,
        })
    }

    async fn read_head(&mut self) -> io::Result<(Head, usize)> {
        let mut filled = 0;
        loop {
            let unread = self.buffer.get_mut(filled..).unwrap_or_default();
            if unread.is_empty() {
                return Err(invalid("the head of the answer is too long"));
            }
            let read = self.stream.read(unread).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let received = self.buffer.get(..filled).unwrap_or_default();
            if let Some(head) = message::response(received).map_err(invalid)? {
                return Ok((head, filled));
            }
        }
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
