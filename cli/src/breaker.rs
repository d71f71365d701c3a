//! `weir breaker show`: how the limits of a cluster stand, asked of a running proxy.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::lb;
use crate::lb::Output;

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
    /// The cluster's name
    cluster: String,
    /// The admin interface of the proxy
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Asks and prints.
pub(crate) fn run(args: &BreakerArgs) -> ExitCode {
    let BreakerCommand::Show(args) = &args.command;
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("weir: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn show(args: &ShowArgs) -> Result<(), String> {
    let cluster = lb::ask(args.admin, &args.cluster)?;
    match args.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&cluster.weir_limits);
            println!("{}", text.map_err(|error| error.to_string())?);
        }
        Output::Text => cluster
            .weir_limits
            .iter()
            .for_each(|limit| println!("{}", line(limit))),
    }
    Ok(())
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
