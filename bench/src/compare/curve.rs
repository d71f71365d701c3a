//! Latency over offered rate, for every proxy at the same rates, as a picture.
//!
//! First each proxy's saturation in closed loop, then open loop at tenths of the highest one: Poisson
//! arrivals, latency from the time a request was due. A proxy's line ends before its own saturation,
//! because beyond it latency grows for as long as one measures.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::load::Pace;
use bench::plot::{Chart, Panel, Series};
use bench::stats;

use super::contestant::Contestant;
use super::host::Facts;
use super::outcome::{Hole, Run};
use super::report::{self, Progress};
use super::scenario::{Kind, Scenario, Traffic};
use super::traffic::{Stage, Timing};
use super::{chosen, misused, session};

/// Rates are tenths of the highest saturation.
const STEPS: u32 = 10;

/// Where a line ends, as part of its proxy's own saturation. Poisson arrivals come in bursts.
const LOAD_MAX: f64 = 0.92;

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct CurveOptions {
    pub(crate) scenario: String,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) quick: bool,
    pub(crate) out: PathBuf,
    pub(crate) weir: Option<PathBuf>,
    pub(crate) accept_disturbed: bool,
    pub(crate) no_namespace: bool,
}

/// What one proxy did: its saturation and the runs at each rate.
#[derive(Debug, Default)]
struct Line {
    saturation: f64,
    points: Vec<Point>,
    hole: Option<Hole>,
}

#[derive(Debug)]
struct Point {
    rate: f64,
    runs: Vec<Run>,
}

impl Point {
    fn median(&self, of: fn(&Run) -> f64) -> f64 {
        let values: Vec<f64> = self.runs.iter().map(of).collect();
        stats::median(&values).unwrap_or(f64::NAN)
    }
}

