//! Retries at the same time are never more than the limit of the cluster, and reach it: many clients, two
//! workers, and an origin whose first answer to everybody is not good enough.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bench::peer::Admin;
use bench::ports::ReservedPort;
use bench::process::Process;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use super::storm::listener;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::PATIENCE;
use crate::setting::until;

const CLIENTS: usize = 64;

/// Requests of each client, one after the other.
const ROUNDS: usize = 12;

const LIMIT: usize = 5;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BAD: &[u8] = b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n";

/// An origin that counts the retries it has at once, and holds their answers until it is told.
struct Counting {
    address: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    answers: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    held: usize,
    held_most: usize,
    retries: usize,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let counts = Arc::<Mutex<Counts>>::default();
        let (answers, told) = watch::channel(false);
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.spawn(serve(stream, Arc::clone(&shared), told.clone()));
            }
        });
        Self {
            address,
            counts,
            answers,
            task,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    mut stream: TcpStream,
    counts: Arc<Mutex<Counts>>,
    mut told: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        let Some(head) = read_head(&mut stream).await? else {
            return Ok(());
        };
        if head.contains("x-envoy-attempt-count: 1\r\n") {
            stream.write_all(BAD).await?;
            continue;
        }
        {
            let mut counts = lock(&counts);
            counts.retries += 1;
            counts.held += 1;
            counts.held_most = counts.held_most.max(counts.held);
        }
        let _ = told.wait_for(|answers| *answers).await; // the test may be over
        lock(&counts).held -= 1; // first: the proxy counts it until it has the answer
        stream.write_all(GOOD).await?;
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// The proxy with two workers before that origin.
struct World {
    _process: Process,
    _directory: tempfile::TempDir,
    port: ReservedPort,
    admin: Admin,
    _admin_port: ReservedPort,
}

impl World {
    async fn start(origin: SocketAddr) -> Self {
        let mut ports = free_ports(2);
        let (admin, port) = (ports.pop().expect("two"), ports.pop().expect("two"));
        let routes = json!([{"match": {"prefix": "/"}, "route": {
            "cluster": "origin",
            "timeout": "0s",
            "retry_policy": {"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}},
        }}]);
        let host = json!({
            "name": "all",
            "domains": ["*"],
            "routes": routes,
            "include_request_attempt_count": true,
        });
        let more = json!({"route_config": {"virtual_hosts": [host]}});
        let mut cluster = cluster("origin", origin.port());
        let limits = json!({"max_retries": LIMIT, "track_remaining": true});
        cluster["circuit_breakers"] = json!({"thresholds": [limits]});
        let listener = listener(&port, &manager(&json!([]), &more));
        let text = bootstrap(&[listener], &[cluster]);
        let address = json!({"address": "127.0.0.1", "port_value": admin.number()});
        let text = format!("admin: {{address: {{socket_address: {address}}}}}\n{text}");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("bootstrap.yaml");
        std::fs::write(&file, text).expect("a writable directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("proxy").arg("-c").arg(&file);
        command.args(["--workers", "2"]);
        let mut process = Process::start("weir", command, None).expect("it was built");
        let listening = process.wait_for_port(port.addr(), PATIENCE).await;
        listening.expect("it starts");
        Self {
            _process: process,
            _directory: directory,
            port,
            admin: Admin::new(admin.addr()),
            _admin_port: admin,
        }
    }

    async fn number(&self, name: &str) -> u64 {
        let name = format!("cluster.origin.{name}");
        let found = self.admin.stat(&name).await.expect("it answers");
        found.unwrap_or_default()
    }
}

/// Answers that were good, and those that were not.
async fn ask(proxy: SocketAddr) -> (usize, usize) {
    let mut stream = TcpStream::connect(proxy).await.expect("it listens");
    let (mut good, mut bad) = (0, 0);
    for _ in 0..ROUNDS {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.expect("it is open");
        let head = read_head(&mut stream).await.expect("it is open");
        if head.expect("an answer").starts_with("HTTP/1.1 200") {
            good += 1;
        } else {
            bad += 1;
        }
    }
    (good, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_never_more_than_the_limit_and_reach_it() {
    let origin = Counting::start().await;
    let world = World::start(origin.address).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask(world.port.addr()));
    }
    let held = until(|| {
        let held = origin.counts().held;
        std::future::ready(
            (held == LIMIT)
                .then_some(())
                .ok_or_else(|| format!("{held} held")),
        )
    });
    held.await.expect("the limit is reached");
    let open = world.number("circuit_breakers.default.rq_retry_open").await;
    let remaining = "circuit_breakers.default.remaining_retries";
    assert_eq!((open, world.number(remaining).await), (1, 0));
    origin.answers.send_replace(true);
    let (mut good, mut bad) = (0, 0);
    while let Some(one) = clients.join_next().await {
        let (more_good, more_bad) = one.expect("no panic");
        good += more_good;
        bad += more_bad;
    }
    assert_eq!(good + bad, CLIENTS * ROUNDS);
    let (most, retries) = {
        let counts = origin.counts();
        (counts.held_most, counts.retries)
    };
    assert_eq!((most, retries), (LIMIT, good));
    let refused = world.number("upstream_rq_retry_overflow").await;
    assert_eq!(
        (refused, retries as u64),
        (bad as u64, world.number("upstream_rq_retry").await)
    );
    assert!(bad >= CLIENTS - LIMIT, "{bad}");
    assert_eq!(world.number(remaining).await, LIMIT as u64);
}
