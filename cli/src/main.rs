//! `weir`: everything a person types.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to people"
)]

mod check;
mod control_plane;
mod demo;
mod explain;

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
  weir proxy --from :8080 --to 127.0.0.1:9000           a reverse proxy without a file
  weir proxy -c bootstrap.yaml                          a proxy with an Envoy bootstrap
  weir control-plane --resources DIR --listen :18000    serve a directory over xDS
  weir check DIR bootstrap.yaml                         find mistakes before anything runs"
)]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find mistakes in bootstraps and resource files
    Check(check::CheckArgs),
    /// Serve a directory of resources over xDS
    ControlPlane(control_plane::ControlPlaneArgs),
    /// Control plane, proxy and backends in one process, on loopback
    Demo(demo::DemoArgs),
    /// What a code in an error message means
    Explain(explain::ExplainArgs),
    /// Run the data plane
    Proxy(Box<proxy::command::ProxyArgs>),
}

fn main() -> ExitCode {
    match Weir::parse().command {
        Command::Check(args) => check::run(&args),
        Command::ControlPlane(args) => control_plane::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Proxy(args) => proxy::command::run(&args),
    }
}
