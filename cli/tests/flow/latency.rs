//! Weights follow latency: a slow host, and one that fails at once, keep next to nothing and are back
//! soon after they recover; `weir.load_balancing.v1.LatencyWeightedRoundRobin` through the binary.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::ports::ReservedPort;
use http::StatusCode;
use tokio::task::JoinSet;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::raw::Raw;
use crate::support::until;

pub(crate) const POLICY: &str = "type: STATIC
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: latency
          typed_config:
            '@type': type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin
      - typed_extension_config:
          name: round_robin
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin
";

pub(crate) const HOSTS: usize = 10;
const CLIENTS: usize = 16;

/// Answers among which a share is counted: two percent are ten.
const WINDOW: u64 = 500;

/// Long enough that a busy machine does not answer in the place of the hosts.
pub(crate) const USUAL: Duration = Duration::from_millis(20);
pub(crate) const SLOW: Duration = Duration::from_millis(200);

/// Asks without end until it is told that it is over.
pub(crate) type Client =
    fn(SocketAddr, Arc<AtomicBool>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Origins, how many answers each gave, and clients that ask without end.
pub(crate) struct World {
    origins: Vec<Origin>,
    /// What an origin answers that is well, and one that is not.
    reply: fn(StatusCode) -> Reply,
    counts: Vec<Arc<AtomicU64>>,
    admin: ReservedPort,
    child: Child,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

/// A bootstrap for a port, one for the admin interface, and the first origin.
type Base = fn(u16, u16, SocketAddr) -> String;

impl World {
    /// Clients that ask one request after another over one connection.
    async fn of_requests() -> Self {
        Self::start((with_policy, answer), request_after_request).await
    }

    /// Clients that ask one request over each connection, which the proxy passes on unread.
    async fn of_streams() -> Self {
        let base = |port, admin, first| {
            bootstrap::tcp(port, admin, first).replace("type: STATIC\n", POLICY)
        };
        Self::start((base, answer), |addr, is_over| {
            Box::pin(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = Raw::open(addr).await;
                    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                    client.read_to(b"hello").await;
                }
            })
        })
        .await
    }

    /// With the bootstrap for a port, one for the admin interface, and the first origin.
    pub(crate) async fn start(
        (base, reply): (Base, fn(StatusCode) -> Reply),
        client: Client,
    ) -> Self {
        let origins = (0..HOSTS).map(|at| Origin::start(&at.to_string()).expect("a free port"));
        let origins: Vec<Origin> = origins.collect();
        let admin = ReservedPort::new().expect("a free port");
        let text = |port| with_all(base(port, admin.number(), origins[0].addr()), &origins);
        let child = Child::start(weir(), text).await;
        let mut world = Self {
            counts: origins.iter().map(|_| Arc::default()).collect(),
            origins,
            reply,
            admin,
            child,
            is_over: Arc::default(),
            clients: JoinSet::new(),
        };
        (0..HOSTS).for_each(|at| world.answer(at, StatusCode::OK, USUAL));
        for _ in 0..CLIENTS {
            let (is_over, addr) = (Arc::clone(&world.is_over), world.child.addr());
            world.clients.spawn(client(addr, is_over));
        }
        world
    }

    /// From now on this origin answers like this.
    pub(crate) fn answer(&self, at: usize, status: StatusCode, delay: Duration) {
        let (count, reply) = (Arc::clone(&self.counts[at]), self.reply);
        self.origins[at].script(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            reply(status).with_delay(delay)
        });
    }

    /// Waits until the first host has less than one answer of a hundred: the 99th percentile of all is one
    /// of the others then, however slow it is.
    pub(crate) async fn percentile_is_of_others(&self) {
        let what = "99 of 100 answers to come from others";
        self.share_becomes(what, |share| share < 0.01).await;
    }

    /// Waits until the first host, among equals, has about what it should.
    pub(crate) async fn share_is_fair(&self, what: &str) {
        let fair = 1.0 / HOSTS as f64;
        let is_fair = |share: f64| (0.8 * fair..1.4 * fair).contains(&share);
        self.share_becomes(what, is_fair).await;
    }

    fn total(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The first host's part of the next answers.
    async fn share(&self) -> f64 {
        let (first, all) = (self.counts[0].load(Ordering::Relaxed), self.total());
        until("answers", async || {
            (self.total() >= all + WINDOW).then_some(())
        })
        .await;
        let first = self.counts[0].load(Ordering::Relaxed) - first;
        first as f64 / (self.total() - all) as f64
    }

    /// Waits until its share is like this in two windows in a row.
    pub(crate) async fn share_becomes(&self, what: &str, is_wanted: impl Fn(f64) -> bool) {
        let mut before = false;
        let wanted = async || {
            let share = self.share().await;
            let both = before && is_wanted(share);
            before = is_wanted(share);
            both.then_some(())
        };
        until(what, wanted).await;
    }

    /// What `weir lb show` says of the first host.
    pub(crate) fn told_of_first(&self) -> String {
        let output = self.explained();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let first = self.origins[0].addr().to_string();
        let line = told.lines().find(|line| line.contains(&first));
        line.expect("a line for each host").to_owned()
    }

    fn explained(&self) -> Output {
        let mut command = weir();
        command.args([
            "lb",
            "show",
            "origin",
            "--admin",
            &self.admin.addr().to_string(),
        ]);
        command
            .output()
            .expect("the program was built with this test")
    }

    async fn metrics(&self) -> String {
        let mut admin = Raw::open(self.admin.addr()).await;
        let request = b"GET /stats/prometheus?filter=endpoint HTTP/1.1\r\nhost: localhost\r\n\
            connection: close\r\n\r\n";
        admin.send(request).await;
        String::from_utf8_lossy(&admin.read_all().await).into_owned()
    }

    pub(crate) async fn stop(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client panicked");
        }
    }
}

