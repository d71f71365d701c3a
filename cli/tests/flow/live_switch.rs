//! A control plane changes how a cluster balances a hundred times while it is under load: no request
//! fails, no connection is closed on either side, and what was learned of latency stays. By its API, by
//! `weir lb`, and with curl as the client.

use std::process::Command;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use control_plane::client::Client;
use control_plane::subscription::Variant;
use serde_json::Value;
use tokio::task::JoinSet;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyRequest;
use xds_proto::pb::weir::control_plane::v1::change_policy_request::Change;
use xds_proto::pb::weir::load_balancing::v1::LatencyWeightedRoundRobin;

use crate::support::child::ControlPlaneChild;
use crate::support::child::weir;
use crate::support::resources;
use crate::support::resources::ClusterSpec;
use crate::support::servers::Proxy;
use crate::support::traffic::GROUP;
use crate::support::traffic::Traffic;
use crate::support::until;

const SWITCHES: u64 = 100;
const HOSTS: usize = 4;

/// Requests of one run of curl, over one connection.
const RUN: usize = 200;

/// Each worker may open one to each host for each client at a time.
const CONNECTIONS_MAX: u64 = (HOSTS * 2 * 5) as u64;

/// Every policy, by the name that the proxy gives it.
fn policy(number: u64) -> (&'static str, Any) {
    let bounded = ConsistentHashingLbConfig {
        hash_balance_factor: Some(UInt32Value { value: 150 }),
        ..ConsistentHashingLbConfig::default()
    };
    match number % 6 {
        0 => ("latency", pack(&LatencyWeightedRoundRobin::default())),
        1 => ("round-robin", pack(&RoundRobin::default())),
        2 => ("least-request", pack(&LeastRequest::default())),
        3 => ("random", pack(&Random::default())),
        4 => ("ring-hash", pack(&RingHash::default())),
        _ => {
            let bounded = Maglev {
                consistent_hashing_lb_config: Some(bounded),
                ..Maglev::default()
            };
            ("maglev", pack(&bounded))
        }
    }
}

fn change(any: Any, version: u64) -> ChangePolicyRequest {
    let list = LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "chosen".to_owned(),
                typed_config: Some(any),
            }),
        }],
    };
    ChangePolicyRequest {
        cluster: "c".to_owned(),
        version,
        change: Some(Change::Policy(list)),
    }
}

fn written(origins: &[Origin], port: &ReservedPort) -> Vec<Any> {
    let members: Vec<_> = origins.iter().map(|origin| (origin.addr(), 1)).collect();
    let spec = ClusterSpec {
        name: "c",
        members: &members,
        is_eds: false,
        is_http2: false,
        connect_seconds: 5,
    };
    let table = resources::table("t", &[("/".to_owned(), vec![("c".to_owned(), 1)])], 1);
    let listener = resources::listener("main", port.addr(), "t", "main");
    let mut all = vec![listener, pack(&table)];
    all.extend(resources::cluster(spec));
    all
}

/// The cluster as the proxy shows it.
async fn shown(admin: &Admin) -> Value {
    let (_, text) = admin
        .get("/clusters?format=json")
        .await
        .expect("it answers");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let clusters = all["cluster_statuses"].as_array().into_iter().flatten();
    let mut ours = clusters.filter(|cluster| cluster["name"] == "c");
    ours.next().cloned().unwrap_or_default()
}

/// Waits until the proxy balances so.
async fn balances(admin: &Admin, name: &str, shadow: Option<&str>) {
    until(name, async || {
        let cluster = shown(admin).await;
        let looks_on = cluster["weir_shadow"]["policy"].as_str();
        (cluster["weir_policy"] == name && looks_on == shadow).then_some(())
    })
    .await;
}

/// A number of all hosts: a counter, or one of what was learned.
fn sum(cluster: &Value, counter: &str) -> u64 {
    let of = |host: &Value| {
        let stats = host["stats"].as_array().into_iter().flatten();
        let mut stats = stats.filter(|stat| stat["name"] == counter);
        let text = stats.next().and_then(|stat| stat["value"].as_str());
        let learned = host["weir_latency"][counter].as_u64();
        text.and_then(|text| text.parse().ok())
            .or(learned)
            .unwrap_or(0)
    };
    let hosts = cluster["host_statuses"].as_array();
    hosts.into_iter().flatten().map(of).sum()
}

