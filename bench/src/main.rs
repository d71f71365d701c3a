//! `weir-bench`: Weir beside Envoy, HAProxy and nginx, in one run on one machine.
//!
//! Exit codes: 0 done, 1 the comparison could not be made or was interrupted, 2 wrong usage.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod compare;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::compare::{
    BalanceKind, BalanceOptions, Contestant, CostOptions, CurveOptions, GateOptions, Options,
    RotationOptions,
};

#[derive(Debug, Parser)]
#[command(
    name = "weir-bench",
    version,
    about = "Weir beside its peers, in one run on one machine"
)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure every scenario with every proxy and print a table.
    Compare(CompareArguments),
    /// Measure what a member in trouble gets, and does to the tail of its cluster.
    Balance(BalanceArguments),
    /// Measure what protection and feedback cost: the same traffic with and without, side by side.
    Cost(CostArguments),
    /// Measure latency over offered rate and draw it.
    Curve(CurveArguments),
    /// Hold instructions, system calls and memory to the recorded values.
    Gates(GatesArguments),
    /// Replace certificates under load: nobody fails, tails stay as they are.
    Rotation(RotationArguments),
    /// List the scenarios.
    Scenarios,
    /// The floor: relay bytes between a port and a target, nothing else.
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        listen: u16,
        #[arg(long)]
        target: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct CompareArguments {
    /// Short windows and few blocks: under three minutes, intervals only a hint.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO,...")]
    only: Vec<String>,
    /// Only these proxies.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "LIST")]
    peers: Vec<Contestant>,
    /// Write everything measured to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
    /// Keep windows that other processes disturbed instead of measuring them again.
    #[arg(long)]
    accept_disturbed: bool,
    /// Stay in the network namespace of the caller, with its congestion control.
    #[arg(long)]
    no_namespace: bool,
}

#[derive(Debug, clap::Args)]
struct CurveArguments {
    /// The row whose traffic is offered; see `weir-bench scenarios`.
    #[arg(long, value_name = "SCENARIO", default_value = "http1-small")]
    scenario: String,
    /// Only these proxies.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "LIST")]
    peers: Vec<Contestant>,
    /// Short windows: about a minute, and tails are a hint.
    #[arg(long)]
    quick: bool,
    /// Where the picture goes, as SVG.
    #[arg(long, value_name = "FILE", default_value = "bench/latency.svg")]
    out: PathBuf,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
    /// Keep windows that other processes disturbed instead of measuring them again.
    #[arg(long)]
    accept_disturbed: bool,
    /// Stay in the network namespace of the caller, with its congestion control.
    #[arg(long)]
    no_namespace: bool,
}

#[derive(Debug, clap::Args)]
struct GatesArguments {
    /// Write what is measured in place of comparing with it.
    #[arg(long)]
    record: bool,
    /// Only these gates.
    #[arg(long, value_delimiter = ',', value_name = "GATE,...")]
    only: Vec<String>,
    /// Where the recorded values stand.
    #[arg(long, value_name = "FILE", default_value = "bench/gates.json")]
    file: PathBuf,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct BalanceArguments {
    /// Requests per second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Windows of five seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    windows: u16,
    /// Only these ways.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "KIND,...")]
    only: Vec<BalanceKind>,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
    /// Stay in the network namespace of the caller, with its congestion control.
    #[arg(long)]
    no_namespace: bool,
}

#[derive(Debug, clap::Args)]
struct CostArguments {
    /// Only these rows.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO,...")]
    only: Vec<String>,
    /// How often both are started anew.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    blocks: u16,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
    /// Stay in the network namespace of the caller, with its congestion control.
    #[arg(long)]
    no_namespace: bool,
}

#[derive(Debug, clap::Args)]
struct RotationArguments {
    /// Requests per second.
    #[arg(long, default_value_t = 5_000.0)]
    rate: f64,
    /// Length of each of the two parts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(8..=3_600))]
    seconds: u64,
    /// Rotations in each window of five seconds whose tails are compared.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    times: u32,
    /// The weir-proxy to measure, in place of WEIR_BIN or the build in the target directory.
    #[arg(long, value_name = "PROGRAM")]
    weir: Option<PathBuf>,
    /// Stay in the network namespace of the caller, with its congestion control.
    #[arg(long)]
    no_namespace: bool,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Action::Compare(arguments) => {
            let options = Options {
                quick: arguments.quick,
                only: arguments.only,
                contestants: arguments.peers,
                json: arguments.json,
                weir: arguments.weir,
                accept_disturbed: arguments.accept_disturbed,
                no_namespace: arguments.no_namespace,
            };
            compare::main(&options)
        }
        Action::Balance(arguments) => compare::balance(&BalanceOptions {
            rate: arguments.rate,
            windows: arguments.windows.into(),
            kinds: arguments.only,
            weir: arguments.weir,
            no_namespace: arguments.no_namespace,
        }),
        Action::Cost(arguments) => compare::cost(&CostOptions {
            only: arguments.only,
            blocks: arguments.blocks.into(),
            weir: arguments.weir,
            no_namespace: arguments.no_namespace,
        }),
        Action::Curve(arguments) => compare::curve(&CurveOptions {
            scenario: arguments.scenario,
            contestants: arguments.peers,
            quick: arguments.quick,
            out: arguments.out,
            weir: arguments.weir,
            accept_disturbed: arguments.accept_disturbed,
            no_namespace: arguments.no_namespace,
        }),
        Action::Gates(arguments) => compare::gates(&GateOptions {
            file: arguments.file,
            record: arguments.record,
            only: arguments.only,
            weir: arguments.weir,
        }),
        Action::Rotation(arguments) => compare::rotation(&RotationOptions {
            rate: arguments.rate,
            seconds: arguments.seconds,
            times: arguments.times,
            weir: arguments.weir,
            no_namespace: arguments.no_namespace,
        }),
        Action::Scenarios => {
            compare::list_scenarios();
            ExitCode::SUCCESS
        }
        Action::Relay { listen, target } => match bench::relay::run(listen, target) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("weir-bench: the relay ended: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
