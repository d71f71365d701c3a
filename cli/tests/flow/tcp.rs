//! Any TCP stream passes through the binary exactly, mostly without being copied, and leaves nothing
//! behind.
//!
//! `WEIR_FULL=1` makes streams of 1 GiB and 100,000 short connections, and wants `WEIR_BIN` to name a
//! release build.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::pattern::Checksum;
use bench::pattern::Pattern;
use bench::pattern::checksum;
use bench::ports::ReservedPort;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::raw::Raw;
use crate::support::soon;
use crate::support::until;

const MIB: u64 = 1024 * 1024;

/// How much the proxy may grow whatever passes; its part of what waits is in the kernel.
const GROWTH_MAX: u64 = 8 * MIB;

/// Streams that nobody reads, at the same time.
const STALLED: usize = 32;

/// What the sockets on the way of one stream can take, which Linux lets grow to 6 MiB each, and the
/// pipe between them.
const IN_TRANSIT_MAX: u64 = 40 * MIB;

/// Short connections at the same time.
const CLIENTS: usize = 32;

fn is_full() -> bool {
    std::env::var_os("WEIR_FULL").is_some()
}

/// The binary as a TCP proxy, with the origin behind it and a way to its statistics.
struct World {
    child: Child,
    admin: ReservedPort,
    origin: TcpListener,
}

impl World {
    async fn start() -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let to = origin.local_addr().expect("it is bound");
        let admin = ReservedPort::new().expect("a free port");
        let text = |port| bootstrap::tcp(port, admin.number(), to);
        let child = Child::start(weir(), text).await;
        let world = Self {
            child,
            admin,
            origin,
        };
        // The connection that found out whether it listens.
        drop(world.accept().await);
        world.is_quiet().await;
        world
    }

    fn addr(&self) -> SocketAddr {
        self.child.addr()
    }

    async fn accept(&self) -> TcpStream {
        let accepted = soon("the proxy", self.origin.accept()).await;
        accepted.expect("it comes").0
    }

    /// A client's end, and the origin's end of it.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.addr()).await.expect("it listens");
        (client, self.accept().await)
    }

    async fn stat(&self, name: &str) -> u64 {
        let mut connection = Raw::open(self.admin.addr()).await;
        let question = "GET /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        connection.send(question.as_bytes()).await;
        let answer = String::from_utf8(connection.read_all().await).expect("it is text");
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        assert!(value.is_some(), "no {name} in {answer}");
        let value = value.expect("checked above");
        value.parse().expect("a number")
    }

    /// Waits until no connection is left on either side.
    async fn is_quiet(&self) {
        until("the end of all connections", async || {
            let down = self.stat("tcp.main.downstream_cx_active").await;
            let up = self.stat("cluster.origin.upstream_cx_active").await;
            (down + up == 0).then_some(())
        })
        .await;
    }

    fn resident(&self) -> u64 {
        self.child.process.memory().expect("it runs").rss
    }

    /// Descriptors by what they are: sockets, pipes, and so on.
    fn descriptors(&self, kind: &str) -> usize {
        let folder = format!("/proc/{}/fd", self.child.process.pid());
        let entries = std::fs::read_dir(folder).expect("it runs");
        let is_kind = |path: &std::path::PathBuf| {
            // A descriptor can be gone by now.
            let target = std::fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().starts_with(kind)
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(is_kind).count()
    }
}

/// Sends the pattern and its end.
async fn send(mut to: impl AsyncWrite + Unpin, bytes: u64) {
    for chunk in Pattern::new(bytes) {
        to.write_all(&chunk).await.expect("it is taken");
    }
    to.shutdown().await.expect("it is open");
}

/// Length and checksum of everything up to the end.
async fn receive(mut from: impl AsyncRead + Unpin) -> (u64, u64) {
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = Checksum::new();
    loop {
        match from.read(&mut buffer).await.expect("no reset") {
            0 => return (sum.bytes(), sum.value()),
            len => sum.update(&buffer[..len]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_streams_pass_both_ways_exactly_without_copies() {
    let world = World::start().await;
    let bytes = if is_full() { 1024 * MIB } else { 64 * MIB };
    let before = world.resident();
    let (mut client, mut origin) = world.pair().await;
    let (client_reads, client_writes) = client.split();
    let (origin_reads, origin_writes) = origin.split();
    let all = Box::pin(async {
        tokio::join!(
            send(client_writes, bytes),
            receive(origin_reads),
            send(origin_writes, bytes),
            receive(client_reads),
        )
    });
    let patience = PATIENCE * u32::try_from(bytes / (64 * MIB)).unwrap_or(1);
    let ((), up, (), down) = tokio::time::timeout(patience, all).await.expect("in time");
    let whole = (bytes, checksum(bytes));
    assert_eq!((up, down), (whole, whole));
    world.is_quiet().await;
    let spliced = world.stat("tcp.main.spliced_bytes_total").await;
    let copied = world.stat("tcp.main.copied_bytes_total").await;
    assert_eq!(spliced + copied, 2 * bytes);
    assert!(spliced / 9 >= copied, "{spliced} spliced, {copied} copied");
    let growth = world.resident().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "{growth} bytes more than {before}");
}

/// A half close in the middle of bulk, and a reset as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_resets_pass_as_they_were_sent() {
    let world = World::start().await;
    for swapped in [false, true] {
        let (mut one, mut other) = world.pair().await;
        if swapped {
            std::mem::swap(&mut one, &mut other);
        }
        let (up, _) = tokio::join!(receive(&mut other), send(&mut one, 3 * MIB));
        assert_eq!(up, (3 * MIB, checksum(3 * MIB)));
        let (down, ()) = tokio::join!(receive(&mut one), send(&mut other, 2 * MIB));
        assert_eq!(down, (2 * MIB, checksum(2 * MIB)), "after the other's end");

        let (mut one, mut other) = world.pair().await;
        if swapped {
            std::mem::swap(&mut one, &mut other);
        }
        let mut sink = vec![0; 256 * 1024];
        let chunk = vec![7; 64 * 1024];
        for _ in 0..32 {
            let (written, read) = tokio::join!(one.write(&chunk), other.read(&mut sink));
            assert!(written.is_ok() && read.is_ok());
        }
        reset(one);
        let error = soon("a reset", async {
            loop {
                match other.read(&mut sink).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return Some(error.kind()),
                }
            }
        });
        assert_eq!(error.await, Some(io::ErrorKind::ConnectionReset));
    }
    world.is_quiet().await;
}

fn reset(stream: TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&stream, linger).expect("it is a socket");
}

