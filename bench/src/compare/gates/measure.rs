//! How the values are taken: the proxy of the comparison, under callgrind or strace, and a counted
//! number of requests one after the other on one connection.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use bench::process::ProcessError;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::super::contestant::Contestant;
use super::super::footprint;
use super::super::scenario::Scenario;
use super::super::traffic::{Stage, Timing};
use super::{Gate, Unit};

/// Requests of the shorter run, whose system calls are counted: each run has as many.
const REQUESTS: usize = 1_000;

/// The same for instructions. What a process does before its first request differs by some hundred thousand
/// from one to the next (random numbers are gathered, handshakes made): that is to be far below one percent.
const COUNTED_REQUESTS: usize = 5_000;

/// Before counting: pools, tables of HPACK and lazily made values are there afterwards.
const WARM_UP: usize = 50;

/// Idle connections; with fewer the pages of the allocator show.
const CONNECTIONS: usize = 2_000;

/// Processes whose median counts: where the allocator puts its pages differs from one to the next.
const PROCESSES: usize = 3;

/// The calls that move bytes of connections; wake-ups of the runtime are `read` and `write`.
const DATA_CALLS: &str = "trace=recvfrom,recvmsg,readv,sendto,sendmsg,writev,splice";

/// A process under callgrind needs a while to end.
const END_LIMIT: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

pub(super) async fn measure(
    gate: &Gate,
    scenario: &'static Scenario,
    weir: &Path,
) -> Result<f64, String> {
    match gate.unit {
        Unit::IdleBytes => {
            let stage = stage(scenario, weir, Vec::new())?;
            let mut values = Vec::new();
            for _ in 0..PROCESSES {
                let value = footprint::idle(&stage, Contestant::Weir, CONNECTIONS).await;
                values.push(value.map_err(|hole| hole.reason().to_owned())?);
            }
            values.sort_by(f64::total_cmp);
            Ok(values.get(PROCESSES / 2).copied().unwrap_or(f64::NAN))
        }
        Unit::Instructions | Unit::SystemCalls => {
            let requests = match gate.unit {
                Unit::Instructions => COUNTED_REQUESTS,
                Unit::SystemCalls | Unit::IdleBytes => REQUESTS,
            };
            let single = count(gate.unit, scenario, weir, requests).await?;
            let double = count(gate.unit, scenario, weir, 2 * requests).await?;
            Ok((double - single) / requests as f64)
        }
    }
}

/// What a whole run of so many requests costs.
async fn count(
    unit: Unit,
    scenario: &'static Scenario,
    weir: &Path,
    requests: usize,
) -> Result<f64, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
    let trace = directory.path().join("trace");
    let stage = stage(scenario, weir, wrapper(unit, &trace))?;
    let started = stage.start(Contestant::Weir).await;
    let (mut running, _) = started.map_err(|hole| hole.reason().to_owned())?;
    let mut held = stage
        .hold(running.listen.addr(), 1)
        .await
        .map_err(|error| error.to_string())?;
    held.repeat(&scenario.request(), WARM_UP + requests)
        .await
        .map_err(|error| format!("{}: {error}", scenario.name))?;
    drop(held);
    let process = running.process();
    let told = |error: std::io::Error| error.to_string();
    process.signal(Signal::TERM).map_err(told)?;
    let began = Instant::now();
    while began.elapsed() < END_LIMIT {
        match process.check_running() {
            Ok(()) => sleep(POLL).await,
            Err(ProcessError::Ended { .. }) => return read(unit, &process.whole_output(), &trace),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("weir did not end within {END_LIMIT:?}"))
}

fn wrapper(unit: Unit, trace: &Path) -> Vec<OsString> {
    let words: &[&str] = match unit {
        Unit::Instructions => &[
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
        ],
        // The tracer is the grandchild, so that signals reach the proxy.
        Unit::SystemCalls => &["strace", "-D", "-f", "-qq", "-e", DATA_CALLS, "-o"],
        Unit::IdleBytes => &[],
    };
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    if unit == Unit::SystemCalls {
        words.push(trace.into());
    }
    words
}

fn read(unit: Unit, output: &str, trace: &Path) -> Result<f64, String> {
    if unit == Unit::SystemCalls {
        let text = std::fs::read_to_string(trace);
        let text = text.map_err(|error| format!("strace left no trace: {error}"))?;
        return Ok(text.lines().filter(|line| moves_bytes(line)).count() as f64);
    }
    let collected = output.lines().rev().find_map(|line| {
        let (_, number) = line.split_once("Collected : ")?;
        number.trim().parse().ok()
    });
    collected.ok_or_else(|| format!("callgrind counted nothing: {output}"))
}

/// A call that failed moved nothing; one that was interrupted by another thread's line counts where
/// it began.
fn moves_bytes(line: &str) -> bool {
    !line.contains("resumed>") && !line.contains("= -1 ")
}

fn stage(
    scenario: &'static Scenario,
    weir: &Path,
    wrapper: Vec<OsString>,
) -> Result<Stage<'static>, String> {
    let cores = bench::process::cores().map_err(|error| format!("no affinity: {error}"))?;
    let core = cores.first().copied().unwrap_or_default();
    let timing = Timing {
        warm_up: Duration::ZERO,
        window: Duration::ZERO,
        rest: Duration::from_millis(1_500),
    };
    let mut stage = Stage::new(scenario, core, timing, Some(weir.to_owned()))?;
    stage.site.wrapper = wrapper;
    stage.accept_disturbed = true;
    Ok(stage)
}

#[cfg(test)]
mod tests {
    use super::moves_bytes;

    #[test]
    fn only_calls_that_moved_bytes_count() {
        assert!(moves_bytes("12 sendto(9, \"x\", 1, 0, NULL, 0) = 1"));
        assert!(moves_bytes("12 recvfrom(9,  <unfinished ...>"));
        assert!(!moves_bytes("12 <... recvfrom resumed>\"x\", 1) = 1"));
        assert!(!moves_bytes("12 recvfrom(9, 0x1, 1, 0) = -1 EAGAIN"));
    }
}
