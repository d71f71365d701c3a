//! What must hold once everybody has left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Numbers of the proxy.
pub(crate) struct Stats(BTreeMap<String, u64>);

impl Stats {
    pub(crate) async fn read(admin: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(admin).await.expect("it runs");
        let question = b"GET /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(question).await.expect("it listens");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        read.expect("it is text");
        let lines = answer.lines().filter_map(|line| line.split_once(": "));
        let numbers =
            lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Self(numbers.collect())
    }

    /// The sum of all with this beginning and this end.
    pub(crate) fn sum(&self, begin: &str, end: &str) -> u64 {
        let names = self.0.iter();
        let fitting = names.filter(|(name, _)| name.starts_with(begin) && name.ends_with(end));
        fitting.map(|(_, value)| value).sum()
    }

    /// What is not as it is when nothing goes on.
    fn unsettled(&self, limit: u64) -> Option<String> {
        for (name, value) in &self.0 {
            let is_over = name.ends_with("_active") && !is_pooled(name);
            if is_over && *value != 0 && !name.starts_with("listener_manager") {
                return Some(format!("{name} is {value}"));
            }
            if name.contains(".remaining_") && *value != limit && !name.ends_with("remaining_cx") {
                return Some(format!("{name} is {value}"));
            }
        }
        self.unbalanced(limit)
    }

    fn unbalanced(&self, limit: u64) -> Option<String> {
        let totals = self.0.iter();
        let totals =
            totals.filter_map(|(name, value)| Some((name.strip_suffix("cx_total")?, value)));
        for (before, total) in totals {
            let of = |end: &str| self.0.get(&format!("{before}{end}")).copied();
            let Some((ended, open)) = of("cx_destroy").zip(of("cx_active")) else {
                continue; // those of streams have no such count
            };
            if *total != ended + open {
                let text = format!("{before}: {total} connections, {ended} ended, {open} open");
                return Some(text);
            }
        }
        for (name, left) in &self.0 {
            let Some(before) = name.strip_suffix("circuit_breakers.default.remaining_cx") else {
                continue;
            };
            let open = self.0.get(&format!("{before}upstream_cx_active"));
            if open.is_some_and(|open| open + left != limit) {
                return Some(format!("{name} is {left}, {open:?} are open"));
            }
        }
        None
    }

    /// Connections kept for others.
    fn pooled(&self) -> u64 {
        self.sum("cluster.", ".upstream_cx_active")
    }
}

fn is_pooled(name: &str) -> bool {
    name.starts_with("cluster.") && name.ends_with("upstream_cx_active")
        || name.starts_with("cluster_manager")
        || name.ends_with("total_listeners_active")
}

/// Waits until nothing goes on any more. `sockets` are those the process has now, without what it has
/// when there are no connections; `opened` are those its origins know of.
pub(crate) async fn settle(
    admin: SocketAddr,
    limit: u64,
    sockets: impl Fn() -> u64,
    opened: impl Fn() -> u64,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let stats = Stats::read(admin).await;
        let (pooled, here, there) = (stats.pooled(), sockets(), opened());
        let excuse = match stats.unsettled(limit) {
            Some(excuse) => excuse,
            None if pooled != here => format!("{pooled} connections kept, {here} sockets open"),
            None if pooled != there => format!("{pooled} connections kept, origins have {there}"),
            None => return Ok(()),
        };
        if began.elapsed() > PATIENCE {
            return Err(format!("left behind: {excuse}"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
