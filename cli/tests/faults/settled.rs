//! What must hold once everybody has left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::world;

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Numbers of the proxy.
pub(crate) struct Stats {
    all: BTreeMap<String, u64>,
    /// Those of hosts, by cluster and name.
    hosts: BTreeMap<(String, String), u64>,
}

impl Stats {
    pub(crate) async fn read(admin: SocketAddr) -> Self {
        let stats = get(admin, "/stats").await;
        let lines = stats.lines().filter_map(|line| line.split_once(": "));
        let numbers =
            lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        let mut hosts = BTreeMap::new();
        for line in get(admin, "/clusters").await.lines() {
            let parts: Vec<&str> = line.split("::").collect();
            if let [cluster, _, name, value] = parts[..]
                && let Ok(value) = value.parse::<u64>()
            {
                *hosts
                    .entry((cluster.to_owned(), name.to_owned()))
                    .or_default() += value;
            }
        }
        Self {
            all: numbers.collect(),
            hosts,
        }
    }

    /// Connections that a pool keeps.
    pub(crate) fn kept(&self, cluster: &str) -> u64 {
        let name = format!("cluster.{cluster}.upstream_cx_active");
        self.all.get(&name).copied().unwrap_or_default()
    }

    /// The sum of all with this beginning and this end.
    pub(crate) fn sum(&self, begin: &str, end: &str) -> u64 {
        let names = self.all.iter();
        let fitting = names.filter(|(name, _)| name.starts_with(begin) && name.ends_with(end));
        fitting.map(|(_, value)| value).sum()
    }

    /// What is not as it is when nothing goes on.
    fn unsettled(&self, limit: u64) -> Option<String> {
        for (name, value) in &self.all {
            let is_over = name.ends_with("_active") && !is_pooled(name);
            if is_over && *value != 0 && !name.starts_with("listener_manager") {
                return Some(format!("{name} is {value}"));
            }
            if name.contains(".remaining_") && *value != limit && !name.ends_with("remaining_cx") {
                return Some(format!("{name} is {value}"));
            }
        }
        self.unbalanced(limit)
            .or_else(|| self.unanswered())
            .or_else(|| self.unbalanced_hosts())
    }

    fn unbalanced(&self, limit: u64) -> Option<String> {
        let totals = self.all.iter();
        let totals =
            totals.filter_map(|(name, value)| Some((name.strip_suffix("cx_total")?, value)));
        for (before, total) in totals {
            let of = |end: &str| self.all.get(&format!("{before}{end}")).copied();
            let Some((ended, open)) = of("cx_destroy").zip(of("cx_active")) else {
                continue; // those of streams have no such count
            };
            if *total != ended + open {
                let text = format!("{before}: {total} connections, {ended} ended, {open} open");
                return Some(text);
            }
        }
        for (name, left) in &self.all {
            let Some(before) = name.strip_suffix("circuit_breakers.default.remaining_cx") else {
                continue;
            };
            let open = self.all.get(&format!("{before}upstream_cx_active"));
            if open.is_some_and(|open| open + left != limit) {
                return Some(format!("{name} is {left}, {open:?} are open"));
            }
        }
        None
    }

    /// Each answer has one class of status, and each request one answer at most.
    fn unanswered(&self) -> Option<String> {
        for (begin, side) in [("cluster.", ".upstream_rq"), ("http.", ".downstream_rq")] {
            let of = |end: &str| self.sum(begin, &format!("{side}_{end}"));
            let classes: u64 = (1..=5).map(|class| of(&format!("{class}xx"))).sum();
            let (completed, total) = (of("completed"), of("total"));
            if classes != completed || completed > total {
                let text = format!("{classes} statuses, {completed} answers, {total} requests");
                return Some(format!("{begin}*{side}: {text}"));
            }
        }
        None
    }

    /// What hosts began has ended, and is what their cluster counts.
    fn unbalanced_hosts(&self) -> Option<String> {
        for ((cluster, name), total) in &self.hosts {
            let of = |name: &str| {
                let key = (cluster.clone(), name.to_owned());
                self.hosts.get(&key).copied().unwrap_or_default()
            };
            let told = |name: &str| {
                let name = format!("cluster.{cluster}.upstream_{name}");
                self.all.get(&name).copied().unwrap_or_default()
            };
            let wanted = match name.as_str() {
                "cx_active" | "cx_total" | "cx_connect_fail" => told(name),
                "rq_active" => 0,
                "rq_total" => {
                    let ended = of("rq_success") + of("rq_error");
                    if ended != *total && !world::STREAMS.contains(&cluster.as_str()) {
                        return Some(format!("{cluster}: {total} requests, {ended} ended"));
                    }
                    told(name)
                }
                _ => continue,
            };
            if wanted != *total {
                return Some(format!("{cluster}: {total} {name} of hosts, not {wanted}"));
            }
        }
        None
    }

    /// Connections kept for others.
    fn pooled(&self) -> u64 {
        self.sum("cluster.", ".upstream_cx_active")
    }
}

async fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.expect("it runs");
    let question = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let asked = stream.write_all(question.as_bytes()).await;
    asked.expect("it listens");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("it is text");
    answer
}

fn is_pooled(name: &str) -> bool {
    name.starts_with("cluster.") && name.ends_with("upstream_cx_active")
        || name.starts_with("cluster_manager")
        || name.ends_with("total_listeners_active")
}

/// Waits until nothing goes on any more. `sockets` are those the process has now, without what it has
/// when there are no connections; `opened` are those its origins know of, and how many requests they
/// have begun and not ended: none, or a connection that is kept would be in the middle of one.
pub(crate) async fn settle(
    admin: SocketAddr,
    limit: u64,
    sockets: impl Fn() -> u64,
    opened: impl Fn() -> (u64, u64),
) -> Result<Stats, String> {
    let began = Instant::now();
    loop {
        let stats = Stats::read(admin).await;
        let (pooled, here, (there, busy)) = (stats.pooled(), sockets(), opened());
        let excuse = match stats.unsettled(limit) {
            Some(excuse) => excuse,
            None if pooled != here => format!("{pooled} connections kept, {here} sockets open"),
            None if pooled != there => format!("{pooled} connections kept, origins have {there}"),
            None if busy != 0 => format!("origins are busy with {busy} requests"),
            None => return Ok(stats),
        };
        if began.elapsed() > PATIENCE {
            return Err(format!("left behind: {excuse}"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
