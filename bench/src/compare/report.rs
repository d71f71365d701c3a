//! What the terminal and the JSON file say.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use bench::stats::{self, RatioInterval};
use serde::Serialize;

use super::contestant::Contestant;
use super::host::{Disturbance, Facts};
use super::outcome::{Hole, Outcome, Record, Verdict};
use super::scenario::{Against, Goal, Kind, Metric, Scenario};

/// A side less busy than this in closed loop was not the limit of the rate.
const SATURATED: f64 = 0.95;

const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The line that shows where a long run is.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    scenario: &'static str,
    done: usize,
    total: usize,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            scenario: "",
            done: 0,
            total,
        }
    }

    pub(crate) fn scenario(&mut self, name: &'static str) {
        self.scenario = name;
        self.done += 1;
        if !self.terminal {
            eprintln!("[{}/{}] {name}", self.done, self.total);
        }
    }

    pub(crate) fn step(&self, contestant: &str, block: usize, blocks: usize) {
        if self.terminal {
            let (done, total, scenario) = (self.done, self.total, self.scenario);
            eprint!(
                "\r\x1b[K[{done}/{total}] {scenario}: block {}/{blocks}, {contestant}",
                block + 1
            );
            let _lost = io::stderr().flush();
        }
    }

    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Prints the head of the report.
pub(crate) fn print_facts(facts: &Facts) {
    let versions: Vec<String> = facts
        .versions
        .iter()
        .filter(|(contestant, _)| *contestant != Contestant::Floor)
        .map(|(contestant, version)| {
            format!(
                "{} {}",
                contestant.name(),
                version.as_deref().unwrap_or("not there")
            )
        })
        .collect();
    println!(
        "kernel {}, {}, {} cores",
        facts.kernel, facts.cpu, facts.cores
    );
    println!(
        "proxy on core {}, generator and origin on core {}",
        facts.proxy_core, facts.load_core
    );
    match &facts.namespace {
        Some(_) => println!("{} in an own network namespace", facts.congestion_control),
        None => println!(
            "congestion control {} for proxies, cubic for our ends where allowed: no own namespace",
            facts.congestion_control
        ),
    }
    println!("{}; commit {}", versions.join(", "), facts.commit);
}

/// Prints one scenario.
pub(crate) fn print_outcome(scenario: &Scenario, outcome: &Outcome) {
    println!("\n{}: {}", outcome.scenario, outcome.title);
    match scenario.kind {
        Kind::Traffic(_) => print_traffic(outcome),
        Kind::Idle(..) => print_values(outcome, 1.0, "bytes per connection"),
        Kind::Rest(_) => print_values(outcome, MEGABYTE, "MB resident"),
        Kind::Start | Kind::EndpointChange(_) => print_values(outcome, 1.0, "ms"),
    }
    for verdict in &outcome.verdicts {
        println!("  {}", verdict.text);
    }
}

fn print_traffic(outcome: &Outcome) {
    println!(
        "  {:<9}{:>9}{:>8}{:>8}{:>10}{:>7}{:>7}{:>9}{:>9}{:>9}{:>8}",
        "",
        "cpu us/rq",
        "user",
        "sys",
        "req/s",
        "busy",
        "load",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "RSS MB"
    );
    if let Some(rate) = outcome.direct_rate {
        println!("  {:<9}{:>9}{:>8}{:>8}{rate:>10.0}", "direct", "", "", "");
    }
    for (contestant, record) in &outcome.records {
        if let Some(hole) = &record.hole {
            println!("  {:<9}-- {}", contestant.name(), hole.reason());
            continue;
        }
        println!("  {:<9}{}", contestant.name(), traffic_cells(record));
    }
    if let Some(rate) = outcome.open_rate {
        println!("  latency in open loop at {rate:.0} requests/s for all");
    }
}

