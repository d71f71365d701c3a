//! A proxy without descriptors neither spins nor dies, and serves again as soon as there are some
//! (security case R3).

use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::child::Child;
use crate::support::soon;

const LIMIT: u64 = 256;

/// Four times as many as there are descriptors.
const CONNECTIONS: usize = 1000;

/// How long the processor's use is looked at; there is nothing to wait for.
const WINDOW: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r03_without_descriptors_it_waits_and_recovers() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("hello"));
    let mut child = Child::proxy(origin.addr(), false).await;
    let pid = i32::try_from(child.process.pid()).expect("a small number");
    let limit = Rlimit {
        current: Some(LIMIT),
        maximum: Some(LIMIT),
    };
    rustix::process::prlimit(Pid::from_raw(pid), Resource::Nofile, limit).expect("it is ours");
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(
            TcpStream::connect(child.addr())
                .await
                .expect("the queue takes it"),
        );
    }

    let before = child.process.cpu_time().expect("it runs");
    let began = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let used = child.process.cpu_time().expect("it runs").since(&before);
    let share = used.total.as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.2, "{share} of a processor to wait");
    child.process.check_running().expect("it lives");

    drop(idle);
    let answer = soon("an answer", async {
        loop {
            if let Some(answer) = ask(&child).await {
                return answer;
            }
        }
    });
    assert!(answer.await.ends_with("hello"));
    child.process.check_running().expect("it lives");
}

async fn ask(child: &Child) -> Option<String> {
    let mut stream = TcpStream::connect(child.addr()).await.ok()?;
    let question = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(question).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    (!answer.is_empty() && answer.starts_with("HTTP/1.1 200")).then_some(answer)
}
