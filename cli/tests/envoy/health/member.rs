//! A member that can be told how to fail, on a port that stays its own.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::ports::ReservedPort;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// What a member does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers with this status, and this field.
    Answers(u16, &'static str),
    /// Answers checks with 200 and everything else with 500.
    FailsRequests,
    /// Answers everything with 200, and all but checks says that it fails them from now on.
    FailsItself,
    /// Answers a request of another protocol with these bytes.
    Says(&'static str),
    /// Reads, and says nothing.
    Hangs,
    /// Reads, and breaks the connection.
    Resets,
    /// Nobody listens, and open connections are closed.
    Down,
}

/// All is well.
pub(super) const UP: Fault = Fault::Answers(200, "");

/// A member, and what it was asked.
pub(super) struct Member {
    port: ReservedPort,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    fault: Mutex<Fault>,
    /// Each with the place of its connection among all.
    heads: Mutex<Vec<(usize, String)>>,
    connections: AtomicUsize,
}

impl Member {
    pub(super) fn start(fault: Fault) -> Self {
        let shared = Shared {
            fault: Mutex::new(fault),
            heads: Mutex::default(),
            connections: AtomicUsize::new(0),
        };
        let mut member = Self {
            port: ReservedPort::new().expect("a free port"),
            shared: Arc::new(shared),
            serving: None,
        };
        member.set(fault);
        member
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// From the next request on.
    pub(super) fn set(&mut self, fault: Fault) {
        *self.shared.fault.lock().expect("no panic") = fault;
        if fault == Fault::Down {
            if let Some(serving) = self.serving.take() {
                serving.abort();
            }
        } else if self.serving.is_none() {
            let listener = listen(self.port.addr());
            let shared = Arc::clone(&self.shared);
            self.serving = Some(tokio::spawn(serve(listener, shared)));
        }
    }

    /// The heads of all requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.asked().into_iter().map(|(_, head)| head).collect()
    }

    /// The same, each with its connection.
    pub(super) fn asked(&self) -> Vec<(usize, String)> {
        self.shared.heads.lock().expect("no panic").clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a new socket");
    socket.set_reuseport(true).expect("a new socket");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    socket.bind(address).expect("the port is reserved");
    socket.listen(64).expect("it is bound")
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut read = Vec::new();
    loop {
        let end = read.windows(4).position(|four| four == b"\r\n\r\n");
        let is_ping = read.ends_with(b"ping");
        let Some(end) = end
            .map(|at| at + 4)
            .or_else(|| is_ping.then_some(read.len()))
        else {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head: Vec<u8> = read.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let is_check = head.contains("/HC\r\n");
        shared
            .heads
            .lock()
            .expect("no panic")
            .push((connection, head));
        let mut fault = *shared.fault.lock().expect("no panic");
        fault = match fault {
            Fault::FailsRequests => Fault::Answers(if is_check { 200 } else { 500 }, ""),
            Fault::FailsItself if is_check => UP,
            Fault::FailsItself => {
                Fault::Answers(200, "x-envoy-immediate-health-check-fail: true\r\n")
            }
            other => other,
        };
        let answer = match fault {
            Fault::Answers(status, field) => {
                format!("HTTP/1.1 {status} Said\r\n{field}content-length: 0\r\n\r\n")
            }
            Fault::Says(text) => text.to_owned(),
            Fault::Hangs => continue,
            Fault::Resets | Fault::Down | Fault::FailsRequests | Fault::FailsItself => {
                #[expect(deprecated, reason = "of zero, it does not block")]
                let lingers = stream.set_linger(Some(Duration::ZERO));
                let _ = lingers; // the other side may have closed it
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
