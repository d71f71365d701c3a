//! The data plane alone, for images and sidecars; the same as `weir proxy`.

use std::process::ExitCode;

use clap::Parser;
use proxy::command::ProxyArgs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An L4/L7 proxy configured by Envoy's v3 API.
#[derive(Debug, Parser)]
#[command(name = "weir-proxy", version)]
struct Command {
    #[command(flatten)]
    proxy: ProxyArgs,
}

fn main() -> ExitCode {
    proxy::command::run(&Command::parse().proxy)
}