fn lb(arguments: &[&str], api: &ReservedPort) -> Output {
    let mut command = weir();
    command.arg("lb").args(arguments);
    command.args(["--control-plane", &api.addr().to_string()]);
    command
        .output()
        .expect("the program was built with this test")
}

/// What it printed; it went well.
fn told(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs of curl until they are told that it is over, each of so many requests over one connection: how many
/// requests, and what went wrong.
fn curl(
    (protocol, run): (&'static str, usize),
    port: u16,
    is_over: &AtomicBool,
) -> (usize, Vec<String>) {
    let (mut asked, mut wrong) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let url = format!("http://127.0.0.1:{port}/[1-{run}]");
        let output = Command::new("curl")
            .args([protocol, "-sS", "--fail", "-o", "/dev/null", "-w"])
            .args(["%{http_code} %{num_connects}\n", &url])
            .output()
            .expect("curl was there before");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let connects: usize = lines.lines().filter(|line| *line == "200 1").count();
        let reused: usize = lines.lines().filter(|line| *line == "200 0").count();
        if !output.status.success() || (connects, reused) != (1, run - 1) {
            let error = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!(
                "{protocol}: {connects} connections, {reused} more: {error}"
            ));
        }
        asked += run;
    }
    (asked, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_by_a_control_plane_fail_nothing() {
    let origins: Vec<Origin> = (0..HOSTS)
        .map(|at| Origin::start(&at.to_string()).expect("a free port"))
        .collect();
    for (origin, delay) in origins.iter().zip([20, 2, 2, 2]) {
        let reply = Reply::body("hello").with_header(GROUP, "0");
        origin.reply(reply.with_delay(Duration::from_millis(delay)));
    }
    let port = ReservedPort::new().expect("a free port");
    let control_plane = ControlPlaneChild::start(&written(&origins, &port)).await;
    let api = control_plane.api();
    let proxy = Proxy::by_ads(control_plane.addr(), Variant::Delta).await;
    proxy.listens("main").await;
    let admin = Admin::new(proxy.admin());
    balances(&admin, "round-robin", None).await;
    let first = told(&lb(&["set", "c", "latency", "--version", "1"], api));
    assert_eq!(
        first,
        "c  version 1: LatencyWeightedRoundRobin, else RoundRobin\n"
    );
    balances(&admin, "latency", None).await;

    let mut traffic = Traffic::start(port.addr(), vec![("/".to_owned(), 0)]);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut curls = JoinSet::new();
    if Command::new("curl").arg("-V").output().is_ok() {
        // curl 7.88 cannot use a connection twice whose protocol it knew before, whoever serves it.
        for runs in [("--http1.1", RUN), ("--http2-prior-knowledge", 1)] {
            let (is_over, port) = (Arc::clone(&is_over), port.number());
            curls.spawn_blocking(move || curl(runs, port, &is_over));
        }
    }
    traffic.more(300).await;
    let learned = sum(&shown(&admin).await, "samples");
    assert!(learned > 100, "{learned}");
    let mut client = Client::connect(&api.addr().to_string())
        .await
        .expect("it serves");
    for number in 1..=SWITCHES {
        let (name, any) = policy(number);
        let request = change(any, number + 1);
        let twice = [true, false].into_iter();
        for is_new in twice.take(if number % 10 == 0 { 2 } else { 1 }) {
            let answer = client.change_policy(request.clone()).await.expect("valid");
            assert_eq!((answer.changed, answer.durable), (is_new, true));
        }
        balances(&admin, name, None).await;
    }
    // Back to the one that learns, which knows what it knew.
    told(&lb(&["set", "c", "latency"], api));
    balances(&admin, "latency", None).await;
    assert!(sum(&shown(&admin).await, "samples") >= learned);

    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = curls.join_next().await {
        let (asked, wrong) = ended.expect("no panic");
        assert!(wrong.is_empty(), "of {asked}: {wrong:?}");
    }
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, tally.resent), (0, 0), "{:?}", tally.told);
    let cluster = shown(&admin).await;
    let (made, open) = (sum(&cluster, "cx_total"), sum(&cluster, "cx_active"));
    assert_eq!(made, open, "a connection was closed");
    assert!(made <= CONNECTIONS_MAX, "{made} connections");
    proxy.stop().await;
}

