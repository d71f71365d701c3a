//! What a feature costs: CPU time per request of a row that has it, over that of a row that has not.
//!
//! `compare` gives each row its own minutes, in which a machine can change by more than a feature costs.
//! Here both proxies stand on the same core and take turns in short windows (A B B A); the one whose turn it
//! is not does nothing. Of each the lower quartile of its windows counts: what neighbors do can only make
//! one dearer, and on a shared machine it does so by a third in every fourth window. Each block starts both
//! anew, because where its memory happens to lie makes a process faster or slower for all its life.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::load::Pace;
use bench::stats;

use super::contestant::{Contestant, Running};
use super::host::Facts;
use super::outcome::Hole;
use super::scenario::{Kind, Scenario, Traffic};
use super::traffic::{Stage, Timing};
use super::{chosen, misused, report, session};

/// A row with something, the row without it, and the promise: how many times the CPU time per request.
struct Pair {
    with: &'static str,
    without: &'static str,
    at_most: f64,
}

const PAIRS: [Pair; 3] = [
    Pair {
        with: "http1-guarded",
        without: "http1-small",
        at_most: 1.03,
    },
    Pair {
        with: "h2-guarded",
        without: "h2-to-h2",
        at_most: 1.03,
    },
    Pair {
        with: "http1-latency",
        without: "http1-in-turn",
        at_most: 1.02,
    },
];

/// Windows of each of the two per block.
const TURNS: usize = 16;

/// Many short turns follow a machine that changes; connections are open and warm after the first part.
const TIMING: Timing = Timing {
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(180),
    rest: Duration::ZERO,
};

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct CostOptions {
    pub(crate) only: Vec<String>,
    pub(crate) blocks: usize,
    pub(crate) weir: Option<PathBuf>,
    pub(crate) no_namespace: bool,
}

/// Measures; exit code 1 if a promise is certainly broken.
pub(crate) fn main(options: &CostOptions) -> ExitCode {
    let pairs = match asked(&options.only) {
        Ok(pairs) => pairs,
        Err(sentence) => return misused(&sentence),
    };
    session::measure(
        options.weir.as_deref(),
        options.no_namespace,
        async |facts| Box::pin(cost(options, &pairs, facts)).await,
    )
}

fn asked(only: &[String]) -> Result<Vec<&'static Pair>, String> {
    let find = |name: &String| {
        let found = PAIRS.iter().find(|pair| pair.with == name.as_str());
        found.ok_or_else(|| {
            let names = PAIRS.map(|pair| pair.with).join(", ");
            format!("there is nothing to compare {name:?} with; known are {names}")
        })
    };
    if only.is_empty() {
        return Ok(PAIRS.iter().collect());
    }
    only.iter().map(find).collect()
}

async fn cost(options: &CostOptions, pairs: &[&Pair], facts: &Facts) -> Result<(), String> {
    report::print_facts(facts);
    let mut broken = Vec::new();
    for pair in pairs {
        let with = Side::new(pair.with, options, facts)?;
        let without = Side::new(pair.without, options, facts)?;
        let mut blocks = [Vec::new(), Vec::new()];
        for at in 0..options.blocks {
            // Who begins changes from block to block.
            let [one, other] = if at % 2 == 0 {
                block([&with, &without]).await?
            } else {
                let [without, with] = block([&without, &with]).await?;
                [with, without]
            };
            blocks[0].push(one);
            blocks[1].push(other);
        }
        if pair.judge(&blocks) {
            broken.push(pair.with);
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("over what was promised: {}", broken.join(", ")))
}

/// CPU time per request of both, in microseconds.
async fn block(sides: [&Side; 2]) -> Result<[f64; 2], String> {
    let mut proxies = [sides[0].start().await?, sides[1].start().await?];
    let mut turns = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for which in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            turns[which].push(sides[which].turn(&mut proxies[which]).await?);
        }
    }
    Ok(turns.map(lower_quartile))
}

fn lower_quartile(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(f64::NAN)
}

/// One of the two rows.
struct Side {
    stage: Stage<'static>,
    traffic: Traffic,
}

impl Side {
    fn new(name: &'static str, options: &CostOptions, facts: &Facts) -> Result<Self, String> {
        let scenarios: Vec<&'static Scenario> = chosen(&[name.to_owned()])?;
        let [scenario] = scenarios[..] else {
            return Err(format!("no row {name}"));
        };
        let Kind::Traffic(traffic) = scenario.kind else {
            return Err(format!("row {name} has no traffic"));
        };
        let stage = Stage::new(scenario, facts.proxy_core, TIMING, options.weir.clone())?;
        Ok(Self { stage, traffic })
    }

    async fn start(&self) -> Result<Running, String> {
        let started = self.stage.start(Contestant::Weir).await;
        Ok(started.map_err(told)?.0)
    }

    async fn turn(&self, running: &mut Running) -> Result<f64, String> {
        let run = self.stage.window(running, &self.traffic, Pace::Closed);
        Ok(run.await.map_err(told)?.cpu_us)
    }
}

impl Pair {
    /// Prints what was seen; whether the whole interval is over the promise.
    fn judge(&self, [with, without]: &[Vec<f64>; 2]) -> bool {
        let Some(ratio) = stats::ratio_interval(with, without, 1) else {
            println!("{}: nothing was measured", self.with);
            return true;
        };
        let verdict = match () {
            () if ratio.high <= self.at_most => "met",
            () if ratio.low > self.at_most => "missed",
            () => "within the noise",
        };
        let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN);
        println!(
            "{:<14} {:.2} us, {} {:.2} us: {:.4} [{:.4}, {:.4}] over {} blocks; at most {}: {verdict}",
            self.with,
            median(with),
            self.without,
            median(without),
            ratio.ratio,
            ratio.low,
            ratio.high,
            ratio.blocks,
            self.at_most
        );
        ratio.low > self.at_most
    }
}

fn told(hole: Hole) -> String {
    let (Hole::Absent(reason) | Hole::Failed(reason)) = hole;
    reason
}
