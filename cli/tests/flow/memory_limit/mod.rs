//! 64 MiB are all the memory there is (security case R4): a proxy sheds load in the order that its
//! configuration states, is never ended by the kernel, and recovers by itself.
//!
//! It runs in a control group of the test's own, below the test's. Where none can be made, its private memory
//! stands in for that of the group, and is looked at instead of the kernel's count of processes it ended.
//!
//! | file | holds |
//! |---|---|
//! | `clients` | clients that take memory, and those that only ask |
//! | `group` | the control group |
//! | `world` | the proxy in it, before its origins |

mod clients;
mod group;
mod world;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::soon;
use crate::support::until;
use clients::Told;
use clients::Uploads;
use clients::ask;
use clients::ask_on;
use clients::asking;
use clients::reader;
use clients::told;
use world::World;

const LIMIT: u64 = 64 * 1024 * 1024;

/// What is done, in this order, and from which part of the memory on. Bodies that a listener keeps, which are
/// three sixteenths of it at most, are enough for one step.
const ACTIONS: [(&str, f64); 4] = [
    ("shrink_heap", 0.52),
    ("disable_http_keepalive", 0.60),
    ("stop_accepting_requests", 0.68),
    ("stop_accepting_connections", 0.76),
];

/// Requests whose bodies are kept as they come.
const UPLOADS: usize = 64;

/// Of each body at a time: of all of them little, so that no step is passed over.
const PIECE: usize = 2 * 1024;

/// Clients that take nothing of their answers come in groups, which take as little.
const READERS: usize = 4;

/// Clients that come when nobody is accepted any more, beside those who ask on.
const WAITING: usize = 8;

/// Pieces that arrive meanwhile: a hundredth of the memory, so that it does not come to the largest streams,
/// which go from 0.8 on.
const ROUNDS: usize = 3;

/// A worker that waits for a connection takes one more.
const WORKERS: u64 = 2;

const ACCEPTED: &str = "http.main.downstream_cx_total";

/// Idle connections that shrinking closes.
const POOLED: &str = "cluster.spare.upstream_cx_active";

const BODY: usize = 256 * 1024;

/// At once; what they send is four times the memory.
const FLOOD: usize = 1000;

/// All that takes memory.
struct Load {
    target: SocketAddr,
    uploads: Uploads,
    readers: Vec<TcpStream>,
}

impl Load {
    /// A little more, by what may still be begun when `action` is the next to be taken.
    async fn grow(&mut self, world: &World, action: &str) {
        if action == "stop_accepting_connections" {
            self.uploads.grow(&world.sink).await; // what is begun now is refused
            return;
        }
        for _ in 0..READERS {
            self.readers.extend(reader(self.target).await);
        }
    }

    /// More and more, until `action` is taken; those of before are, and no other.
    async fn grow_until_taken(&mut self, world: &mut World, place: usize) {
        let (action, _) = ACTIONS[place];
        let taken = loop {
            self.grow(world, action).await;
            let taken = world.taken().await;
            if taken[place] {
                break taken;
            }
        };
        let wanted: Vec<bool> = (0..ACTIONS.len()).map(|each| each <= place).collect();
        assert_eq!(taken[..], wanted, "at {action}");
        world.check();
    }

    /// The same, until a client is told this.
    async fn grow_until_told(&mut self, world: &World, (place, wanted): (usize, Told)) {
        while ask(self.target, "/").await != wanted {
            self.grow(world, ACTIONS[place].0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r04_load_is_shed_in_order_and_the_kernel_ends_nobody() {
    let mut world = World::start().await;
    let target = world.child.addr();
    assert_eq!(ask(target, "/spare").await, Told::Kept);
    assert_eq!(world.number(POOLED).await, 1);
    let mut load = Load {
        target,
        uploads: Uploads::start(target).await,
        readers: Vec::new(),
    };
    let stops = Arc::new(AtomicBool::new(false));
    let others = [(); 2].map(|()| ask_on(target, &stops));

    load.grow_until_taken(&mut world, 0).await;
    until("an empty pool", async || {
        (world.number(POOLED).await == 0).then_some(())
    })
    .await;
    load.grow_until_taken(&mut world, 1).await;
    load.grow_until_told(&world, (1, Told::Last)).await;
    load.grow_until_taken(&mut world, 2).await;
    load.grow_until_told(&world, (2, Told::Refused)).await;
    load.grow_until_taken(&mut world, 3).await;
    // Not so little that it ends by itself.
    for _ in 0..ROUNDS {
        load.uploads.grow(&world.sink).await;
    }
    let before = world.number(ACCEPTED).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(asking(target).await);
    }
    for _ in 0..ROUNDS {
        load.uploads.grow(&world.sink).await;
    }
    let accepted = world.number(ACCEPTED).await - before;
    assert!(accepted <= WORKERS, "{accepted}");
    world.check();

    // Room is made, and nobody has to tell the proxy.
    drop(load);
    for stream in &mut waiting {
        soon("an answer", told(stream)).await;
    }
    stops.store(true, Ordering::Relaxed);
    for other in others {
        assert!(other.await.expect("no panic") > 0);
    }
    world.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r04_a_flood_is_survived() {
    let mut world = World::start().await;
    let target = world.child.addr();
    let mut flood = JoinSet::new();
    for _ in 0..FLOOD {
        flood.spawn(async move {
            let mut stream = TcpStream::connect(target)
                .await
                .expect("the system listens");
            let head =
                format!("POST /keep HTTP/1.1\r\nhost: flow\r\ncontent-length: {BODY}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await; // it may be refused at any time
            let _ = stream.write_all(&[b'b'; BODY]).await;
            let mut answer = [0; 16];
            let _ = stream.read(&mut answer).await;
            answer.starts_with(b"HTTP/1.1 503")
        });
    }
    // Whoever is not refused or reset stays until the end: the origin never answers.
    let (mut gone, mut come) = (0, 0);
    until("all to have come, or to be gone", async || {
        world.check();
        while flood.try_join_next().is_some() {
            gone += 1;
        }
        come = world.sink.read.load(Ordering::Relaxed) / BODY;
        (gone + come >= FLOOD).then_some(())
    })
    .await;
    let _ = writeln!(
        std::io::stderr(),
        "{come} have come, {gone} were told to go"
    );
    flood.shutdown().await;
    world.recovers().await;
}
