//! `weir`: everything a person types.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to people"
)]

mod balancing;
mod breaker;
mod ca;
mod cert;
mod check;
mod client;
mod control_plane;
mod demo;
mod endpoint;
mod explain;
mod lb;
mod moment;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A proxy data plane with its xDS control plane.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    after_help = "\
Examples:
  weir demo                                             everything at once, on loopback
  weir demo --mtls                                      two sidecars with certificates that are replaced
  weir proxy --from :8080 --to 127.0.0.1:9000           a reverse proxy without a file
  weir proxy -c bootstrap.yaml                          a proxy with an Envoy bootstrap
  weir control-plane --resources DIR --listen :18000    serve a directory over xDS
  weir check DIR bootstrap.yaml                         find mistakes before anything runs
  weir ca init --dir ca --trust-domain mesh.example     an authority for identities of proxies
  weir cert show 127.0.0.1:8443                         what a server shows, in plain words
  weir endpoint drain 127.0.0.1:9901 backend 10.0.0.7:80  nothing new for one member
  weir lb show backend --admin 127.0.0.1:9901           why members have their weights
  weir lb set backend latency                           another policy, while it runs
  weir breaker show backend                             what is limited or refused, and why"
)]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the limits and breakers of a cluster stand, and why
    Breaker(breaker::BreakerArgs),
    /// Identities for proxies: issue, rotate, revoke
    Ca(Box<ca::CaArgs>),
    /// Look at certificates
    Cert(cert::CertArgs),
    /// Find mistakes in bootstraps and resource files
    Check(check::CheckArgs),
    /// Serve a directory of resources over xDS
    ControlPlane(control_plane::ControlPlaneArgs),
    /// Control plane, proxy and backends in one process, on loopback
    Demo(demo::DemoArgs),
    /// Take members of clusters out of a running proxy, and back
    Endpoint(endpoint::EndpointArgs),
    /// What a code in an error message means
    Explain(explain::ExplainArgs),
    /// How clusters balance: look at it, change it while it runs
    Lb(lb::LbArgs),
    /// Run the data plane
    Proxy(Box<proxy::command::ProxyArgs>),
}

fn main() -> ExitCode {
    match Weir::parse().command {
        Command::Breaker(args) => breaker::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Check(args) => check::run(&args),
        Command::ControlPlane(args) => control_plane::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Endpoint(args) => endpoint::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Lb(args) => lb::run(&args),
        Command::Proxy(args) => proxy::command::run(&args),
    }
}