pub(crate) fn request_after_request(
    addr: SocketAddr,
    is_over: Arc<AtomicBool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut client = Raw::open(addr).await;
        while !is_over.load(Ordering::Relaxed) {
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            client.read_to(b"hello").await;
        }
    })
}

/// A proxy in front of origins of HTTP/1.1.
pub(crate) fn with_policy(port: u16, admin: u16, first: SocketAddr) -> String {
    let text = bootstrap::fixed(port, first, false).replace("type: STATIC\n", POLICY);
    text.replace("port_value: 0}", &format!("port_value: {admin}}}"))
}

fn answer(status: StatusCode) -> Reply {
    let reply = Reply::body("hello");
    Reply { status, ..reply }
}

/// With the other origins behind the first.
fn with_all(mut text: String, origins: &[Origin]) -> String {
    for origin in &origins[1..] {
        let port = origin.addr().port();
        text.push_str(&format!(
            "        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
        ));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_leave_a_host_in_trouble_and_return() {
    let world = World::of_requests().await;
    world.share_is_fair("a fair share").await;

    world.answer(0, StatusCode::OK, SLOW);
    world
        .share_becomes("a slow host to keep two percent", |share| share <= 0.02)
        .await;
    world.percentile_is_of_others().await;
    let line = world.told_of_first();
    assert!(
        [
            "latency",
            "baseline",
            "samples",
            "failures of",
            "towards",
            "floor"
        ]
        .iter()
        .all(|part| line.contains(part)),
        "{line}"
    );

    let exposition = world.metrics().await;
    for gauge in [
        "configured_weight",
        "effective_weight",
        "latency_milliseconds",
        "latency_baseline_milliseconds",
        "wanted_weight",
        "rq_total",
    ] {
        let address = world.origins[0].addr();
        let series = format!(
            "weir_cluster_endpoint_{gauge}{{envoy_cluster_name=\"origin\",envoy_endpoint_address=\"{address}\"}} "
        );
        assert!(exposition.contains(&series), "{series} in {exposition}");
    }

    world.answer(0, StatusCode::OK, USUAL);
    world.share_is_fair("four fifths of a fair share").await;

    world.answer(0, StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    world
        .share_becomes("a failing host to keep two percent", |share| share <= 0.02)
        .await;
    world.answer(0, StatusCode::OK, USUAL);
    world.share_is_fair("four fifths again").await;
    world.stop().await;
}

/// Of a stream nobody can see whether its answer is an error, only how soon it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_leave_a_slow_host_and_return() {
    let world = World::of_streams().await;
    world.share_is_fair("a fair share").await;
    world.answer(0, StatusCode::OK, SLOW);
    world
        .share_becomes("a slow host to keep three percent", |share| share <= 0.03)
        .await;
    world.answer(0, StatusCode::OK, USUAL);
    world.share_is_fair("four fifths of a fair share").await;
    world.stop().await;
}

/// The formula without its guards: a host that fails at once wins what it should lose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_formula_rewards_who_fails_at_once() {
    let base = |port, admin, first| {
        let plain = "LatencyWeightedRoundRobin\n            plain: true\n";
        with_policy(port, admin, first).replace("LatencyWeightedRoundRobin\n", plain)
    };
    let world = World::start((base, answer), request_after_request).await;
    world.share_is_fair("a fair share").await;
    world.answer(0, StatusCode::OK, SLOW);
    world
        .share_becomes("a slow host to keep four percent", |share| share <= 0.04)
        .await;
    world.answer(0, StatusCode::OK, USUAL);
    // What noise does to weights without guards is not promised.
    world
        .share_becomes("half of a fair share", |share| share >= 0.05)
        .await;
    world.answer(0, StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    world
        .share_becomes("a failing host to take a quarter", |share| share >= 0.25)
        .await;
    world.stop().await;
}
