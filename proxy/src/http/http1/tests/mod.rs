//! Both sides over a real socket pair: what is written, byte by byte, and when a connection goes on.

mod client;
mod server;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Reads until `end` has come, or the end of the stream.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8(text).unwrap()
}

/// Reads to the end of the stream.
async fn read_all(stream: &mut UnixStream) -> String {
    read_until(stream, "\0").await
}
