//! `weir breaker show`: how the limits and breakers of a cluster stand and why, asked of a running proxy.

use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::lb::ClusterArgs;

/// Flags of `weir breaker`.
#[derive(Args, Debug)]
pub(crate) struct BreakerArgs {
    #[command(subcommand)]
    command: BreakerCommand,
}

#[derive(Debug, Subcommand)]
enum BreakerCommand {
    /// One line per limit and breaker: its state, and why it is so
    Show(ShowArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir breaker show backend
  weir breaker show backend --admin 127.0.0.1:15000 -o json")]
struct ShowArgs {
    #[command(flatten)]
    asked: ClusterArgs,
}

/// Asks and prints.
pub(crate) fn run(args: &BreakerArgs) -> ExitCode {
    let BreakerCommand::Show(ShowArgs { asked }) = &args.command;
    asked.show(
        |cluster| [cluster.weir_limits, cluster.weir_breakers].concat(),
        line,
    )
}

/// A limit or a breaker in one line.
fn line(one: &Value) -> String {
    let part = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = match one.get("resource") {
        Some(_) => format!("{}.{}", part("priority"), part("resource")),
        None => part("name").to_owned(),
    };
    format!("{name}  {}: {}", part("state"), part("why"))
}
