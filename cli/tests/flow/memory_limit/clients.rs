//! Clients that take memory, and those that only ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::PIECE;
use super::UPLOADS;
use super::world::Sink;
use crate::support::soon;
use crate::support::until;

/// What the system takes for a client that reads nothing.
const RECEIVE_BYTES: u32 = 4096;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its answer, on a connection that stays.
    Kept,
    /// Its answer, and that its connection ends.
    Last,
    /// 503, and when to come again.
    Refused,
}

pub(super) async fn ask(target: SocketAddr, path: &str) -> Told {
    let mut stream = TcpStream::connect(target).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: flow\r\n\r\n");
    let asked = stream.write_all(request.as_bytes()).await;
    asked.expect("it is open");
    soon("an answer", told(&mut stream)).await
}

/// A client that has asked, whether somebody has heard it or not.
pub(super) async fn asking(target: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(target).await;
    let mut stream = stream.expect("the system listens");
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: flow\r\n\r\n");
    asked.await.expect("it is open");
    stream
}

pub(super) async fn told(stream: &mut TcpStream) -> Told {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("it is text");
    let is_last = head.contains("connection: close\r\n");
    let told = match head.split(' ').nth(1) {
        Some("200") if is_last => Some(Told::Last),
        Some("200") => Some(Told::Kept),
        Some("503") if head.contains("retry-after: 1\r\n") => Some(Told::Refused),
        _ => None,
    };
    assert!(told.is_some(), "{head}");
    told.expect("checked above")
}

/// Bodies that come piece by piece.
pub(super) struct Uploads(Vec<TcpStream>);

impl Uploads {
    pub(super) async fn start(target: SocketAddr) -> Self {
        let mut all = Vec::new();
        for _ in 0..UPLOADS {
            let mut stream = TcpStream::connect(target).await.expect("it listens");
            let head = b"POST /keep HTTP/1.1\r\nhost: flow\r\ncontent-length: 1000000\r\n\r\n";
            stream.write_all(head).await.expect("it is open");
            all.push(stream);
        }
        Self(all)
    }

    /// One more piece of each, which all arrive.
    pub(super) async fn grow(&mut self, sink: &Sink) {
        let before = sink.read.load(Ordering::Relaxed);
        for stream in &mut self.0 {
            let written = stream.write_all(&[b'b'; PIECE]).await;
            written.expect("it is open");
        }
        until("the pieces", async || {
            let come = sink.read.load(Ordering::Relaxed) - before;
            (come >= UPLOADS * PIECE).then_some(())
        })
        .await;
    }
}

/// A client that asks for what never ends and reads nothing of it; none if it is refused.
pub(super) async fn reader(target: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    let small = socket.set_recv_buffer_size(RECEIVE_BYTES);
    small.expect("a new socket");
    let mut stream = socket.connect(target).await.expect("it listens");
    let asked = stream.write_all(b"GET /endless HTTP/1.1\r\nhost: flow\r\n\r\n");
    asked.await.expect("it is open");
    let mut begin = [0; 12];
    let read = soon("an answer", stream.read_exact(&mut begin)).await;
    (read.is_ok() && begin == *b"HTTP/1.1 200").then_some(stream)
}

/// Asks without pause until it is told to stop, and is answered or refused in form.
pub(super) fn ask_on(target: SocketAddr, stops: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stops = Arc::clone(stops);
    tokio::spawn(async move {
        let mut count = 0;
        while !stops.load(Ordering::Relaxed) {
            ask(target, "/").await;
            count += 1;
        }
        count
    })
}
