//! The server over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::serve::AdminListener;
use crate::admin::serve::serve;
use crate::admin::tests::Process;
use crate::admin::tests::admin;

struct Running {
    address: SocketAddr,
    process: Arc<Process>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let process = Arc::new(Process::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let admin = admin(&process);
        let task = tokio::spawn(serve(AdminListener::Tcp(listener), admin, shutdown));
        Self {
            address,
            process,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("a connection")
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("UTF-8")
    }

    async fn stop(self) {
        self.stop.send(()).expect("running");
        self.task.await.expect("no panic");
    }
}

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[tokio::test]
async fn answers_with_safe_headers() {
    let running = Running::start().await;
    for path in ["/ready", "/clusters", "/stats/prometheus", "/config_dump"] {
        let answer = running
            .ask(&request(&format!("GET {path}"), "Host: localhost\r\n"))
            .await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff\r\n"));
        assert!(!answer.contains("access-control"));
    }
    running.stop().await;
}

#[tokio::test]
async fn refuses_what_a_browser_was_tricked_into() {
    let running = Running::start().await;
    let rebound = running
        .ask(&request("GET /config_dump", "Host: evil.example\r\n"))
        .await;
    assert_eq!(status(&rebound), "403");
    let origin = "Host: localhost\r\nOrigin: http://evil.example\r\n";
    let forged = running.ask(&request("POST /quitquitquit", origin)).await;
    assert_eq!(status(&forged), "403");
    assert!(running.process.asked.lock().expect("a lock").is_empty());
    let honest = running
        .ask(&request("POST /quitquitquit", "Host: localhost\r\n"))
        .await;
    assert_eq!(status(&honest), "200");
    assert_eq!(*running.process.asked.lock().expect("a lock"), ["quit"]);
    running.stop().await;
}

#[tokio::test]
async fn bounds_head_and_body() {
    let running = Running::start().await;
    let long = format!("Host: localhost\r\nX-Long: {}\r\n", "x".repeat(20_000));
    let answer = running.ask(&request("GET /ready", &long)).await;
    assert_eq!(status(&answer), "431");
    let body = "Host: localhost\r\nContent-Length: 1000000\r\n";
    let answer = running.ask(&request("POST /drain_listeners", body)).await;
    assert_eq!(status(&answer), "413");
    assert!(running.process.asked.lock().expect("a lock").is_empty());
    running.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let running = Running::start().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = running.connect().await;
        // An answer proves that the connection was accepted.
        let head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(head).await.expect("written");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        open.push(stream);
    }
    let answer = running
        .ask(&request("GET /livez", "Host: localhost\r\n"))
        .await;
    assert_eq!(answer, "");
    drop(open);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let running = Running::start().await;
    let mut stream = running.connect().await;
    stream
        .write_all(b"GET /ready HTTP/1.1\r\n")
        .await
        .expect("written");
    let mut answer = Vec::new();
    // Ends because the server closes: with paused time the timeout comes at once.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    running.stop().await;
}

#[tokio::test]
async fn stopping_closes_idle_connections() {
    let running = Running::start().await;
    let mut stream = running.connect().await;
    let head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head).await.expect("written");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    running.stop().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_unix_socket_takes_any_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin");
    let listener = UnixListener::bind(&path).expect("a socket");
    let process = Arc::new(Process::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(
        AdminListener::Unix(listener),
        admin(&process),
        shutdown,
    ));
    let mut stream = UnixStream::connect(&path).await.expect("a connection");
    let head = request("GET /ready", "Host: whatever\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.ends_with("LIVE\n"), "{answer}");
    stop.send(()).expect("running");
    task.await.expect("no panic");
}