/// Nobody reads, on either side: the writers stop, and the memory of the proxy stays flat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_stop_the_other_side() {
    let world = World::start().await;
    let before = world.resident();
    let total = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for number in 0..STALLED {
        let (mut writer, mut reader) = world.pair().await;
        if number % 2 == 0 {
            std::mem::swap(&mut writer, &mut reader);
        }
        let total = Arc::clone(&total);
        writers.push((tokio::spawn(write_on(writer, total)), reader));
    }
    let mut last = 0;
    until("the writers' end", async || {
        tokio::time::sleep(Duration::from_millis(300)).await; // nothing tells that nothing moves
        let now = total.load(Ordering::Relaxed);
        (now == std::mem::replace(&mut last, now)).then_some(())
    })
    .await;
    assert!(last / STALLED as u64 <= IN_TRANSIT_MAX, "{last} in transit");
    let growth = world.resident().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "{growth} bytes more than {before}");
    for (writer, reader) in writers {
        writer.abort();
        drop(reader);
    }
    world.is_quiet().await;
}

async fn write_on(mut writer: TcpStream, total: Arc<AtomicU64>) {
    let chunk = vec![7; 64 * 1024];
    while let Ok(len) = writer.write(&chunk).await {
        total.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// Security case R5: connections of every kind of end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r05_short_tcp_streams_leave_nothing_behind() {
    let connections = if is_full() { 100_000 } else { 3_000 };
    let world = World::start().await;
    // To the end: who left early has not been accepted yet.
    let accepting = async {
        loop {
            tokio::spawn(echo(world.accept().await));
        }
    };
    tokio::select! {
        () = leave_nothing_behind(&world, connections) => {}
        () = accepting => {}
    }
}

async fn leave_nothing_behind(world: &World, connections: usize) {
    // The proxy's sockets at rest, and with spare pipes.
    short_connections(world.addr(), CLIENTS * 10).await;
    world.is_quiet().await;
    let sockets = world.descriptors("socket:");
    let before = world.resident();
    short_connections(world.addr(), connections).await;
    world.is_quiet().await;
    // The statistics that were asked for last may still be open.
    until("as few sockets as before", async || {
        (world.descriptors("socket:") <= sockets).then_some(())
    })
    .await;
    let pipes = world.descriptors("pipe:") / 2;
    assert!(pipes <= 2 * SPARE_PIPES_MAX, "{pipes} pipes");
    let growth = world.resident().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "{growth} bytes more than {before}");
}

/// Spare pipes of one worker (`net::pipe`); there are two workers.
const SPARE_PIPES_MAX: usize = 16;

async fn short_connections(to: SocketAddr, count: usize) {
    let each = count / CLIENTS;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        clients.push(tokio::spawn(async move {
            for number in 0..each {
                Box::pin(short_connection(to, client + number)).await;
            }
        }));
    }
    for client in clients {
        client.await.expect("no panic");
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut reads, mut writes) = stream.split();
    // A reset is one of the ends.
    let _ = tokio::io::copy(&mut reads, &mut writes).await;
}

async fn short_connection(to: SocketAddr, kind: usize) {
    let Ok(mut stream) = TcpStream::connect(to).await else {
        return; // ports run out when there are very many
    };
    // One in 16 is large enough to be spliced.
    let bytes = if kind.is_multiple_of(16) {
        100_000
    } else {
        100
    };
    if kind % 4 == 3 {
        return reset(stream);
    }
    let (mut reads, mut writes) = stream.split();
    let whole = async {
        let chunk = vec![7; bytes];
        writes.write_all(&chunk).await?;
        writes.shutdown().await
    };
    if kind % 4 == 2 {
        let _ = whole.await; // and leave before the answer
        return;
    }
    let mut all = Vec::new();
    let (written, read) = tokio::join!(whole, reads.read_to_end(&mut all));
    assert!(written.is_err() || read.is_err() || all.len() == bytes);
}
