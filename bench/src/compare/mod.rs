//! The comparison: every scenario with every proxy, interleaved, and the table at the end.
//!
//! The proxy has one core for itself; generator and origin share another, in one thread. Each
//! block runs the proxies in random order and then in the opposite one (A B B A), every run with a
//! fresh process. What cannot be measured leaves a hole with its reason.

mod backdrop;
mod configs;
mod contestant;
mod endpoints;
mod footprint;
mod gates;
mod host;
mod namespace;
mod outcome;
mod report;
mod scenario;
mod scenarios;
mod traffic;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::load::{Pace, Protocol};
use bench::process::{cores, pin_thread};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::contestant::Contestant;
pub(crate) use self::gates::{GateOptions, main as gates};

use self::backdrop::Backdrop;
use self::contestant::Site;
use self::host::Facts;
use self::outcome::{Outcome, Record, Run};
use self::report::Progress;
use self::scenario::{Kind, Scenario, Traffic};
use self::scenarios::SCENARIOS;
use self::traffic::{Stage, Timing};

/// Exit code of wrong usage, as clap has it.
const USAGE: u8 = 2;

/// Part of the slowest proxy's saturation at which latency is measured, for all alike.
const OPEN_LOAD: f64 = 0.5;

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
                    warm_up: milliseconds(80),
                    window: milliseconds(200),
                },
                idle_connections: 500,
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
            },
            // Two descriptors each in 20,000, the usual limit, with room for the rest.
            idle_connections: 9_000,
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
        Err(sentence) => {
            eprintln!("weir-bench: {sentence}");
            return ExitCode::from(USAGE);
        }
    };
    match run(options, &scenarios) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("weir-bench: {sentence}");
            ExitCode::FAILURE
        }
    }
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

fn run(options: &Options, scenarios: &[&Scenario]) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let wants_namespace = !options.no_namespace && namespace::inside().is_none();
    if wants_namespace && namespace::is_possible() {
        match runtime.block_on(namespace::run_inside()) {
            Ok(status) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return Ok(ExitCode::from(code.unwrap_or(1)));
            }
            Err(error) => eprintln!("weir-bench: no network namespace of its own: {error}"),
        }
    }
    let cores = cores().map_err(|error| format!("no processor affinity: {error}"))?;
    let [proxy_core, .., load_core] = cores.as_slice() else {
        return Err("two cores are needed: one for the proxy, one for the load".to_owned());
    };
    let facts = Facts::new(&cores, *proxy_core, *load_core, options.weir.as_deref());
    pin_thread(*load_core).map_err(|error| format!("cannot pin to core {load_core}: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            done = compare(options, scenarios, &facts) => done.map(|()| ExitCode::SUCCESS),
            signal = interrupted() => {
                signal.map_err(|error| error.to_string())?;
                Err("interrupted; every process it started has ended".to_owned())
            }
        }
    })
}

async fn interrupted() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn compare(options: &Options, scenarios: &[&Scenario], facts: &Facts) -> Result<(), String> {
    report::print_facts(facts);
    let contestants = match options.contestants.as_slice() {
        [] => Contestant::ALL.to_vec(),
        chosen => Contestant::ALL
            .into_iter()
            .filter(|each| chosen.contains(each))
            .collect(),
    };
    let mut progress = Progress::new(scenarios.len());
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        progress.scenario(scenario.name);
        let backdrop = Backdrop::new(scenario)?;
        let site = Site {
            setup: scenario.setup(),
            origin: backdrop.origin().port(),
            core: facts.proxy_core,
            weir: options.weir.clone(),
            wrapper: Vec::new(),
            values: backdrop.values(scenario),
        };
        let match_up = MatchUp {
            scenario,
            contestants: &contestants,
            effort: Effort::new(options.quick),
        };
        let stage = Stage {
            scenario,
            backdrop,
            site,
            timing: match_up.effort.timing,
            accept_disturbed: options.accept_disturbed,
        };
        let mut outcome = match_up.play(&stage, &progress).await?;
        outcome.verdicts = report::verdicts(scenario, &outcome, &outcomes);
        progress.clear();
        report::print_outcome(scenario, &outcome);
        outcomes.push(outcome);
    }
    report::print_summary(&outcomes);
    match &options.json {
        Some(file) => report::write_json(file, facts, &outcomes),
        None => Ok(()),
    }
}

/// One scenario among its contestants.
struct MatchUp<'a> {
    scenario: &'a Scenario,
    contestants: &'a [Contestant],
    effort: Effort,
}

