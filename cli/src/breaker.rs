//! `weir breaker show`: how the limits of a cluster stand, asked of a running proxy.

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
    /// One line per limit: its state, and how much of it is taken
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
    asked.show(|cluster| &cluster.weir_limits, line)
}

/// A limit in one line.
fn line(limit: &Value) -> String {
    let part = |name: &str| limit.get(name).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{}.{}  {}: {}",
        part("priority"),
        part("resource"),
        part("state"),
        part("why")
    )
}
