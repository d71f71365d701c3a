//! What becomes of each kind of connection when a host leaves, and how soon it has left: a name that stands
//! for another address, members that are replaced under load, HTTP/1.1.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::ports::ReservedPort;
use bytes::Bytes;
use control_plane::subscription::Variant;
use http::Request;
use http_body_util::Empty;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use xds_proto::pb::google::protobuf::Any;

use crate::departure::DRAIN_TIME;
use crate::departure::Scene;
use crate::departure::Streamer;
use crate::departure::client;
use crate::departure::departing;
use crate::departure::ended;
use crate::departure::stream;
use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::resources;
use crate::support::resources::ClusterSpec;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// No stream begins on a host that left so long ago, the push to the proxy included.
const SOON: Duration = Duration::from_millis(100);

/// A machine that does something else may take longer to do it, now and then.
const TRIES: usize = 20;

/// Until something else is looked at.
const A_MOMENT: Duration = Duration::from_millis(5);

/// Opens streams without pause, each on its way before the next one.
fn open_on(target: SocketAddr, stops: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stops = Arc::clone(stops);
    tokio::spawn(async move {
        let mut client = client(target).await;
        while !stops.load(Ordering::Relaxed) {
            drop(stream(&mut client).await);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_begins_on_a_host_that_has_left_a_tenth_of_a_second_ago() {
    let mut hosts = [Streamer::start().await, Streamer::start().await];
    let scene = Scene::start(&[hosts[0].addr]).await;
    let stops = Arc::new(AtomicBool::new(false));
    let clients = [(); 4].map(|()| open_on(scene.port.addr(), &stops));
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        let [old, new] = &hosts;
        let before = (old.began(), new.began());
        until("streams on the host", async || {
            (old.began() > before.0 + 20).then_some(())
        })
        .await;
        // Something stays on it, so that it is seen to leave.
        let mut staying = client(scene.port.addr()).await;
        let stays = stream(&mut staying).await;
        let left = Instant::now();
        scene.commit(&[new.addr], &[]);
        let port = old.addr.port();
        until("the host to leave", async || {
            let all = scene.departing().await;
            let ports = all
                .iter()
                .map(|host| &host["address"]["socket_address"]["port_value"]);
            ports.into_iter().any(|each| *each == port).then_some(())
        })
        .await;
        // Those on the way there have got there; all others go to the new one.
        until("streams on the other host", async || {
            (new.began() > before.1 + 100).then_some(())
        })
        .await;
        let began = old.began();
        until("more of them", async || {
            (new.began() > before.1 + 200).then_some(())
        })
        .await;
        assert_eq!(old.began(), began, "nothing new");
        quickest = quickest.min(old.last().saturating_duration_since(left));
        drop((stays, staying));
        if quickest <= SOON {
            break;
        }
        hosts.swap(0, 1);
    }
    assert!(quickest <= SOON, "{quickest:?} at best");
    stops.store(true, Ordering::Relaxed);
    for client in clients {
        soon("a client's end", client)
            .await
            .expect("every stream has its message");
    }
    scene.stop().await;
}

fn over_http1(port: u16, member: SocketAddr) -> Vec<Any> {
    let mut all = resources::cluster(ClusterSpec {
        name: "c",
        members: &[(member, 1)],
        is_eds: true,
        is_http2: false,
        connect_seconds: 5,
    });
    let route = ("/".to_owned(), vec![("c".to_owned(), 1)]);
    let table = resources::table("t", &[route], 1);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    all.push(resources::listener_inline("l", addr, table));
    all
}

/// One request on a connection of its own.
fn ask(target: SocketAddr) -> JoinHandle<String> {
    tokio::spawn(async move {
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("valid");
        let answer = bench::client::http1(target, request).await;
        answer.expect("an answer").text()
    })
}

/// The next connection, with the head of its request read.
async fn taken(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = soon("a connection", listener.accept())
        .await
        .expect("it is open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a head", stream.read_u8()).await.expect("it is open"));
    }
    stream
}

async fn answer(stream: &mut TcpStream, body: &str) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let written = stream.write_all(answer.as_bytes()).await;
    written.expect("it is open");
}

