//! How much of a resource is used: 0 is nothing, 1 is all of it.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::config::overload::MonitorKind;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of a file that says how much is used: a number has a few.
const NUMBER_BYTES_MAX: u64 = 64;

/// One resource that can be looked at.
#[derive(Debug)]
pub(super) struct Gauge {
    kind: MonitorKind,
    /// Busy and all time at the last look.
    before: Option<(f64, f64)>,
}

impl Gauge {
    pub(super) fn new(kind: MonitorKind) -> Self {
        Self { kind, before: None }
    }

    /// How much memory there is, if that is what is looked at and if it is known.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        match &self.kind {
            MonitorKind::FixedHeap { bytes_max } => Some(*bytes_max),
            MonitorKind::CgroupMemory { bytes_max } => {
                let (group, files) = memory_group().ok()?;
                let limit = group.number(files.limit).ok();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a size; no limit is a very large one"
                )]
                let limit = limit.map(|limit| limit as u64);
                limit.into_iter().chain(*bytes_max).min()
            }
            MonitorKind::Cpu { .. } | MonitorKind::Injected { .. } => None,
        }
    }

    /// What is used of it.
    pub(super) fn pressure(&mut self) -> io::Result<f64> {
        match &self.kind {
            MonitorKind::FixedHeap { bytes_max } => {
                let status = fs::read_to_string("/proc/self/status")?;
                Ok(part(private_bytes(&status).ok_or_else(odd)?, *bytes_max))
            }
            MonitorKind::CgroupMemory { bytes_max } => cgroup_memory(*bytes_max),
            MonitorKind::Cpu { of_container } => {
                let now = if *of_container {
                    container_times()?
                } else {
                    host_times(&fs::read_to_string("/proc/stat")?).ok_or_else(odd)?
                };
                let before = self.before.replace(now);
                Ok(before.map_or(0.0, |before| busy(before, now)))
            }
            MonitorKind::Injected { file } => injected(file),
        }
    }
}

/// What a file says; longer ones say nothing.
fn injected(file: &Path) -> io::Result<f64> {
    let mut text = String::new();
    File::open(file)?
        .take(NUMBER_BYTES_MAX)
        .read_to_string(&mut text)?;
    let number: f64 = text.trim().parse().map_err(io::Error::other)?;
    Ok(number.clamp(0.0, 1.0))
}

fn odd() -> io::Error {
    io::Error::other("the kernel says something that is not understood")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a quotient of sizes needs no more than a double has"
)]
fn part(used: u64, max: u64) -> f64 {
    used as f64 / max.max(1) as f64
}

fn busy((busy_before, all_before): (f64, f64), (busy, all): (f64, f64)) -> f64 {
    let span = all - all_before;
    if span <= 0.0 {
        return 0.0;
    }
    ((busy - busy_before) / span).clamp(0.0, 1.0)
}

