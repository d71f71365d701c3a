//! `weir-simulator`: the proxy's own pickers under virtual time, beside those of others and beside an
//! oracle. Same seed, same arrivals, same services: differences are the policies'.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for a terminal"
)]

mod cell;
mod host;
mod picture;
mod policy;
mod report;
mod scenario;
#[cfg(test)]
mod tests;
mod verdict;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

use crate::cell::Cell;
use crate::policy::Kind;
use crate::report::Row;
use crate::scenario::{SCENARIOS, Scenario};

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
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Print the share per second of hosts that change (or of the first) as well.
    #[arg(long)]
    share: bool,
    /// Write every run's values there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw shares over time and tails there.
    #[arg(long, value_name = "DIRECTORY")]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_wanted = |scenario: &&Scenario| {
        let mut only = arguments.only.iter();
        arguments.only.is_empty() || only.any(|name| scenario.name.starts_with(name.as_str()))
    };
    println!("{}", report::HEAD);
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(is_wanted) {
        let row = row(scenario, &arguments);
        println!("{}", row.text());
        if arguments.share {
            row.cells.iter().for_each(print_shares);
        }
        rows.push(row);
    }
    match write(&rows, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn row(scenario: &Scenario, arguments: &Arguments) -> Row {
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.policies.is_empty() || arguments.policies.contains(kind));
    let cells: Vec<Cell> = kinds
        .map(|kind| Cell::of(scenario, kind, arguments.seeds))
        .collect();
    Row {
        scenario: *scenario,
        verdicts: verdict::verdicts(scenario, &cells),
        cells,
    }
}

/// Of the first seed.
fn print_shares(cell: &Cell) {
    let shares = cell.runs.first().map(|run| run.shares.as_slice());
    let shares = shares.unwrap_or_default().iter();
    let text: Vec<String> = shares
        .map(|share| format!("{:.1}", share * 100.0))
        .collect();
    println!("  {} % {}", cell.kind.name(), text.join(" "));
}

fn write(rows: &[Row], arguments: &Arguments) -> Result<(), String> {
    if let Some(path) = &arguments.json {
        let scenarios: Vec<Value> = rows.iter().map(Row::json).collect();
        let all = json!({ "seeds": arguments.seeds, "scenarios": scenarios });
        save(path, &format!("{all:#}\n"))?;
    }
    if let Some(directory) = &arguments.plot {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        for (name, text) in picture::pictures(rows, arguments.seeds) {
            save(&directory.join(name), &text)?;
        }
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
