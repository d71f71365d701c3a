//! What a slow member does to the tail: a cluster of nine members that are alike, beside the same nine
//! with a tenth that is ten times slower, weights by latency, one proxy, half of the load each, at the same
//! time. Without the tenth nothing could be better; exit code 1 if with it the 99th percentile is more
//! than 1.3 times as much.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bench::Transport;
use bench::load::{Load, Pace, Plan, Protocol, RequestShape, Window};
use bench::origin::{Origin, Reply};
use bench::peer::{StartOptions, Weir};
use bench::ports::ReservedPort;
use bench::stats;
use serde_json::{Value, json};

use super::host::Facts;
use super::{report, session};

/// Members that are alike.
const MEMBERS: usize = 9;

/// How long they take: between these, each answer as likely as another.
const SERVICE_MS: std::ops::Range<f64> = 3.0..8.0;

/// How much longer the tenth takes.
const SLOWNESS: f64 = 10.0;

/// Clients of each cluster that keep their connections.
const CONNECTIONS: usize = 32;

/// Until weights are what they will be.
const WARM_UP: Duration = Duration::from_secs(5);

/// Some thousand answers, of which one in a hundred is a few dozen.
const WINDOW: Duration = Duration::from_secs(5);

/// The promise: the 99th percentile over that without the slow member.
const P99_MAX: f64 = 1.3;

/// The promise: requests that the slow member gets.
const SHARE_MAX: f64 = 0.02;

const POLICY: &str = "type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct BalanceOptions {
    /// Requests per second, of both clusters.
    pub(crate) rate: f64,
    pub(crate) windows: usize,
    pub(crate) weir: Option<PathBuf>,
    pub(crate) no_namespace: bool,
}

/// Measures; exit code 1 if a promise is broken.
pub(crate) fn main(options: &BalanceOptions) -> ExitCode {
    session::measure(
        options.weir.as_deref(),
        options.no_namespace,
        async |facts| Box::pin(balance(options, facts)).await,
    )
}

async fn balance(options: &BalanceOptions, facts: &Facts) -> Result<(), String> {
    report::print_facts(facts);
    let members = (0..MEMBERS).map(|_| Member::start(1.0)).collect();
    let members: Result<Vec<Member>, String> = members;
    let (mut members, slow) = (members?, Member::start(SLOWNESS)?);
    let nine: Vec<SocketAddr> = members.iter().map(|member| member.origin.addr()).collect();
    let mut ten = nine.clone();
    ten.push(slow.origin.addr());
    members.push(slow);
    let ports = [ReservedPort::new(), ReservedPort::new()].map(|port| port.map_err(told));
    let [of_nine, of_ten] = ports;
    let (of_nine, of_ten) = (of_nine?, of_ten?);
    let bootstrap = bootstrap([(of_nine.number(), &nine), (of_ten.number(), &ten)]);
    let start = StartOptions {
        core: Some(facts.proxy_core),
        program: options.weir.clone(),
        ..StartOptions::default()
    };
    let _proxy = Weir::start_with(&bootstrap, &start).await.map_err(told)?;
    let load = async |port: &ReservedPort, seed| {
        let load = Load::start(plan(port.addr(), options.rate / 2.0, seed)).await;
        load.map_err(told)
    };
    let loads = [load(&of_nine, 1).await?, load(&of_ten, 2).await?];
    let seen = watch(&loads, &members[MEMBERS], options.windows).await;
    let failure = loads.iter().find_map(Load::first_failure);
    for load in loads {
        load.stop().await;
    }
    failure.map_or_else(|| seen.judge(), Err)
}

/// A server, and how often it was asked.
struct Member {
    origin: Origin,
    asked: Arc<AtomicU64>,
}