/// Private pages of a process: what files are mapped can be dropped.
fn private_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Ticks of all processors: not idle, and all.
fn host_times(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .take(8) // what guests use is counted as user time already
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let all: f64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

/// Seconds used by the group, and seconds it might have used.
fn container_times() -> io::Result<(f64, f64)> {
    let used = match Group::of("cpuacct", "cpuacct.usage") {
        Ok(group) => group.number("cpuacct.usage")? / 1e9,
        Err(_) => Group::own("cpu.stat")?.number_after("cpu.stat", "usage_usec ")? / 1e6,
    };
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split_ascii_whitespace().next();
    let uptime: f64 = uptime.and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = f64::from(u32::try_from(machine).unwrap_or(u32::MAX));
    Ok((used, uptime * processors_allowed().unwrap_or(machine)))
}

/// What the group may use, in processors, if it is limited.
fn processors_allowed() -> Option<f64> {
    if let Ok(group) = Group::of("cpu", "cpu.cfs_quota_us") {
        let quota = group.number("cpu.cfs_quota_us").ok()?;
        let period = group.number("cpu.cfs_period_us").ok()?;
        return (quota > 0.0 && period > 0.0).then_some(quota / period);
    }
    let group = Group::own("cpu.max").ok()?;
    processors(&group.text("cpu.max").ok()?)
}

/// What `cpu.max` allows, in processors.
fn processors(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// Without file pages that nobody has touched in a while: the kernel drops them before it ends a
/// process. Envoy counts them.
fn cgroup_memory(bytes_max: Option<u64>) -> io::Result<f64> {
    let (group, files) = memory_group()?;
    let used = group.number(files.used)?;
    let dropped = group.number_after("memory.stat", files.dropped);
    let limit = group.number(files.limit).ok(); // `max` is no limit
    #[expect(clippy::cast_precision_loss, reason = "a size needs no more")]
    let wanted = bytes_max.map(|max| max as f64);
    let max = [wanted, limit].into_iter().flatten().reduce(f64::min);
    let used = (used - dropped.unwrap_or_default()).max(0.0);
    // Without any limit nothing can run short.
    Ok(max.map_or(0.0, |max| used / max.max(1.0)))
}

fn memory_group() -> io::Result<(Group, MemoryFiles)> {
    Ok(match Group::of("memory", MEMORY_1.used) {
        Ok(group) => (group, MEMORY_1),
        Err(_) => (Group::own(MEMORY_2.used)?, MEMORY_2),
    })
}

/// Names of files in the two versions of control groups.
struct MemoryFiles {
    used: &'static str,
    limit: &'static str,
    dropped: &'static str,
}

const MEMORY_1: MemoryFiles = MemoryFiles {
    used: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    dropped: "total_inactive_file ",
};

const MEMORY_2: MemoryFiles = MemoryFiles {
    used: "memory.current",
    limit: "memory.max",
    dropped: "inactive_file ",
};

/// The folder of a control group.
struct Group(PathBuf);

impl Group {
    /// That of this process in version 1, for one controller.
    fn of(controller: &str, file: &str) -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_it = controllers.split(',').any(|one| one == controller);
            is_it.then_some(path)
        });
        let path = path.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Self::found(&Path::new(CGROUPS).join(controller), path, file)
    }

    /// That of this process in version 2.
    fn own(file: &str) -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
        Self::found(Path::new(CGROUPS), path.unwrap_or_default(), file)
    }

    /// The one the process is in if it is seen here, else the root, which in a container is the
    /// container's.
    fn found(root: &Path, path: &str, file: &str) -> io::Result<Self> {
        let own = root.join(path.trim_start_matches('/'));
        let mut folders = [own, root.to_owned()].into_iter();
        let found = folders.find(|folder| folder.join(file).exists());
        found.map(Self).ok_or_else(|| {
            let sentence = format!("no control group has {file}");
            io::Error::new(io::ErrorKind::NotFound, sentence)
        })
    }

    fn text(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.0.join(file))
    }

    fn number(&self, file: &str) -> io::Result<f64> {
        self.text(file)?.trim().parse().map_err(|_| odd())
    }

    fn number_after(&self, file: &str, name: &str) -> io::Result<f64> {
        let text = self.text(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|number| number.trim().parse().ok());
        number.ok_or_else(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(
            private_bytes("VmRSS:\t 9 kB\nRssAnon:\t   12 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(private_bytes("nothing"), None);
        let stat = "cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 1 1 1\n";
        assert_eq!(host_times(stat), Some((20.0, 100.0)));
        assert_eq!(host_times("cpu x"), None);
        assert_eq!(processors("150000 100000\n"), Some(1.5));
        assert_eq!(processors("max 100000\n"), None);
        assert!((busy((20.0, 100.0), (70.0, 200.0)) - 0.5).abs() < 1e-9);
        assert!(busy((20.0, 100.0), (20.0, 100.0)).abs() < 1e-9);
    }

    #[test]
    fn a_file_says_how_much_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pressure");
        let mut gauge = Gauge::new(MonitorKind::Injected {
            file: file.clone().into(),
        });
        assert!(gauge.pressure().is_err());
        for (text, expected) in [("0.25\n", 0.25), ("7", 1.0), ("-1", 0.0)] {
            fs::write(&file, text).unwrap();
            let pressure = gauge.pressure().unwrap();
            assert!((pressure - expected).abs() < 1e-9, "{text}");
        }
        fs::write(&file, "much").unwrap();
        assert!(gauge.pressure().is_err());
    }

    #[test]
    fn this_process_and_machine_can_be_looked_at() {
        let mut heap = Gauge::new(MonitorKind::FixedHeap {
            bytes_max: 1024 * 1024 * 1024 * 1024,
        });
        let used = heap.pressure().unwrap();
        assert!(used > 0.0 && used < 1.0, "{used}");
        let mut cpu = Gauge::new(MonitorKind::Cpu {
            of_container: false,
        });
        let used = [cpu.pressure().unwrap(), cpu.pressure().unwrap()];
        assert!(
            used.iter().all(|used| (0.0..=1.0).contains(used)),
            "{used:?}"
        );
    }
}
