//! The machine: what it is, and whether somebody else was using it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bench::peer::Weir;
use bench::usage;
use serde::Serialize;

use super::contestant::Contestant;
use super::namespace;

/// A window is void above this share of time stolen by the hypervisor.
const STEAL_SHARE_MAX: f64 = 0.01;

/// A window is void above this share of time used by processes that are not ours.
const FOREIGN_SHARE_MAX: f64 = 0.02;

/// What rounding in `/proc/stat` alone can show: a tick at each end of the window.
const RESOLUTION: Duration = Duration::from_millis(20);

/// Ticks per second of `/proc/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

/// What stands above every table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) unix_seconds: u64,
    pub(crate) commit: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) proxy_core: usize,
    pub(crate) load_core: usize,
    pub(crate) congestion_control: String,
    pub(crate) namespace: Option<String>,
    pub(crate) versions: Vec<(Contestant, Option<String>)>,
    pub(crate) weir_hash: Option<String>,
}

impl Facts {
    pub(crate) fn new(
        cores: &[usize],
        proxy_core: usize,
        load_core: usize,
        weir: Option<&Path>,
    ) -> Self {
        let given = weir;
        let weir = given.map(Path::to_path_buf).or_else(|| Weir::locate().ok());
        Self {
            unix_seconds: now(),
            commit: commit(),
            kernel: text("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(),
            cores: cores.len(),
            proxy_core,
            load_core,
            congestion_control: text("/proc/sys/net/ipv4/tcp_congestion_control"),
            namespace: namespace::inside(),
            versions: Contestant::ALL
                .map(|each| (each, each.version(given)))
                .to_vec(),
            weir_hash: weir.and_then(|program| hash(&program)),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the date of a result, read once by the program"
)]
fn now() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| elapsed.as_secs())
}

fn commit() -> String {
    let described = Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "describe",
            "--always",
            "--dirty",
        ])
        .output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn cpu_model() -> String {
    let info = text("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(
        || "unknown".to_owned(),
        |rest| rest.trim_matches([' ', '\t', ':']).to_owned(),
    )
}

fn hash(program: &Path) -> Option<String> {
    let bytes = fs::read(program).ok()?;
    Some(format!("{:016x}", xxhash_rust::xxh64::xxh64(&bytes, 0)))
}

/// The machine's clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    busy: Duration,
    steal: Duration,
    total: Duration,
    ours: Duration,
}

/// What others did between two samples.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Disturbance {
    /// Share of all time that the hypervisor took.
    pub(crate) steal: f64,
    /// Share of all time that other processes took.
    pub(crate) foreign: f64,
}

impl Disturbance {
    pub(crate) fn is_void(&self) -> bool {
        self.steal > STEAL_SHARE_MAX || self.foreign > FOREIGN_SHARE_MAX
    }
}

impl Sample {
    /// Reads the clocks; ours are those of this process and everything it started.
    pub(crate) fn take() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let ours = usage::cpu_time(std::process::id())?.total;
        Ok(parse(&stat, ours))
    }

    pub(crate) fn until(&self, later: &Self) -> Disturbance {
        let share = |part: Duration, whole: Duration| {
            if whole.is_zero() {
                0.0
            } else {
                part.as_secs_f64() / whole.as_secs_f64()
            }
        };
        let total = later.total.saturating_sub(self.total);
        let busy = later.busy.saturating_sub(self.busy);
        let ours = later.ours.saturating_sub(self.ours);
        let steal = later.steal.saturating_sub(self.steal);
        Disturbance {
            steal: share(steal.saturating_sub(RESOLUTION), total),
            foreign: share(busy.saturating_sub(ours).saturating_sub(RESOLUTION), total),
        }
    }
}

/// Reads the first line of `/proc/stat`: user nice system idle iowait irq softirq steal.
fn parse(stat: &str, ours: Duration) -> Sample {
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let seconds = |at: &[usize]| {
        let sum: f64 = at.iter().filter_map(|at| ticks.get(*at)).sum();
        Duration::from_secs_f64(sum / TICKS_PER_SECOND)
    };
    Sample {
        busy: seconds(&[0, 1, 2, 5, 6]),
        steal: seconds(&[7]),
        total: seconds(&[0, 1, 2, 3, 4, 5, 6, 7]),
        ours,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn strangers_and_the_hypervisor_are_told_apart() {
        let before = parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1", Duration::ZERO);
        let later = parse(
            "cpu  180 0 120 900 0 0 0 0 0 0\n",
            Duration::from_millis(990),
        );
        let quiet = before.until(&later);
        assert!(!quiet.is_void() && quiet.foreign == 0.0, "{quiet:?}");
        let foreign = before.until(&parse(
            "cpu 180 0 120 900 0 0 0 0",
            Duration::from_millis(900),
        ));
        assert!(
            foreign.is_void() && (foreign.foreign - 0.04).abs() < 1e-9,
            "{foreign:?}"
        );
        let stolen = before.until(&parse("cpu 100 0 100 990 0 0 0 10", Duration::ZERO));
        assert!(stolen.is_void() && stolen.foreign == 0.0, "{stolen:?}");
    }
}
