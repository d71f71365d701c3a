//! A memory control group of the test's own, below the one that the test is in.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::LIMIT;

/// A memory control group, of either version.
pub(super) struct Group {
    folder: PathBuf,
    events: &'static str,
}

impl Group {
    /// Where there can be one.
    pub(super) fn make() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let of = |name: &str| {
            own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                (controllers == name).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let kinds = [
            (
                "memory",
                "memory",
                "memory.limit_in_bytes",
                "memory.oom_control",
            ),
            ("", "", "memory.max", "memory.events"),
        ];
        kinds.into_iter().find_map(|(name, root, limit, events)| {
            let folder = Path::new("/sys/fs/cgroup").join(root).join(of(name)?);
            let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let folder = folder.join(format!("weir-test-{process}-{count}"));
            fs::create_dir(&folder).ok()?;
            let group = Self { folder, events };
            // Without the file it is no group that limits memory.
            let limit = fs::OpenOptions::new()
                .write(true)
                .open(group.folder.join(limit));
            limit.ok()?.write_all(LIMIT.to_string().as_bytes()).ok()?;
            Some(group)
        })
    }

    /// A command that becomes `program` in the group.
    pub(super) fn command(&self, program: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""]);
        shell.arg(&self.folder).arg(program.get_program());
        shell
    }

    /// Processes that the kernel has ended for want of memory.
    pub(super) fn killed(&self) -> u64 {
        let events = fs::read_to_string(self.folder.join(self.events)).expect("it is there");
        let count = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        count.map_or(0, |count| count.trim().parse().expect("a number"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel may take a moment to see that a process has ended.
        while fs::remove_dir(&self.folder)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
        {
            std::thread::yield_now();
        }
    }
}