#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_change_policies_and_let_one_look_on() {
    let origins: Vec<Origin> = (0..HOSTS)
        .map(|at| Origin::start(&at.to_string()).expect("a free port"))
        .collect();
    for (origin, delay) in origins.iter().zip([20, 2, 2, 2]) {
        let reply = Reply::body("hello").with_header(GROUP, "0");
        origin.reply(reply.with_delay(Duration::from_millis(delay)));
    }
    let port = ReservedPort::new().expect("a free port");
    let mut control_plane = ControlPlaneChild::start(&written(&origins, &port)).await;
    let proxy = Proxy::by_ads(control_plane.addr(), Variant::Sotw).await;
    proxy.listens("main").await;
    let admin = Admin::new(proxy.admin());
    let api = control_plane.api();
    let looks_on = told(&lb(&["shadow", "c", "latency", "--version", "3"], api));
    assert!(
        looks_on.contains("as its resource says; LatencyWeightedRoundRobin"),
        "{looks_on}"
    );
    balances(&admin, "round-robin", Some("latency")).await;
    let mut traffic = Traffic::start(port.addr(), vec![("/".to_owned(), 0)]);
    let show = || {
        let mut command = weir();
        command.args(["lb", "show", "c", "--admin", &proxy.admin().to_string()]);
        told(
            &command
                .output()
                .expect("the program was built with this test"),
        )
    };
    // It sees what it would do better, and nothing follows from it.
    until("a better prediction", async || {
        traffic.more(50).await;
        let shadow = shown(&admin).await["weir_shadow"].clone();
        let mean = |what: &str| shadow[what]["mean"].as_f64();
        let (predicted, seen) = mean("predicted_ms").zip(mean("seen_ms"))?;
        (predicted < 0.8 * seen).then_some(())
    })
    .await;
    let text = show();
    let first = text.lines().next().expect("a line");
    assert!(
        first.starts_with("policy round-robin; latency looks on and agrees on "),
        "{text}"
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("would take"))
            .count(),
        HOSTS,
        "{text}"
    );
    let (_, metrics) = admin
        .get("/stats/prometheus?filter=shadow")
        .await
        .expect("it answers");
    let ratio = "weir_cluster_shadow_agreement_ratio{envoy_cluster_name=\"c\"} ";
    assert!(metrics.contains(ratio), "{metrics}");

    // What comes late or twice changes nothing, and says what to do.
    let refused = |arguments: &[&str], part: &str| {
        let output = lb(arguments, control_plane.api());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(part), "{error}");
    };
    refused(&["set", "c", "random", "--version", "2"], "older than 3");
    refused(&["set", "c", "random", "--version", "3"], "use 4");
    refused(&["set", "d", "random"], "there are: c");
    refused(
        &["set", "c", "latency", "--with", "{window: 0s}"],
        "--with: window",
    );
    told(&lb(&["set", "c", "least-request"], api));
    balances(&admin, "least-request", Some("latency")).await;

    // It outlives the control plane, and what is written anew.
    control_plane.kill().await;
    control_plane.restart().await;
    let listed = told(&lb(&["list", "-o", "json"], control_plane.api()));
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["version"], 4);
    control_plane.save(&written(&origins[1..], &port));
    until("fewer members", async || {
        let cluster = shown(&admin).await;
        let hosts = cluster["host_statuses"].as_array().map_or(0, Vec::len);
        (hosts == HOSTS - 1 && cluster["weir_policy"] == "least-request").then_some(())
    })
    .await;
    told(&lb(&["shadow", "c", "off"], control_plane.api()));
    balances(&admin, "least-request", None).await;
    told(&lb(&["unset", "c"], control_plane.api()));
    balances(&admin, "round-robin", None).await;
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.told);
    proxy.stop().await;
}
