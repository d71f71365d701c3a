//! What a process and its children have used: CPU time and memory, read from `/proc`.
//!
//! CPU time is the sum of `schedstat` over all threads, exact to the nanosecond; only the split
//! into user and system comes from `stat`, which the kernel samples. On loopback some of a peer's
//! receive work is charged to the sender, for every proxy alike.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks per second of `stat` files: `USER_HZ`, 100 on every Linux architecture in use.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process tree since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuTime {
    /// On-CPU time of all threads.
    pub total: Duration,
    /// User part, in sampled ticks of 10 ms.
    pub user: Duration,
    /// System part, in sampled ticks of 10 ms.
    pub system: Duration,
}

impl CpuTime {
    /// The time spent since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// The user share of the sampled time, between 0 and 1.
    #[must_use]
    pub fn user_share(&self) -> f64 {
        let sampled = (self.user + self.system).as_secs_f64();
        if sampled > 0.0 {
            self.user.as_secs_f64() / sampled
        } else {
            0.0
        }
    }
}

/// Memory of a process tree, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// Resident set.
    pub rss: u64,
    /// Resident set with shared pages divided by their users.
    pub pss: u64,
    /// Anonymous part of the resident set.
    pub anonymous: u64,
}

/// CPU time of the process `pid` and its descendants.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    let mut sum = CpuTime::default();
    for pid in tree(pid)? {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path().join("schedstat");
            // A thread that ended meanwhile takes its time with it.
            if let Ok(text) = fs::read_to_string(path) {
                sum.total += Duration::from_nanos(first_number(&text));
            }
        }
        let (user, system) = ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?);
        sum.user += user;
        sum.system += system;
    }
    Ok(sum)
}

/// CPU time of the calling thread.
///
/// # Errors
/// When `/proc` is not there.
pub fn thread_cpu_time() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(first_number(&text)))
}

/// Memory of the process `pid` and its descendants.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for pid in tree(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum.rss += kilobytes(&text, "Rss:");
        sum.pss += kilobytes(&text, "Pss:");
        sum.anonymous += kilobytes(&text, "Anonymous:");
    }
    Ok(sum)
}

/// `pid` and every descendant.
pub(crate) fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        at += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for thread in threads {
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(found)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// User and system time of a `stat` line. The name in parentheses may hold spaces, so fields are
/// counted from the last parenthesis: state is the first after it, user time the twelfth.
fn ticks(stat: &str) -> (Duration, Duration) {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_whitespace().skip(11).map(first_number);
    let mut next =
        || Duration::from_millis(fields.next().unwrap_or_default() * 1_000 / TICKS_PER_SECOND);
    (next(), next())
}

fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.map_or(0, first_number) * 1_024
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cpu_time, kilobytes, memory, ticks};

    #[test]
    fn a_busy_loop_costs_user_time() {
        let pid = std::process::id();
        let before = cpu_time(pid).expect("this process lives");
        let mut value = 1_u64;
        for step in 0..30_000_000_u64 {
            value = std::hint::black_box(value.wrapping_mul(step | 1));
        }
        let spent = cpu_time(pid).expect("this process lives").since(&before);
        assert!(spent.total > Duration::from_millis(1), "{spent:?}");
    }

    #[test]
    fn memory_grows_by_what_is_touched() {
        let pid = std::process::id();
        let before = memory(pid).expect("this process lives");
        let block = std::hint::black_box(vec![1_u8; 32 * 1024 * 1024]);
        let after = memory(pid).expect("this process lives");
        assert!(
            after.anonymous >= before.anonymous + 24 * 1024 * 1024,
            "{before:?} {after:?}"
        );
        drop(block);
    }

    #[test]
    fn fields_are_found_behind_names_with_spaces() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 40 0 0";
        assert_eq!(
            ticks(stat),
            (Duration::from_millis(2_500), Duration::from_millis(400))
        );
        assert_eq!(kilobytes("x\nPss:      12 kB\n", "Pss:"), 12_288);
    }
}
