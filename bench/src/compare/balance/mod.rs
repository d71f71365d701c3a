//! What a member in trouble does to its cluster: nine members that are alike, beside the same nine with a tenth that
//! becomes ten times slower, heals, and fails at once. Weights by latency, one proxy, half of the load to each
//! cluster, at the same time. Over HTTP/1.1, as calls of gRPC, and as streams of which nothing is read; at last
//! over HTTP/1.1 by the formula alone, of which nothing is promised. Exit code 1 if a promise is broken.
//!
//! | file | holds |
//! |---|---|
//! | `site` | members that get into trouble, and the proxy's bootstrap |
//! | `walk` | from one condition to the next, and what is seen meanwhile |

mod site;
mod walk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::Transport;
use bench::load::{Load, Pace, Plan, Protocol, RequestShape};
use bench::peer::{StartOptions, Weir};
use bench::ports::ReservedPort;

use self::site::Member;
use super::host::Facts;
use super::{report, session};

/// Members that are alike.
const MEMBERS: usize = 9;

/// Requests on their way to each cluster at most.
const CONNECTIONS: usize = 32;

/// Streams of each of the connections that calls share.
const STREAMS: usize = 8;

/// How requests reach the members.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// HTTP/1.1 on connections that are kept.
    Http,
    /// Calls with one message each way.
    Grpc,
    /// A connection for each request, passed on unread.
    Tcp,
}

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct BalanceOptions {
    /// Requests per second, of both clusters.
    pub(crate) rate: f64,
    pub(crate) windows: usize,
    /// All, if there are none.
    pub(crate) kinds: Vec<Kind>,
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
    let all = [Kind::Http, Kind::Grpc, Kind::Tcp];
    let is_wanted = |kind: &Kind| options.kinds.is_empty() || options.kinds.contains(kind);
    let mut broken = Vec::new();
    for kind in all.into_iter().filter(is_wanted) {
        println!("\n{}", kind.title());
        broken.extend(measured(options, facts, (kind, false)).await?);
    }
    if is_wanted(&Kind::Http) {
        println!("\n{}, the formula alone", Kind::Http.title());
        let _ = measured(options, facts, (Kind::Http, true)).await?; // for people to compare with
    }
    match broken.is_empty() {
        true => Ok(()),
        false => Err(broken.join("; ")),
    }
}

/// The promises that were broken.
async fn measured(
    options: &BalanceOptions,
    facts: &Facts,
    (kind, is_plain): (Kind, bool),
) -> Result<Vec<String>, String> {
    let members = (0..=MEMBERS).map(|_| Member::start(kind));
    let members: Result<Vec<Member>, String> = members.collect();
    let members = members?;
    let addresses: Vec<SocketAddr> = members.iter().map(Member::addr).collect();
    let of_nine = ReservedPort::new().map_err(told)?;
    let of_ten = ReservedPort::new().map_err(told)?;
    let clusters = [
        (of_nine.number(), &addresses[..MEMBERS]),
        (of_ten.number(), &addresses[..]),
    ];
    let start = StartOptions {
        core: Some(facts.proxy_core),
        program: options.weir.clone(),
        ..StartOptions::default()
    };
    let bootstrap = site::bootstrap(kind, is_plain, &clusters);
    let _proxy = Weir::start_with(&bootstrap, &start).await.map_err(told)?;
    let load = async |port: &ReservedPort, seed| {
        let load = Load::start(kind.plan(port.addr(), options.rate / 2.0, seed)).await;
        load.map_err(told)
    };
    let loads = [load(&of_nine, 1).await?, load(&of_ten, 2).await?];
    let broken = walk::walk((kind, is_plain), &loads, &members[MEMBERS], options.windows).await;
    for load in loads {
        load.stop().await;
    }
    broken
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Http => "requests of HTTP/1.1",
            Self::Grpc => "calls of gRPC",
            Self::Tcp => "streams",
        }
    }

    fn plan(self, target: SocketAddr, rate: f64, seed: u64) -> Plan {
        let (protocol, connections) = match self {
            Self::Http => (Protocol::Http1, CONNECTIONS),
            Self::Grpc => (
                Protocol::GrpcUnary { streams: STREAMS },
                CONNECTIONS / STREAMS,
            ),
            Self::Tcp => (Protocol::Http1Close, CONNECTIONS),
        };
        Plan {
            target,
            protocol,
            transport: Transport::Plain,
            request: RequestShape::default(),
            connections,
            pace: Pace::Open { rate, seed },
        }
    }
}

fn told(error: impl ToString) -> String {
    error.to_string()
}