fn traffic_cells(record: &Record) -> String {
    let runs = if record.closed.is_empty() {
        &record.open
    } else {
        &record.closed
    };
    let cell = |of: fn(&super::outcome::Run) -> f64| Record::median(runs, of).unwrap_or(f64::NAN);
    let open =
        |of: fn(&super::outcome::Run) -> f64| Record::median(&record.open, of).unwrap_or(f64::NAN);
    // The system part by subtraction, so that the three medians add up.
    let user = cell(|run| run.user_us);
    let busy = cell(|run| run.busy);
    // Without a limit of its own a proxy's rate says nothing about the proxy.
    let limit = match busy < SATURATED && !record.closed.is_empty() {
        true => ">",
        false => "",
    };
    let rate = format!("{limit}{:.0}", cell(|run| run.requests_per_second));
    let latency = |of| match record.open.is_empty() {
        true => format!("{:>9}", "-"),
        false => format!("{:>9.0}", open(of)),
    };
    format!(
        "{:>9.2}{:>8.2}{:>8.2}{rate:>10}{:>6.0}%{:>6.0}%{}{}{}{:>8.1} {}",
        cell(|run| run.cpu_us),
        user,
        cell(|run| run.cpu_us) - user,
        busy * 100.0,
        cell(|run| run.generator_busy) * 100.0,
        latency(|run| run.p50_us),
        latency(|run| run.p99_us),
        latency(|run| run.p999_us),
        cell(|run| run.rss_bytes as f64) / MEGABYTE,
        if record.is_disturbed() { "~" } else { "" },
    )
}

fn print_values(outcome: &Outcome, divisor: f64, unit: &str) {
    for (contestant, record) in &outcome.records {
        match (&record.hole, stats::median(&record.values)) {
            (None, Some(value)) => {
                println!("  {:<9}{:>12.1} {unit}", contestant.name(), value / divisor);
            }
            (Some(hole), _) if *contestant != Contestant::Floor => {
                println!("  {:<9}-- {}", contestant.name(), hole.reason());
            }
            _ => {}
        }
    }
}

/// Compares a measured scenario with its goals.
pub(crate) fn verdicts(
    scenario: &Scenario,
    outcome: &Outcome,
    earlier: &[Outcome],
) -> Vec<Verdict> {
    scenario
        .goals
        .iter()
        .map(|goal| verdict(scenario, outcome, earlier, goal))
        .collect()
}

fn verdict(scenario: &Scenario, outcome: &Outcome, earlier: &[Outcome], goal: &Goal) -> Verdict {
    let of: fn(&Record) -> Vec<f64> = match goal.metric {
        Metric::Main => Record::main,
        Metric::P999 => Record::p999,
    };
    let what = match (goal.metric, scenario.kind) {
        (Metric::P999, _) => "p99.9",
        (Metric::Main, Kind::Traffic(_)) => "cpu",
        (Metric::Main, Kind::Idle(..) | Kind::Rest(_)) => "bytes",
        (Metric::Main, Kind::Start | Kind::EndpointChange(_)) => "ms",
    };
    let (name, interval) = match goal.against {
        Against::Absolute => (format!("weir {what}"), absolute(outcome, of)),
        Against::BestPeer => match outcome.best_peer(of) {
            Some(peer) => (
                format!("weir / best peer ({}) {what}", peer.name()),
                outcome.ratio(peer, of),
            ),
            None => (format!("weir / best peer {what}"), None),
        },
        Against::Peer(peer) => (
            format!("weir / {} {what}", peer.name()),
            outcome.ratio(peer, of),
        ),
        Against::Scenario(name) => (
            format!("weir / weir in {name} {what}"),
            between(outcome, earlier.iter().find(|one| one.scenario == name), of),
        ),
    };
    let mut verdict = describe(&name, interval, goal.at_most);
    let compared = outcome
        .records
        .values()
        .filter(|record| record.hole.is_none());
    if verdict.met.is_some() && compared.into_iter().any(Record::is_disturbed) {
        verdict.text.push_str(", on disturbed windows");
    }
    verdict
}

/// Weir over Weir in a scenario that was measured before. Its blocks are paired by their number and
/// not by time, so a drift of the machine is part of the interval.
fn between(
    outcome: &Outcome,
    earlier: Option<&Outcome>,
    of: fn(&Record) -> Vec<f64>,
) -> Option<RatioInterval> {
    let ours = of(outcome.records.get(&Contestant::Weir)?);
    let before = of(earlier?.records.get(&Contestant::Weir)?);
    stats::ratio_interval(&ours, &before, 1)
}

/// Weir's own value, with the interval of its mean.
fn absolute(outcome: &Outcome, of: fn(&Record) -> Vec<f64>) -> Option<RatioInterval> {
    let values = of(outcome.records.get(&Contestant::Weir)?);
    stats::ratio_interval(&values, &vec![1.0; values.len()], 1)
}

