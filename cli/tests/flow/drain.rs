//! SIGTERM loses no request: what runs is finished, what is new is refused, the exit status is 0.

use bench::origin::Origin;
use bench::origin::Reply;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::child::Child;
use crate::support::soon;
use crate::support::streams::Connection;
use crate::support::streams::Counted;
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_run_are_answered_before_a_clean_exit() {
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("whole"));
    let mut child = Child::proxy(origin.addr(), false).await;
    let mut idle = Connection::open(child.addr(), false).await;
    answered(idle.send(get()).await).await;
    origin.pause();
    let running: Vec<_> = [false, true]
        .into_iter()
        .map(|is_http2| start(&child, is_http2))
        .collect();
    until("both requests at the origin", async || {
        (origin.seen().len() == 3).then_some(())
    })
    .await;

    child.process.signal(Signal::TERM).expect("it runs");
    until("refused connections", async || {
        TcpStream::connect(child.addr()).await.err()
    })
    .await;
    let late = idle.send(get()).await;
    assert!(late.is_err(), "an idle connection is closed: {late:?}");
    child
        .process
        .check_running()
        .expect("requests run, so the process does");
    origin.resume();
    for request in running {
        soon("an answer", request).await.expect("no panic");
    }
    let status = child.ended().await;
    assert_eq!(status.code(), Some(0), "{}", child.process.whole_output());
}

fn start(child: &Child, is_http2: bool) -> tokio::task::JoinHandle<()> {
    let addr = child.addr();
    tokio::spawn(async move {
        let mut client = Connection::open(addr, is_http2).await;
        answered(client.send(get()).await).await;
    })
}

async fn answered(response: hyper::Result<http::Response<hyper::body::Incoming>>) {
    let response = response.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.expect("a whole body");
    assert_eq!(body.to_bytes(), "whole");
}

fn get() -> Request<Counted> {
    Request::get("/").body(Counted::empty()).expect("valid")
}
