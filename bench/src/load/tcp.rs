//! One raw connection: messages that come back, or a download without an end.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Protocol;
use super::worker::Answer;
use crate::wire::{Transport, Wire};

/// As much as one read of a full socket buffer tends to give.
const READ_BYTES: usize = 256 * 1024;

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
            buffer: Vec::new(),
        })
    }

    /// What shows that the connection reaches its origin.
    pub(super) async fn first_answer(
        &mut self,
        protocol: Protocol,
        message: &[u8],
    ) -> io::Result<Answer> {
        match protocol {
            Protocol::TcpDownload { .. } => self.download(1).await,
            _ => self.echo(message).await,
        }
    }

    /// Sends `message` and reads as many bytes, which must be the same ones.
    pub(super) async fn echo(&mut self, message: &[u8]) -> io::Result<Answer> {
        if message.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.buffer.resize(message.len(), 0);
        self.stream.write_all(message).await?;
        self.stream.flush().await?;
        self.stream.read_exact(&mut self.buffer).await?;
        if self.buffer != message {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(answer(message.len()))
    }

    /// Reads at least `unit` bytes.
    pub(super) async fn download(&mut self, unit: usize) -> io::Result<Answer> {
        self.buffer.resize(READ_BYTES, 0);
        let mut received = 0;
        while received < unit {
            // Never into the next unit, so that units and bytes agree.
            let wanted = (unit - received).min(READ_BYTES);
            let room = self.buffer.get_mut(..wanted).unwrap_or_default();
            let read = self.stream.read(room).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received += read;
        }
        Ok(answer(received))
    }
}

/// There is no status; 200 stands for "all of it came".
fn answer(bytes: usize) -> Answer {
    Answer {
        status: 200,
        body_bytes: bytes as u64,
        close: false,
    }
}
