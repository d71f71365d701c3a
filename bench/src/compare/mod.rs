//! The comparison: every scenario with every proxy, interleaved, and the table at the end.
//!
//! The proxy has one core for itself; generator and origin share another, in one thread. Each
//! block runs the proxies in random order and then in the opposite one (A B B A), every run with a
//! fresh process. What cannot be measured leaves a hole with its reason.

mod backdrop;
mod balance;
mod configs;
mod contestant;
mod cost;
mod curve;
mod endpoints;
mod footprint;
mod gates;
mod host;
mod match_up;
mod namespace;
mod outcome;
mod report;
mod rotation;
mod scenario;
mod scenarios;
mod session;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use self::balance::{BalanceOptions, Kind as BalanceKind, main as balance};
pub(crate) use self::contestant::Contestant;
pub(crate) use self::cost::{CostOptions, main as cost};
pub(crate) use self::curve::{CurveOptions, main as curve};
pub(crate) use self::gates::{GateOptions, main as gates};
pub(crate) use self::rotation::{RotationOptions, main as rotation};

use self::host::Facts;
use self::match_up::MatchUp;
use self::report::Progress;
use self::scenario::Scenario;
use self::scenarios::SCENARIOS;
use self::traffic::{Stage, Timing};

/// Exit code of wrong usage, as clap has it.
const USAGE: u8 = 2;

/// Says what was asked for wrongly.
fn misused(sentence: &str) -> ExitCode {
    eprintln!("weir-bench: {sentence}");
    ExitCode::from(USAGE)
}

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) only: Vec<String>,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) weir: Option<PathBuf>,
    pub(crate) accept_disturbed: bool,
    pub(crate) no_namespace: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// A B in one block and B A in the next, in place of A B B A in each.
    halves: bool,
    closed_blocks: usize,
    open_blocks: usize,
    value_blocks: usize,
    timing: Timing,
    idle_connections: usize,
    /// Latency of every row, also where no goal asks for it.
    all_latencies: bool,
}

impl Effort {
    fn new(quick: bool) -> Self {
        let milliseconds = Duration::from_millis;
        if quick {
            // Some thirty rows of five proxies in three minutes: about 6 s for each.
            return Self {
                halves: true,
                closed_blocks: 2,
                open_blocks: 1,
                value_blocks: 1,
                timing: Timing {
                    warm_up: milliseconds(70),
                    window: milliseconds(180),
                    // Weir gives back what a start needed after one second.
                    rest: milliseconds(1_300),
                },
                idle_connections: 500,
                all_latencies: false,
            };
        }
        Self {
            halves: false,
            closed_blocks: 6,
            open_blocks: 6,
            value_blocks: 6,
            timing: Timing {
                warm_up: milliseconds(2_000),
                window: milliseconds(5_000),
                rest: milliseconds(3_000),
            },
            // Two descriptors each in 20,000, the usual limit, with room for the rest.
            idle_connections: 9_000,
            all_latencies: true,
        }
    }
}

/// Prints the scenarios.
pub(crate) fn list_scenarios() {
    for scenario in SCENARIOS {
        println!("{:<14} {}", scenario.name, scenario.title);
    }
}

/// Runs the comparison.
pub(crate) fn main(options: &Options) -> ExitCode {
    let scenarios = match chosen(&options.only) {
        Ok(scenarios) => scenarios,
        Err(sentence) => return misused(&sentence),
    };
    session::measure(
        options.weir.as_deref(),
        options.no_namespace,
        async |facts| Box::pin(compare(options, &scenarios, facts)).await,
    )
}

fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if only.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS
            .iter()
            .find(|scenario| scenario.name == name.as_str());
        found.ok_or_else(|| format!("there is no scenario {name:?}; see `weir-bench scenarios`"))
    };
    only.iter().map(find).collect()
}

async fn compare(options: &Options, scenarios: &[&Scenario], facts: &Facts) -> Result<(), String> {
    report::print_facts(facts);
    let contestants = Contestant::among(&options.contestants);
    let effort = Effort::new(options.quick);
    let mut progress = Progress::new(scenarios.len());
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        progress.scenario(scenario.name);
        let stage = Stage {
            accept_disturbed: options.accept_disturbed,
            ..Stage::new(
                scenario,
                facts.proxy_core,
                effort.timing,
                options.weir.clone(),
            )?
        };
        let match_up = MatchUp {
            scenario,
            contestants: &contestants,
            effort,
        };
        let mut outcome = match_up.play(&stage, &progress).await?;
        outcome.verdicts = report::verdicts(scenario, &outcome, &outcomes);
        progress.clear();
        report::print_outcome(scenario, &outcome);
        outcomes.push(outcome);
    }
    report::print_summary(&outcomes);
    if let Some(file) = &options.json {
        report::write_json(file, facts, &outcomes)?;
    }
    report::failures(&outcomes)
}

#[cfg(test)]
mod tests;