/// What there is left to be read until the proxy closes it.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = soon("the end", stream.read_to_end(&mut rest)).await;
    read.expect("no reset");
    rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_http1_what_is_idle_is_closed_at_once_and_the_rest_after_its_answer() {
    let old = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let new = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let [old_addr, new_addr] = [&old, &new].map(|host| host.local_addr().expect("it is bound"));
    let control_plane = ControlPlane::start().await;
    let port = ReservedPort::new().expect("a free port");
    let commit = |member| {
        let all = over_http1(port.number(), member);
        control_plane.handle.commit("", &all).expect("valid");
    };
    commit(old_addr);
    let text = bootstrap::ads(control_plane.addr, Variant::Delta);
    // What is closed is not closed because a time is over.
    let proxy = Proxy::with(&text, |options| {
        options.drain_time = Duration::from_secs(600);
    })
    .await;
    proxy.listens("l").await;

    // Both are on their way at the same time, so that there are two connections.
    let asked = [ask(port.addr()), ask(port.addr())];
    let mut idle = vec![taken(&old).await, taken(&old).await];
    for connection in &mut idle {
        answer(connection, "once").await;
    }
    for asked in asked {
        assert_eq!(asked.await.expect("no panic"), "once");
    }
    // One of them is used again, or one more if none has come back yet.
    let running = ask(port.addr());
    let again = until("a connection that is used", async || {
        let reads = |stream: &TcpStream| stream.try_read(&mut [0; 4096]).is_ok();
        let again = idle.iter().position(reads);
        let new = async { tokio::time::timeout(A_MOMENT, old.accept()).await.ok() };
        match again {
            Some(place) => Some(Ok(place)),
            None => new.await.map(Err),
        }
    })
    .await;
    let mut busy = match again {
        Ok(place) => idle.swap_remove(place),
        Err(accepted) => accepted.expect("it is open").0,
    };
    commit(new_addr);
    for connection in &mut idle {
        assert_eq!(until_closed(connection).await, b"");
    }
    let next = ask(port.addr());
    answer(&mut taken(&new).await, "from the other").await;
    assert_eq!(next.await.expect("no panic"), "from the other");
    assert!(!running.is_finished());
    answer(&mut busy, "whole").await;
    assert_eq!(running.await.expect("no panic"), "whole");
    until_closed(&mut busy).await; // nobody has read its head, perhaps
    let admin = proxy.admin();
    until("nobody to leave", async || {
        departing(admin).await.is_empty().then_some(())
    })
    .await;
    proxy.stop().await;
    control_plane.stop().await;
}

/// A file that the proxy takes for the system's table of names, in a mount namespace of its own.
struct Names(tempfile::TempDir);

impl Names {
    fn new() -> Self {
        let names = Self(tempfile::tempdir().expect("a directory"));
        names.say("localhost", &["127.0.0.1"]);
        names
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("hosts")
    }

    /// In place, as the namespace has this file.
    fn say(&self, name: &str, addresses: &[&str]) {
        let mut text = String::new();
        for address in addresses {
            let _ = writeln!(text, "{address} {name}"); // it cannot fail
        }
        std::fs::write(self.path(), text).expect("a writable directory");
    }

    /// A command that becomes `program` where the table is this one.
    fn command(&self, program: &Command) -> Command {
        let mut unshare = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        unshare.args(["--mount", "sh", "-c", script]);
        unshare.arg(self.path()).arg(program.get_program());
        unshare
    }
}

/// Says, past the capture of output, what is missing.
fn can_mount() -> bool {
    let mount = ["--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"];
    let possible = Command::new("unshare").args(mount).output();
    if possible.is_ok_and(|output| output.status.success()) && Path::new("/etc/hosts").exists() {
        return true;
    }
    let missing = "nothing can be mounted in a namespace";
    let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{missing}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_stands_for_another_address_has_the_first_one_leave() {
    if !can_mount() {
        return;
    }
    let old = Streamer::start().await;
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], old.addr.port()));
    let new = Streamer::start_on(elsewhere).await;
    let names = Names::new();
    names.say("leaver.test", &["127.0.0.1"]);
    let admin = ReservedPort::new().expect("a free port");
    let text = |port| {
        let text = bootstrap::fixed(port, old.addr, true);
        let own = format!("address: 127.0.0.1, port_value: {}", old.addr.port());
        let named = own.replace("127.0.0.1", "leaver.test");
        let kind = "type: STRICT_DNS\n    dns_refresh_rate: 0.1s\n    dns_lookup_family: V4_ONLY";
        text.replacen(
            "port_value: 0",
            &format!("port_value: {}", admin.number()),
            1,
        )
        .replacen("type: STATIC", kind, 1)
        .replacen(&own, &named, 1)
    };
    let mut command = names.command(&weir());
    command.env("WEIR_DRAIN_TIME", DRAIN_TIME.as_secs().to_string());
    let child = Child::start(command, text).await;
    let mut client = client(child.addr()).await;
    let stays = stream(&mut client).await;
    let left = Instant::now();
    names.say("leaver.test", &["127.0.0.2"]);
    until("the address to leave", async || {
        let all = departing(admin.addr()).await;
        let is_it = all.iter().any(|host| host["cause"] == "removed");
        is_it.then_some(())
    })
    .await;
    let began = old.began();
    let next = stream(&mut client).await;
    assert_eq!((old.began(), new.began()), (began, 1));
    let (status, at) = soon("the end", ended(stays)).await;
    assert_eq!(status, "14");
    assert!(at - left >= DRAIN_TIME, "{:?}", at - left);
    drop(next);
}
