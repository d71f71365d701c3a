//! A connection that is kept, from an address of choice.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use super::ORIGIN;

/// A kept connection.
pub(super) struct Client(TcpStream);

/// The head of an answer.
pub(super) struct Head(String);

impl Client {
    /// Connects from `address`; its port is chosen if it is 0.
    pub(super) async fn connect(target: SocketAddr, address: (Ipv4Addr, u16)) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a new socket");
        socket.set_reuseport(true).expect("a new socket");
        // The next one may come from the same port at once.
        #[expect(deprecated, reason = "of zero, it does not block")]
        let lingers = socket.set_linger(Some(Duration::ZERO));
        lingers.expect("a new socket");
        let address = SocketAddrV4::new(address.0, address.1);
        socket.bind(address.into()).expect("it is free");
        Self(socket.connect(target).await.expect("it listens"))
    }

    /// Sends what goes before the first request.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("it is open");
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn get(&mut self, path: &str, fields: &[(&str, String)]) -> Head {
        self.ask(path, fields).await;
        self.answer().await
    }

    /// Asks.
    pub(super) async fn ask(&mut self, path: &str, fields: &[(&str, String)]) {
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        if fields.iter().all(|(name, _)| *name != "host") {
            request.push_str("host: a.example\r\n");
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.0
            .write_all(request.as_bytes())
            .await
            .expect("it is open");
    }

    /// Reads the whole answer.
    pub(super) async fn answer(&mut self) -> Head {
        let mut read = Vec::new();
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = Head(String::from_utf8_lossy(&read[..end]).into_owned());
                let length = head.values("content-length").next().unwrap_or("0");
                let length: usize = length.parse().expect("a length");
                if read.len() >= end + 4 + length {
                    return head;
                }
            }
            let count = self.0.read_buf(&mut read).await.expect("it is open");
            assert!(
                count > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&read)
            );
        }
    }
}

impl Head {
    /// All values of a field.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.0.lines().filter_map(|line| line.split_once(": "));
        let named = fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value)
    }

    /// Its lines in an order of their own, without the names of servers and the times of day and of
    /// waiting.
    pub(super) fn told(&self) -> Vec<String> {
        let lines = self.0.lines().map(str::to_ascii_lowercase);
        let varies = |line: &String| {
            let fields = ["date:", "server:", "x-envoy-upstream-service-time:"];
            fields.iter().any(|field| line.starts_with(field))
        };
        let mut lines: Vec<String> = lines.filter(|line| !varies(line)).collect();
        lines.sort_unstable();
        lines
    }

    /// Who answered: an origin, or the status if none did.
    pub(super) fn origin(&self) -> String {
        let status = || self.0.split(' ').nth(1).unwrap_or("nothing");
        self.values(ORIGIN).next().unwrap_or_else(status).to_owned()
    }
}