fn describe(name: &str, interval: Option<RatioInterval>, at_most: f64) -> Verdict {
    let Some(interval) = interval else {
        return Verdict {
            text: format!("{name}: not measured (goal <= {at_most})"),
            met: None,
            ratio: None,
            low: None,
            high: None,
        };
    };
    let RatioInterval {
        ratio,
        low,
        high,
        blocks,
    } = interval;
    let met = ratio <= at_most;
    // The interval decides whether the verdict would survive another run.
    let sure = blocks > 1 && if met { high <= at_most } else { low > at_most };
    let word = if met { "met" } else { "missed" };
    let doubt = if sure { "" } else { ", within the noise" };
    let digits = if at_most > 100.0 { 0 } else { 3 };
    Verdict {
        text: format!(
            "{name}: {ratio:.digits$} [{low:.digits$}, {high:.digits$}] n={blocks}, \
             goal <= {at_most}: {word}{doubt}"
        ),
        met: Some(met),
        ratio: Some(ratio),
        low: Some(low),
        high: Some(high),
    }
}

/// One sentence about the proxies that should have served and did not.
pub(crate) fn failures(outcomes: &[Outcome]) -> Result<(), String> {
    let failed: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| {
            outcome
                .records
                .iter()
                .map(move |(each, record)| (outcome, each, record))
        })
        .filter_map(|(outcome, each, record)| match &record.hole {
            Some(hole @ Hole::Failed(_)) => Some(format!(
                "{} failed in {}: {}",
                each.name(),
                outcome.scenario,
                hole.reason()
            )),
            _ => None,
        })
        .collect();
    match failed.split_first() {
        None => Ok(()),
        Some((first, [])) => Err(first.clone()),
        Some((first, others)) => Err(format!("{first} (and {} more holes)", others.len())),
    }
}

/// Prints how many goals were met.
pub(crate) fn print_summary(outcomes: &[Outcome]) {
    let verdicts = || outcomes.iter().flat_map(|outcome| &outcome.verdicts);
    let count = |wanted| verdicts().filter(|verdict| verdict.met == wanted).count();
    print_disturbances(outcomes);
    println!(
        "goals: {} met, {} missed, {} not measured",
        count(Some(true)),
        count(Some(false)),
        count(None)
    );
}

fn print_disturbances(outcomes: &[Outcome]) {
    let runs = || {
        let records = outcomes.iter().flat_map(|outcome| outcome.records.values());
        records.flat_map(Record::runs)
    };
    let most = |of: fn(&Disturbance) -> f64| {
        runs().map(|run| of(&run.disturbance)).fold(0.0, f64::max) * 100.0
    };
    println!(
        "\n{} of {} windows disturbed (~); at most {:.1} % stolen, {:.1} % used by other processes",
        runs().filter(|run| run.disturbed).count(),
        runs().count(),
        most(|each| each.steal),
        most(|each| each.foreign),
    );
    println!(
        "busy, load: share of its core used by the proxy, by generator and origin; >: the proxy"
    );
    println!("was not saturated, so its rate is the generator's or a neighbor's doing");
}

/// Writes everything measured.
pub(crate) fn write_json(file: &Path, facts: &Facts, outcomes: &[Outcome]) -> Result<(), String> {
    #[derive(Serialize)]
    struct Everything<'a> {
        facts: &'a Facts,
        outcomes: &'a [Outcome],
    }
    let everything = Everything { facts, outcomes };
    let text = serde_json::to_string_pretty(&everything).map_err(|error| error.to_string())?;
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use bench::stats::RatioInterval;

    use super::describe;

    #[test]
    fn a_verdict_says_whether_it_would_hold() {
        let text = |ratio, low, high| {
            describe(
                "x",
                Some(RatioInterval {
                    ratio,
                    low,
                    high,
                    blocks: 6,
                }),
                0.95,
            )
            .text
        };
        assert!(text(0.90, 0.88, 0.92).ends_with("goal <= 0.95: met"));
        assert!(text(0.94, 0.90, 0.99).ends_with("met, within the noise"));
        assert!(text(1.10, 1.00, 1.20).ends_with("missed"));
        assert!(text(0.97, 0.94, 1.00).ends_with("missed, within the noise"));
        assert_eq!(describe("x", None, 0.95).met, None);
    }
}