impl Member {
    /// One that takes so many times as long as is usual.
    fn start(slowness: f64) -> Result<Self, String> {
        let origin = Origin::start("member").map_err(told)?;
        let asked = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&asked);
        origin.script(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let width = SERVICE_MS.end - SERVICE_MS.start;
            let millis = (SERVICE_MS.start + width * fastrand::f64()) * slowness;
            Reply::body("ok").with_delay(Duration::from_secs_f64(millis / 1e3))
        });
        Ok(Self { origin, asked })
    }
}

/// What was seen in windows of the same time.
#[derive(Debug, Default)]
struct Seen {
    without: Vec<Window>,
    with: Vec<Window>,
    /// Requests of the slow member, of those of its cluster.
    asked: u64,
    completed: u64,
}

async fn watch([nine, ten]: &[Load; 2], slow: &Member, windows: usize) -> Seen {
    let _ = ten.window(WARM_UP).await;
    let before = (slow.asked.load(Ordering::Relaxed), ten.counters().completed);
    let mut seen = Seen::default();
    for _ in 0..windows {
        let (without, with) = tokio::join!(nine.window(WINDOW), ten.window(WINDOW));
        seen.without.push(without);
        seen.with.push(with);
    }
    seen.asked = slow.asked.load(Ordering::Relaxed) - before.0;
    seen.completed = ten.counters().completed - before.1;
    seen
}

impl Seen {
    fn judge(&self) -> Result<(), String> {
        let share = self.asked as f64 / self.completed.max(1) as f64;
        println!(
            "{} requests to ten members, {:.2} % of them to the slow one",
            self.completed,
            share * 100.0
        );
        let mut p99 = f64::INFINITY;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let of = |windows: &[Window]| -> Vec<f64> {
                let each = windows.iter().map(|window| window.latency_us(quantile));
                each.collect()
            };
            let (with, without) = (of(&self.with), of(&self.without));
            let Some(ratio) = stats::ratio_interval(&with, &without, 1) else {
                continue;
            };
            if quantile == 0.99 {
                p99 = ratio.ratio;
            }
            let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN) / 1e3;
            println!(
                "{name:<6} with the slow member {:.1} ms, without {:.1} ms: {:.3} [{:.3}, {:.3}] over {} windows",
                median(&with),
                median(&without),
                ratio.ratio,
                ratio.low,
                ratio.high,
                ratio.blocks
            );
        }
        if share > SHARE_MAX {
            return Err("the slow member gets more than 2 %".to_owned());
        }
        if p99 > P99_MAX {
            return Err(format!(
                "the 99th percentile is over {P99_MAX} times what it could be"
            ));
        }
        Ok(())
    }
}

fn plan(target: SocketAddr, rate: f64, seed: u64) -> Plan {
    Plan {
        target,
        protocol: Protocol::Http1,
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections: CONNECTIONS,
        pace: Pace::Open { rate, seed },
    }
}

/// A listener and a cluster of its own for each of them.
fn bootstrap(clusters: [(u16, &Vec<SocketAddr>); 2]) -> String {
    let listeners = clusters.iter().map(|(port, _)| listener(*port));
    let listeners: Vec<Value> = listeners.collect();
    let clusters = clusters
        .iter()
        .map(|(port, members)| cluster(*port, members));
    let clusters: Vec<Value> = clusters.collect();
    let resources = json!({"listeners": listeners, "clusters": clusters});
    format!("static_resources: {resources}\n")
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(port: u16) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": port.to_string()}}]);
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "http",
        "generate_request_id": false,
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    json!({
        "name": port.to_string(),
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}

fn cluster(port: u16, members: &[SocketAddr]) -> Value {
    let members = members
        .iter()
        .map(|member| json!({"endpoint": {"address": address(member.port())}}));
    let members: Vec<Value> = members.collect();
    let policy = json!({"name": "latency", "typed_config": {"@type": POLICY}});
    json!({
        "name": port.to_string(),
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
        "load_assignment": {"cluster_name": port.to_string(), "endpoints": [{"lb_endpoints": members}]},
    })
}

fn told(error: impl ToString) -> String {
    error.to_string()
}