/// A quantile of latency, with its name.
type Quantile = (&'static str, fn(&Run) -> f64);

const QUANTILES: [Quantile; 3] = [
    ("p50", |run| run.p50_us),
    ("p99", |run| run.p99_us),
    ("p99.9", |run| run.p999_us),
];

/// Measures the lines and writes the picture.
pub(crate) fn main(options: &CurveOptions) -> ExitCode {
    let found = chosen(std::slice::from_ref(&options.scenario)).and_then(|scenarios| {
        let scenario = scenarios.into_iter().next();
        match scenario.map(|scenario| (scenario, scenario.kind)) {
            Some((scenario, Kind::Traffic(traffic))) if traffic.can_be_paced() => {
                Ok((scenario, traffic))
            }
            _ => Err(format!(
                "{:?} has no rate; choose a row with requests",
                options.scenario
            )),
        }
    });
    match found {
        Err(sentence) => misused(&sentence),
        Ok((scenario, traffic)) => session::measure(
            options.weir.as_deref(),
            options.no_namespace,
            async |facts| Box::pin(curve(options, scenario, &traffic, facts)).await,
        ),
    }
}

async fn curve(
    options: &CurveOptions,
    scenario: &'static Scenario,
    traffic: &Traffic,
    facts: &Facts,
) -> Result<(), String> {
    report::print_facts(facts);
    let stage = Stage {
        accept_disturbed: options.accept_disturbed,
        ..Stage::new(
            scenario,
            facts.proxy_core,
            timing(options.quick),
            options.weir.clone(),
        )?
    };
    let mut progress = Progress::new(1);
    progress.scenario(scenario.name);
    stage.direct(traffic).await?;
    let mut lines: Vec<(Contestant, Line)> = Contestant::among(&options.contestants)
        .into_iter()
        .map(|contestant| (contestant, Line::default()))
        .collect();
    for (contestant, line) in &mut lines {
        progress.step(contestant.name(), 0, STEPS as usize + 1);
        match stage.run(*contestant, traffic, Pace::Closed).await {
            Ok(run) => line.saturation = run.requests_per_second,
            Err(hole) => line.hole = Some(hole),
        }
    }
    let highest = lines
        .iter()
        .filter(|(contestant, _)| *contestant != Contestant::Floor);
    let highest = highest.map(|(_, line)| line.saturation).fold(0.0, f64::max);
    for step in 1..=STEPS {
        let rate = highest * f64::from(step) / f64::from(STEPS);
        measure_rate(&stage, traffic, rate, &mut lines, &|name| {
            progress.step(name, step as usize, STEPS as usize + 1);
        })
        .await;
    }
    progress.clear();
    print(&lines);
    let chart = chart(scenario, facts, &lines);
    fs::write(&options.out, chart.to_svg())
        .map_err(|error| format!("cannot write {}: {error}", options.out.display()))?;
    println!("written: {}", options.out.display());
    for (contestant, line) in &lines {
        if let Some(hole @ Hole::Failed(_)) = &line.hole {
            return Err(format!("{} failed: {}", contestant.name(), hole.reason()));
        }
    }
    Ok(())
}

fn timing(quick: bool) -> Timing {
    let milliseconds = Duration::from_millis;
    match quick {
        true => Timing {
            warm_up: milliseconds(80),
            window: milliseconds(300),
            rest: Duration::ZERO,
        },
        // Twice 3 s at a tenth of saturation are some 40,000 requests: 40 beyond the p99.9.
        false => Timing {
            warm_up: milliseconds(500),
            window: milliseconds(3_000),
            rest: Duration::ZERO,
        },
    }
}

/// There and back again, so that a drift of the machine is the same for all.
async fn measure_rate(
    stage: &Stage<'_>,
    traffic: &Traffic,
    rate: f64,
    lines: &mut [(Contestant, Line)],
    tell: &dyn Fn(&'static str),
) {
    let there = 0..lines.len();
    for (turn, at) in there.clone().chain(there.rev()).enumerate() {
        let is_first = turn < lines.len();
        let Some((contestant, line)) = lines.get_mut(at) else {
            continue;
        };
        if line.hole.is_some() || rate > line.saturation * LOAD_MAX {
            continue;
        }
        tell(contestant.name());
        let pace = Pace::Open {
            rate,
            seed: u64::from(!is_first),
        };
        match stage.run(*contestant, traffic, pace).await {
            Ok(run) if is_first => line.points.push(Point {
                rate,
                runs: vec![run],
            }),
            Ok(run) => {
                if let Some(point) = line.points.last_mut() {
                    point.runs.push(run);
                }
            }
            Err(hole) => line.hole = Some(hole),
        }
    }
}

fn print(lines: &[(Contestant, Line)]) {
    println!(
        "\n{:<9}{:>10}{:>10}{:>10}{:>10}",
        "", "req/s", "p50 us", "p99 us", "p99.9 us"
    );
    for (contestant, line) in lines {
        let name = contestant.name();
        if let Some(hole) = &line.hole {
            println!("{name:<9}-- {}", hole.reason());
            continue;
        }
        println!("{name:<9}{:>10.0} saturation", line.saturation);
        for point in &line.points {
            let [p50, p99, p999] = QUANTILES.map(|(_, of)| point.median(of));
            let disturbed = point.runs.iter().any(|run| run.disturbed);
            let mark = if disturbed { " ~" } else { "" };
            println!(
                "{name:<9}{:>10.0}{p50:>10.0}{p99:>10.0}{p999:>10.0}{mark}",
                point.rate
            );
        }
    }
}

fn chart(scenario: &Scenario, facts: &Facts, lines: &[(Contestant, Line)]) -> Chart {
    let panel = |(name, of): Quantile| Panel {
        title: name.to_owned(),
        series: lines
            .iter()
            .map(|(contestant, line)| Series {
                name: contestant.name().to_owned(),
                points: line
                    .points
                    .iter()
                    .map(|point| (point.rate, point.median(of)))
                    .collect(),
            })
            .collect(),
    };
    Chart {
        title: scenario.title.to_owned(),
        subtitle: format!(
            "{}, kernel {}, one core for the proxy; commit {}",
            facts.cpu, facts.kernel, facts.commit
        ),
        x_label: "offered requests per second".to_owned(),
        y_label: "latency, microseconds".to_owned(),
        panels: QUANTILES.map(panel).to_vec(),
    }
}
