//! SIGHUP reads the bootstrap again: what it says is live without a lost request, and a mistake in it
//! leaves everything as it was.

use std::pin::Pin;

use bench::origin::Origin;
use bench::origin::Reply;
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::streams::Connection;
use crate::support::streams::Counted;
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_read_again_moves_traffic_and_a_broken_one_does_not() {
    let [blue, green] = ["blue", "green"].map(|name| {
        let origin = Origin::start(name).expect("a free port");
        origin.reply(Reply::body(name));
        origin
    });
    let mut child = Child::proxy(blue.addr(), false).await;
    let mut client = Connection::open(child.addr(), false).await;
    assert_eq!(body(&mut client).await, "blue");
    let port = child.addr().port();
    let to_green = bootstrap::fixed(port, green.addr(), false);

    child.rewrite(&to_green);
    child.process.signal(Signal::HUP).expect("it runs");
    until("the other origin, on the same connection", async || {
        (body(&mut client).await == "green").then_some(())
    })
    .await;
    said(&child, "bootstrap read again").await;

    let to_blue = bootstrap::fixed(port, blue.addr(), false);
    child.rewrite(&to_blue.replace("connect_timeout", "conect_timeout"));
    child.process.signal(Signal::HUP).expect("it runs");
    said(&child, "bootstrap.yaml:24:5").await;
    said(&child, "connect_timeout").await;
    assert_eq!(body(&mut client).await, "green");

    child.rewrite(&format!("node: {{id: another}}\n{to_blue}"));
    child.process.signal(Signal::HUP).expect("it runs");
    said(&child, "takes effect only at the next start").await;
    until("the first origin", async || {
        (body(&mut client).await == "blue").then_some(())
    })
    .await;

    // By default each of these would end it.
    child.process.signal(Signal::USR1).expect("it runs");
    child.process.signal(Signal::USR2).expect("it runs");
    said(&child, "USR2").await;
    assert_eq!(body(&mut client).await, "blue");
    child.process.signal(Signal::TERM).expect("it runs");
    assert_eq!(child.ended().await.code(), Some(0));
}

async fn said(child: &Child, what: &str) {
    until(what, async || {
        child.process.whole_output().contains(what).then_some(())
    })
    .await;
}

/// Boxed: it is awaited inside other futures, and large.
fn body(client: &mut Connection) -> Pin<Box<dyn Future<Output = String> + '_>> {
    Box::pin(async move {
        let request = Request::get("/").body(Counted::empty()).expect("valid");
        let response = client.send(request).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a whole body");
        String::from_utf8_lossy(&body.to_bytes()).into_owned()
    })
}
