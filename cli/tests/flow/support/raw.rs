//! Bytes to a socket and what comes back.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::soon;

/// A connection that is written to and read from by hand.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub(crate) async fn open(target: SocketAddr) -> Self {
        Self(TcpStream::connect(target).await.expect("something listens"))
    }

    /// Writes; a peer that has closed already does not matter.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// Sends nothing more.
    pub(crate) async fn finish(&mut self) {
        let _ = self.0.shutdown().await; // a peer that has closed already does not matter
    }

    /// Reads until what was read ends with `end`.
    pub(crate) async fn read_to(&mut self, end: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        soon("an answer", async {
            while !all.ends_with(end) {
                let byte = self.0.read_u8().await.expect("the connection stays open");
                all.push(byte);
            }
        })
        .await;
        all
    }

    /// Reads until the peer closes.
    pub(crate) async fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // A reset is an end, too; what came before it counts.
        let _ = soon("the end of the connection", self.0.read_to_end(&mut all)).await;
        all
    }
}