impl MatchUp<'_> {
    async fn play(&self, stage: &Stage<'_>, progress: &Progress) -> Result<Outcome, String> {
        let mut outcome = Outcome {
            scenario: self.scenario.name.to_owned(),
            title: self.scenario.title.to_owned(),
            records: self
                .contestants
                .iter()
                .map(|each| (*each, Record::default()))
                .collect(),
            ..Outcome::default()
        };
        match self.scenario.kind {
            Kind::Traffic(traffic) => {
                self.play_traffic(stage, &traffic, &mut outcome, progress)
                    .await?;
            }
            _ => self.play_values(stage, &mut outcome, progress).await,
        }
        Ok(outcome)
    }

    async fn play_traffic(
        &self,
        stage: &Stage<'_>,
        traffic: &Traffic,
        outcome: &mut Outcome,
        progress: &Progress,
    ) -> Result<(), String> {
        progress.step("direct", 0, 1);
        outcome.direct_rate = Some(stage.direct(traffic).await?);
        let rate = if let Some(rate) = traffic.rate {
            rate
        } else {
            let blocks = self.effort.closed_blocks;
            let plan = Blocks {
                traffic,
                pace: Pace::Closed,
                count: blocks,
            };
            for (contestant, runs) in self.blocks(stage, &plan, outcome, progress).await {
                if let Some(record) = outcome.records.get_mut(&contestant) {
                    record.closed = runs;
                }
            }
            let Some(slowest) = slowest_rate(outcome) else {
                return Ok(());
            };
            slowest * OPEN_LOAD
        };
        // A download has no requests that could fall due.
        if matches!(traffic.protocol, Protocol::TcpDownload { .. }) {
            return Ok(());
        }
        outcome.open_rate = Some(rate);
        let pace = Pace::Open { rate, seed: 1 };
        let plan = Blocks {
            traffic,
            pace,
            count: self.effort.open_blocks,
        };
        for (contestant, runs) in self.blocks(stage, &plan, outcome, progress).await {
            if let Some(record) = outcome.records.get_mut(&contestant) {
                record.open = runs;
            }
        }
        Ok(())
    }

    /// Runs blocks of A B B A; who fails leaves the scenario with a reason.
    async fn blocks(
        &self,
        stage: &Stage<'_>,
        plan: &Blocks<'_>,
        outcome: &mut Outcome,
        progress: &Progress,
    ) -> BTreeMap<Contestant, Vec<Vec<Run>>> {
        let mut runs: BTreeMap<Contestant, Vec<Vec<Run>>> = BTreeMap::new();
        for block in 0..plan.count {
            for contestant in self.order(block) {
                let Some(record) = outcome.records.get_mut(&contestant) else {
                    continue;
                };
                if record.hole.is_some() {
                    continue;
                }
                progress.step(contestant.name(), block, plan.count);
                let pace = reseeded(plan.pace, block as u64);
                match stage.run(contestant, plan.traffic, pace).await {
                    Ok(run) => {
                        let blocks = runs.entry(contestant).or_default();
                        blocks.resize(block + 1, Vec::new());
                        if let Some(current) = blocks.last_mut() {
                            current.push(run);
                        }
                    }
                    Err(reason) => record.hole = Some(reason),
                }
            }
        }
        runs
    }

    async fn play_values(&self, stage: &Stage<'_>, outcome: &mut Outcome, progress: &Progress) {
        for block in 0..self.effort.value_blocks {
            for (contestant, record) in &mut outcome.records {
                if record.hole.is_some() {
                    continue;
                }
                // Except where the relay keeps connections, it keeps nothing that a proxy has.
                let is_idle = matches!(self.scenario.kind, Kind::Idle(..));
                if *contestant == Contestant::Floor && !is_idle {
                    *record = Record::hole("says nothing here");
                    continue;
                }
                progress.step(contestant.name(), block, self.effort.value_blocks);
                match self.value(stage, *contestant).await {
                    Ok(value) => record.values.push(value),
                    Err(reason) => *record = Record::hole(reason),
                }
            }
        }
    }

    async fn value(&self, stage: &Stage<'_>, contestant: Contestant) -> Result<f64, String> {
        match self.scenario.kind {
            Kind::Idle(..) => {
                footprint::idle(stage, contestant, self.effort.idle_connections).await
            }
            Kind::EndpointChange(clusters) => endpoints::change(stage, contestant, clusters).await,
            Kind::Rest(_) => footprint::rest(stage, contestant).await,
            Kind::Start | Kind::Traffic(_) => footprint::start(stage, contestant).await,
        }
    }

    /// Random order there, the opposite order back; the block's number is the seed. Halves are the
    /// way there and the way back of the same order.
    fn order(&self, block: usize) -> Vec<Contestant> {
        let mut order = self.contestants.to_vec();
        let seed = if self.effort.halves { block / 2 } else { block };
        fastrand::Rng::with_seed(seed as u64).shuffle(&mut order);
        let back: Vec<Contestant> = order.iter().rev().copied().collect();
        match (self.effort.halves, block % 2) {
            (false, _) => order.into_iter().chain(back).collect(),
            (true, 0) => order,
            (true, _) => back,
        }
    }
}

/// Blocks of one kind of run.
struct Blocks<'a> {
    traffic: &'a Traffic,
    pace: Pace,
    count: usize,
}

/// The same arrivals for every proxy of a block, others in the next.
fn reseeded(pace: Pace, seed: u64) -> Pace {
    match pace {
        Pace::Closed => Pace::Closed,
        Pace::Open { rate, .. } => Pace::Open { rate, seed },
    }
}

/// The lowest saturation among the proxies.
fn slowest_rate(outcome: &Outcome) -> Option<f64> {
    outcome
        .records
        .iter()
        .filter(|(contestant, record)| **contestant != Contestant::Floor && record.hole.is_none())
        .filter_map(|(_, record)| Record::median(&record.closed, |run| run.requests_per_second))
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests;
