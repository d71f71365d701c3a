//! A host that fails and says for how long it wants to be left alone is left alone: by `retry-after`, and in
//! gRPC by `grpc-retry-pushback-ms`. Both ask for an hour here and get two seconds, which are allowed.

use std::net::SocketAddr;
use std::time::Duration;

use bench::origin::Reply;
use http::StatusCode;

use crate::latency::Client;
use crate::latency::USUAL;
use crate::latency::World;
use crate::latency::request_after_request;
use crate::latency::with_policy;
use crate::latency_calls;
use crate::support::until;

const SHORT: &str = "LatencyWeightedRoundRobin
            guards: {retry_after_max: 2s}
";

fn shortly(bootstrap: &str) -> String {
    bootstrap.replace("LatencyWeightedRoundRobin\n", SHORT)
}

fn base(port: u16, admin: u16, first: SocketAddr) -> String {
    shortly(&with_policy(port, admin, first))
}

fn base_of_calls(port: u16, admin: u16, first: SocketAddr) -> String {
    shortly(&latency_calls::base(port, admin, first))
}

fn answer(status: StatusCode) -> Reply {
    let reply = Reply::body("hello");
    match status {
        StatusCode::OK => reply,
        _ => Reply { status, ..reply }.with_header("retry-after", "3600"),
    }
}

/// A refused call says so in its trailers.
fn reply(status: StatusCode) -> Reply {
    match status {
        StatusCode::OK => latency_calls::reply(status),
        _ => latency_calls::reply(StatusCode::BAD_GATEWAY)
            .with_trailer("grpc-retry-pushback-ms", "3600000"),
    }
}

async fn is_spared_for_a_while(world: World) {
    world.share_is_fair("a fair share").await;
    world.answer(0, StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    until("the host to be spared", async || {
        let line = world.told_of_first();
        let is_least = line.contains("weight 1.0 ") && line.contains("towards 1.0;");
        (line.contains("spared") && is_least).then_some(())
    })
    .await;
    world.answer(0, StatusCode::OK, USUAL);
    until("it to be spared no longer", async || {
        (!world.told_of_first().contains("spared")).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_left_alone_as_long_as_it_may_ask_for() {
    let client: Client = request_after_request;
    is_spared_for_a_while(World::start((base, answer), client).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_one_that_pushes_calls_back() {
    let client: Client = latency_calls::calls;
    is_spared_for_a_while(World::start((base_of_calls, reply), client).await).await;
}
