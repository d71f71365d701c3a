//! Gates that do not depend on the clock: what a request costs in instructions and system calls, and
//! what an idle connection costs in memory, against values recorded in the repository.
//!
//! A value per request is the difference between a run of N requests and one of twice as many,
//! divided by N, so that starting and stopping cancel. Allocations and sizes of futures are tests of
//! `weir` and `weir-proxy`, because they need a build of their own.

mod measure;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;

use bench::peer::Weir;

use super::scenario::Scenario;
use super::scenarios::SCENARIOS;
use record::Recorded;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// User-space instructions per request of the whole process, by callgrind.
    Instructions,
    /// Data system calls per request, by strace.
    SystemCalls,
    /// Proportional bytes per connection that made one request and fell silent.
    IdleBytes,
}

/// One recorded value.
#[derive(Clone, Copy, Debug)]
struct Gate {
    name: &'static str,
    scenario: &'static str,
    unit: Unit,
    /// Part of the recorded value by which a new one may differ.
    tolerance: f64,
}

const fn gate(name: &'static str, scenario: &'static str, unit: Unit) -> Gate {
    Gate {
        name,
        scenario,
        unit,
        tolerance: match unit {
            // Timers and the order of events move a few instructions.
            Unit::Instructions => 0.01,
            Unit::SystemCalls => 0.0,
            Unit::IdleBytes => 0.05,
        },
    }
}

/// A busy machine changes how often a proxy goes to sleep between two events, and with it a count.
/// What was changed in the program is off every time.
const TRIES: usize = 3;

/// Recorded is the middle one of so many counts, so that later ones lie on both sides of it.
const RECORDINGS: usize = 3;

const GATES: [Gate; 10] = [
    gate("instructions-http1", "http1-small", Unit::Instructions),
    gate(
        "instructions-http1-guarded",
        "http1-guarded",
        Unit::Instructions,
    ),
    gate("instructions-http2", "h2-to-h2", Unit::Instructions),
    gate(
        "instructions-http2-guarded",
        "h2-guarded",
        Unit::Instructions,
    ),
    gate("instructions-tls", "tls-keepalive", Unit::Instructions),
    gate("system-calls-http1", "http1-small", Unit::SystemCalls),
    gate("system-calls-tls", "tls-keepalive", Unit::SystemCalls),
    gate("idle-bytes-http1", "idle-http1", Unit::IdleBytes),
    gate("idle-bytes-tls", "idle-tls", Unit::IdleBytes),
    gate("idle-bytes-http2", "idle-h2", Unit::IdleBytes),
];

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct GateOptions {
    pub(crate) file: PathBuf,
    pub(crate) record: bool,
    pub(crate) only: Vec<String>,
    pub(crate) weir: Option<PathBuf>,
}

/// Measures every gate; exit code 1 if one is off or cannot be measured.
pub(crate) fn main(options: &GateOptions) -> ExitCode {
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("weir-bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &GateOptions) -> Result<bool, String> {
    let weir = match &options.weir {
        Some(program) => program.clone(),
        None => Weir::locate().map_err(|error| error.to_string())?,
    };
    let mut recorded = if options.record && !options.file.exists() {
        Recorded::default()
    } else {
        Recorded::read(&options.file)?
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let mut passed = true;
    for gate in asked(&options.only)? {
        let scenario = scenario(gate)?;
        let measure = || runtime.block_on(measure::measure(gate, scenario, &weir));
        if options.record {
            let values: Result<Vec<f64>, String> = (0..RECORDINGS).map(|_| measure()).collect();
            let (value, spread) = middle(values?);
            println!(
                "{:<20} {value:.2} recorded, within {:.2} %",
                gate.name,
                spread * 1e2
            );
            recorded.set(gate.name, value);
            continue;
        }
        let mut holds = false;
        for _ in 0..TRIES {
            holds = judge(gate, recorded.get(gate.name), measure()?);
            if holds {
                break;
            }
        }
        passed &= holds;
    }
    if options.record {
        recorded.write(&options.file)?;
    } else if !passed {
        println!(
            "what changed on purpose is recorded with `weir-bench gates --record`, in a commit that \
             says why"
        );
    }
    Ok(passed)
}

/// Those with these names; all if none is named.
fn asked(names: &[String]) -> Result<Vec<&'static Gate>, String> {
    let find = |name: &String| {
        let found = GATES.iter().find(|gate| gate.name == name.as_str());
        found.ok_or_else(|| {
            let known = GATES.map(|gate| gate.name).join(", ");
            format!("there is no gate {name:?}; known are {known}")
        })
    };
    if names.is_empty() {
        return Ok(GATES.iter().collect());
    }
    names.iter().map(find).collect()
}

fn scenario(gate: &Gate) -> Result<&'static Scenario, String> {
    let found = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == gate.scenario);
    found.ok_or_else(|| format!("there is no scenario {:?}", gate.scenario))
}

/// The middle one, and how far apart the outer ones are, as a part of it.
fn middle(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let value = values.get(values.len() / 2).copied().unwrap_or_default();
    let first = values.first().copied().unwrap_or_default();
    let last = values.last().copied().unwrap_or_default();
    (value, (last - first) / value.max(f64::MIN_POSITIVE))
}

fn judge(gate: &Gate, recorded: Option<f64>, value: f64) -> bool {
    let name = gate.name;
    let Some(recorded) = recorded else {
        println!("{name:<20} {value:.2}, and nothing is recorded: FAILED");
        return false;
    };
    // Recorded values are rounded to hundredths.
    let passes = (value - recorded).abs() <= recorded * gate.tolerance + 0.005;
    let verdict = if passes { "ok" } else { "FAILED" };
    println!(
        "{name:<20} {value:.2}, recorded {recorded:.2}, tolerance {:.0} %, difference {:+.2} %: {verdict}",
        gate.tolerance * 1e2,
        (value / recorded - 1.0) * 1e2,
    );
    passes
}

#[cfg(test)]
mod tests {
    use super::{GATES, Unit, gate, judge, middle, scenario};

    #[test]
    fn every_gate_has_its_scenario() {
        for gate in &GATES {
            assert!(scenario(gate).is_ok(), "{}", gate.name);
        }
    }

    #[test]
    fn gates_are_asked_for_by_name() {
        let names = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
            super::asked(&asked).map(|gates| gates.len())
        };
        assert_eq!(names(&[]), Ok(GATES.len()));
        assert_eq!(names(&["system-calls-tls", "instructions-tls"]), Ok(2));
        let refused = names(&["tls"]).unwrap_err();
        assert!(
            refused.contains("known are instructions-http1, "),
            "{refused}"
        );
    }

    #[test]
    fn the_middle_of_several_counts_is_recorded() {
        let (value, spread) = middle(vec![100.0, 97.0, 101.0, 200.0, 98.0]);
        assert!((value - 100.0).abs() < 1e-9 && (spread - 1.03).abs() < 1e-9);
    }

    #[test]
    fn a_value_is_held_to_its_tolerance_in_both_directions() {
        let instructions = gate("x", "http1-small", Unit::Instructions);
        assert!(judge(&instructions, Some(1_000.0), 1_009.0));
        assert!(!judge(&instructions, Some(1_000.0), 1_011.0));
        assert!(!judge(&instructions, Some(1_000.0), 989.0));
        let calls = gate("x", "http1-small", Unit::SystemCalls);
        assert!(judge(&calls, Some(4.0), 4.0));
        assert!(!judge(&calls, Some(4.0), 4.01));
        assert!(!judge(&calls, None, 4.0));
    }
}
