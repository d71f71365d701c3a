//! `weir-simulator`: the proxy's own pickers under virtual time, beside those of others and beside an
//! oracle. Same seed, same arrivals, same services: differences are the policies'.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

mod policy;
mod scenario;
#[cfg(test)]
mod tests;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::policy::Kind;
use crate::scenario::{SCENARIOS, Scenario};
use crate::world::{Outcome, World, new_histogram};

/// Balancing policies under virtual time.
#[derive(Debug, Parser)]
#[command(name = "weir-simulator", version)]
struct Arguments {
    /// Only these scenarios; a prefix is enough.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO,...")]
    only: Vec<String>,
    /// Only these policies.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "POLICY,...")]
    policies: Vec<Kind>,
    /// Runs per cell, each with a seed of its own.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Print the first host's share per second as well.
    #[arg(long)]
    share: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_wanted = |scenario: &&Scenario| {
        let mut only = arguments.only.iter();
        arguments.only.is_empty() || only.any(|name| scenario.name.starts_with(name.as_str()))
    };
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.policies.is_empty() || arguments.policies.contains(kind))
        .collect();
    println!(
        "{:<9}{:<10}{:>9}{:>9}{:>10}{:>9}",
        "", "", "p50 ms", "p99 ms", "p99.9 ms", "failed"
    );
    for scenario in SCENARIOS.iter().filter(is_wanted) {
        println!("{}: {}", scenario.name, scenario.title);
        for kind in &kinds {
            report(scenario, *kind, &arguments);
        }
    }
    ExitCode::SUCCESS
}

fn report(scenario: &Scenario, kind: Kind, arguments: &Arguments) {
    let outcomes: Vec<Outcome> = (1..=arguments.seeds)
        .map(|seed| World::new(*scenario, kind, seed).run())
        .collect();
    let mut all = new_histogram();
    let (mut failed, mut requests) = (0, 0);
    for outcome in &outcomes {
        let added = all.add(&outcome.latency);
        assert!(added.is_ok(), "equal histograms: {added:?}");
        failed += outcome.failed;
        requests += outcome.requests;
    }
    let ms = |part: f64| all.value_at_quantile(part) as f64 / 1e3;
    println!(
        "{:<9}{:<10}{:>9.1}{:>9.1}{:>10.1}{:>8.2}%",
        "",
        kind.name(),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        failed as f64 / requests.max(1) as f64 * 100.0
    );
    if arguments.share {
        let shares = outcomes.iter().take(1).flat_map(|outcome| {
            let seconds = outcome.first_host.iter().zip(&outcome.per_second);
            seconds.map(|(first, all)| *first as f64 / (*all).max(1) as f64 * 100.0)
        });
        let text: Vec<String> = shares.map(|share| format!("{share:.1}")).collect();
        println!("{:<9}share % {}", "", text.join(" "));
    }
}
