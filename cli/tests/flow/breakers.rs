//! Limits of a cluster are exact for the whole process: with many clients on two workers no limit is
//! ever exceeded and each is reached, whoever waits is served, and reasons and state are told.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bench::client;
use bench::client::Answer;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::support::bootstrap;
use crate::support::child::weir;
use crate::support::servers::Proxy;
use crate::support::until;

const CLIENTS: usize = 64;

/// Requests of each client, one after the other.
const ROUNDS: usize = 12;

const OVERFLOW: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// An origin that counts what it has at once, and holds every answer until it is told.
struct Counting {
    addr: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    /// Whether answers go out.
    answers: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    open_most: usize,
    held: usize,
    held_most: usize,
    served: usize,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let counts = Arc::<Mutex<Counts>>::default();
        let (answers, told) = watch::channel(false);
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                lock(&shared).enter(addr.port());
                all.spawn(serve(stream, Arc::clone(&shared), told.clone()));
            }
        });
        Self {
            addr,
            counts,
            answers,
            task,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Waits until so many requests are held.
    async fn holds(&self, count: usize) {
        until("requests that are held", async || {
            (self.counts().held == count).then_some(())
        })
        .await;
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

impl Counts {
    /// One more connection.
    fn enter(&mut self, port: u16) {
        self.open_most = self.open_most.max(connections_to(port));
    }
}

/// Connections to a port of this machine that the one who made them has not closed. What the other end
/// sees may be late: packets of two workers come in no order. The table is not read at one moment, so
/// that it may show a connection that has ended beside the one that took its place; one too many that is
/// there would be there in every look.
fn connections_to(port: u16) -> usize {
    (0..5).map(|_| look_at(port)).min().unwrap_or_default()
}

fn look_at(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("it is there");
    let open = table.lines().skip(1).filter(|line| {
        let mut columns = line.split_whitespace().skip(2);
        let remote = columns.next().and_then(|address| address.split_once(':'));
        let is_there = remote.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
        is_there && matches!(columns.next(), Some("01" | "02")) // established, or about to be
    });
    open.count()
}

/// Answers requests without bodies, one after the other.
async fn serve(
    stream: TcpStream,
    counts: Arc<Mutex<Counts>>,
    mut told: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            stream.readable().await?;
            match stream.try_read_buf(&mut head) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        head.clear();
        {
            let mut counts = lock(&counts);
            counts.held += 1;
            counts.held_most = counts.held_most.max(counts.held);
        }
        let _ = told.wait_for(|answers| *answers).await; // the test may be over
        tokio::task::yield_now().await;
        {
            let mut counts = lock(&counts);
            counts.held -= 1; // first: the proxy counts it until it has the answer
            counts.served += 1;
        }
        stream.writable().await?;
        stream.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
}

/// A proxy with two workers before an origin that counts.
struct World {
    origin: Counting,
    proxy: Proxy,
    admin: Admin,
    port: ReservedPort,
}

impl World {
    /// With these limits, and patience enough for a busy machine.
    async fn start(limits: &str) -> Self {
        Self::start_with(limits, "30s").await
    }

    async fn start_with(limits: &str, connect_timeout: &str) -> Self {
        Self::with((limits, connect_timeout), |text| text).await
    }

    /// The same with another bootstrap.
    async fn with(
        (limits, connect_timeout): (&str, &str),
        edit: impl Fn(String) -> String,
    ) -> Self {
        let origin = Counting::start().await;
        let port = ReservedPort::new().expect("a free port");
        let text = bootstrap::fixed(port.number(), origin.addr, false);
        let breakers = format!("type: STATIC\n    circuit_breakers: {{thresholds: [{limits}]}}");
        let text = text.replacen("type: STATIC", &breakers, 1);
        let text = text.replacen(
            "connect_timeout: 5s",
            &format!("connect_timeout: {connect_timeout}"),
            1,
        );
        let proxy = Proxy::start(&edit(text)).await;
        proxy.listens("main").await;
        let admin = Admin::new(proxy.admin());
        Self {
            origin,
            proxy,
            admin,
            port,
        }
    }

    /// Every client asks so often; the answers, refused ones apart.
    fn ask(&self, clients: usize, rounds: usize) -> JoinSet<(usize, usize)> {
        let mut all = JoinSet::new();
        for _ in 0..clients {
            all.spawn(ask(self.port.addr(), rounds));
        }
        all
    }

    async fn number(&self, name: &str) -> u64 {
        let name = format!("cluster.origin.{name}");
        let found = self.admin.stat(&name).await.expect("it answers");
        found.unwrap_or_default()
    }

    async fn becomes(&self, name: &str, value: u64) {
        let what = format!("{name} to be {value}");
        until(&what, async || {
            (self.number(name).await == value).then_some(())
        })
        .await;
    }

    /// Everybody gets an answer from now on, over connections of which there were as many as may be.
    async fn all_are_served(&self, clients: JoinSet<(usize, usize)>, connections: usize) {
        self.origin.answers.send_replace(true);
        assert_eq!(sum(clients).await, (CLIENTS * ROUNDS, 0));
        let seen = {
            let counts = self.origin.counts();
            (counts.open_most, counts.held_most)
        };
        assert_eq!(seen, (connections, connections));
    }
}

async fn ask(proxy: SocketAddr, rounds: usize) -> (usize, usize) {
    let (mut served, mut refused) = (0, 0);
    for _ in 0..rounds {
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("valid");
        let answer = client::http1(proxy, request).await.expect("an answer");
        match answer.status.as_u16() {
            200 => served += 1,
            _ => {
                assert_refused(&answer);
                refused += 1;
            }
        }
    }
    (served, refused)
}

fn assert_refused(answer: &Answer) {
    let overloaded = answer.headers.get("x-envoy-overloaded");
    let overloaded = overloaded.and_then(|value| value.to_str().ok());
    let told = (answer.status.as_u16(), overloaded, &*answer.text());
    assert_eq!(told, (503, Some("true"), OVERFLOW));
}

async fn sum(mut all: JoinSet<(usize, usize)>) -> (usize, usize) {
    let mut sum = (0, 0);
    while let Some(one) = all.join_next().await {
        let (served, refused) = one.expect("no panic");
        sum = (sum.0 + served, sum.1 + refused);
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_never_more_than_the_limit_and_reach_it() {
    const LIMIT: usize = 5;
    let world = World::start("{max_requests: 5, track_remaining: true}").await;
    let clients = world.ask(CLIENTS, ROUNDS);
    world.origin.holds(LIMIT).await;
    world.becomes("circuit_breakers.default.rq_open", 1).await;
    assert_eq!(
        world.number("circuit_breakers.default.remaining_rq").await,
        0
    );
    let (_, clusters) = world.admin.get("/clusters").await.expect("it answers");
    let line = "origin::weir_limit::default.requests::open: 5 of 5";
    assert!(clusters.lines().any(|each| each == line), "{clusters}");
    let admin = world.admin.addr().to_string();
    let shown = ["breaker", "show", "origin", "--admin", &admin];
    let shown = tokio::task::block_in_place(|| weir().args(shown).output());
    let shown = String::from_utf8_lossy(&shown.expect("it runs").stdout).into_owned();
    let lines = [
        "default.requests  open: 5 of 5",
        "high.requests  closed: 0 of 1024",
    ];
    for line in lines {
        assert!(shown.lines().any(|each| each == line), "{shown}");
    }
    world.origin.answers.send_replace(true);
    let (served, refused) = sum(clients).await;
    assert_eq!(served + refused, CLIENTS * ROUNDS);
    assert_eq!(
        world.number("upstream_rq_active_overflow").await,
        refused as u64
    );
    world.becomes("upstream_rq_active", 0).await;
    assert_eq!(world.number("circuit_breakers.default.rq_open").await, 0);
    assert_eq!(
        world.number("circuit_breakers.default.remaining_rq").await,
        5
    );
    let seen = {
        let counts = world.origin.counts();
        (counts.held_most, counts.served)
    };
    assert_eq!(seen, (LIMIT, served));
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_never_more_than_the_limit_and_all_who_wait_are_served() {
    const LIMIT: usize = 3;
    let world = World::start("{max_connections: 3}").await;
    let clients = world.ask(CLIENTS, ROUNDS);
    world.origin.holds(LIMIT).await;
    world
        .becomes("upstream_rq_pending_active", (CLIENTS - LIMIT) as u64)
        .await;
    assert_eq!(world.number("circuit_breakers.default.cx_open").await, 1);
    world.all_are_served(clients, LIMIT).await;
    assert!(world.number("upstream_cx_overflow").await >= (CLIENTS - LIMIT) as u64);
    world.proxy.stop().await;
}

/// One member is all there is, but its limit is another one than that of the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_member_are_never_more_than_its_limit() {
    const LIMIT: usize = 3;
    let of_member = "{max_connections: 9}], per_host_thresholds: [{max_connections: 3}";
    let world = World::start(of_member).await;
    let clients = world.ask(CLIENTS, ROUNDS);
    world.origin.holds(LIMIT).await;
    let waiting = (CLIENTS - LIMIT) as u64;
    world.becomes("upstream_rq_pending_active", waiting).await;
    assert_eq!(world.number("circuit_breakers.default.cx_open").await, 0);
    world.all_are_served(clients, LIMIT).await;
    world.proxy.stop().await;
}

/// Those of high priority have limits of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_high_priority_are_never_more_than_their_limit() {
    const LIMIT: usize = 4;
    let of_high = "{max_requests: 1}, {priority: HIGH, max_requests: 4, track_remaining: true}";
    let world = World::with((of_high, "30s"), |text| {
        text.replacen("timeout: 0s", "timeout: 0s, priority: HIGH", 1)
    })
    .await;
    let clients = world.ask(CLIENTS, ROUNDS);
    world.origin.holds(LIMIT).await;
    world.becomes("circuit_breakers.high.rq_open", 1).await;
    assert_eq!(world.number("circuit_breakers.default.rq_open").await, 0);
    world.origin.answers.send_replace(true);
    let (served, refused) = sum(clients).await;
    assert_eq!(served + refused, CLIENTS * ROUNDS);
    let seen = {
        let counts = world.origin.counts();
        (counts.held_most, counts.served)
    };
    assert_eq!(seen, (LIMIT, served));
    world.becomes("circuit_breakers.high.remaining_rq", 4).await;
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_wait_than_may_and_the_rest_is_told_at_once() {
    let world = World::start("{max_connections: 2, max_pending_requests: 6}").await;
    let first = world.ask(2, 1);
    world.origin.holds(2).await;
    let mut others = world.ask(CLIENTS - 2, 1);
    let mut refused = 0;
    for _ in 0..CLIENTS - 2 - 6 {
        let one = others.join_next().await.expect("one of them");
        refused += one.expect("no panic").1;
    }
    assert_eq!(refused, CLIENTS - 2 - 6);
    world.becomes("upstream_rq_pending_active", 6).await;
    assert_eq!(
        world
            .number("circuit_breakers.default.rq_pending_open")
            .await,
        1
    );
    world.origin.answers.send_replace(true);
    let (first, waited) = (sum(first).await, sum(others).await);
    assert_eq!((first, waited), ((2, 0), (6, 0)));
    let refused = u64::try_from(refused).expect("few");
    assert_eq!(world.number("upstream_rq_pending_overflow").await, refused);
    assert_eq!(world.origin.counts().open_most, 2);
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_too_long_is_told() {
    let world = World::start_with("{max_connections: 1}", "0.3s").await; // so long they wait
    let first = world.ask(1, 1);
    world.origin.holds(1).await;
    let waits = world.ask(3, 1);
    assert_eq!(sum(waits).await, (0, 3));
    assert_eq!(world.number("upstream_rq_pending_active").await, 0);
    world.origin.answers.send_replace(true);
    assert_eq!(sum(first).await, (1, 0));
    world.proxy.stop().await;
}
