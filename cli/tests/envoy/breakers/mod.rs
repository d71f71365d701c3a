//! Limits of a cluster: Envoy and Weir refuse the same requests, with the same words and the same
//! numbers.
//!
//! | file | holds |
//! |---|---|
//! | `carried` | what is ours in a cluster does not disturb an Envoy |
//! | `requests` | one request too many, for each limit |
//! | `streams` | one TCP stream too many |

mod carried;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::path::Path;

use bench::peer::Admin;
use bench::peer::Envoy;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use crate::identity::open;
use crate::identity::typed;
use crate::setting::Weir;
use crate::setting::until;

/// Counters and gauges of a cluster that are compared; of gauges of limits all that Weir has.
const NUMBERS: [&str; 11] = [
    "upstream_cx_active",
    "upstream_cx_connect_attempts_exceeded",
    "upstream_cx_overflow",
    "upstream_cx_total",
    "upstream_rq_active",
    "upstream_rq_active_overflow",
    "upstream_rq_pending_active",
    "upstream_rq_pending_overflow",
    "upstream_rq_pending_total",
    "upstream_rq_retry_overflow",
    "upstream_rq_total",
];

/// What `look` sees of Envoy and then of Weir, both on the same bootstrap and ports.
pub(crate) async fn of_both<T, F>(
    bootstrap: &str,
    ports: &[ReservedPort],
    look: impl Fn(Admin) -> F,
) -> (T, T)
where
    F: Future<Output = T>,
{
    let options = StartOptions {
        // Log entries are waited for.
        arguments: vec!["--file-flush-interval-msec".into(), "10".into()],
        ..StartOptions::default()
    };
    let envoy = Envoy::start_with(bootstrap, &options).await;
    let envoy = envoy.expect("Envoy takes the bootstrap");
    open(ports).await;
    let wanted = look(*envoy.admin()).await;
    drop(envoy);
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let bootstrap = format!("{bootstrap}admin: {}\n", json!({ "address": address }));
    let weir = Weir::start(&bootstrap).await;
    open(ports).await;
    let admin = weir.live().admin_address().expect("it was asked for");
    let found = look(Admin::new(admin)).await;
    weir.stop().await;
    (wanted, found)
}

/// The numbers of a cluster.
async fn numbers(admin: &Admin, cluster: &str) -> BTreeMap<String, u64> {
    let all = admin.stats().await.expect("it answers");
    let prefix = format!("cluster.{cluster}.");
    let own = all.into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(&prefix)?.to_owned();
        // Weir has no limit of pools, and Envoy always shows that one.
        let is_limit = name.starts_with("circuit_breakers.") && !name.contains("cx_pool");
        (is_limit || NUMBERS.contains(&&*name)).then_some((name, value))
    });
    own.collect()
}

/// Waits until the numbers of a cluster are these.
async fn become_so(admin: &Admin, cluster: &str, wanted: &[(&str, u64)]) {
    let so = until(|| async {
        let now = numbers(admin, cluster).await;
        let other = wanted
            .iter()
            .find(|(name, value)| now.get(*name) != Some(value));
        match other {
            None => Ok(()),
            Some(other) => Err(format!("{cluster}: wanted {other:?} of {now:?}")),
        }
    });
    so.await.expect("it becomes so");
}

/// A log of these fields.
pub(crate) fn log(file: &Path, commands: &[&str]) -> Value {
    let fields = commands.iter().map(|command| {
        let name = (*command).to_owned();
        (name, Value::from(format!("%{command}%")))
    });
    let fields = Value::Object(fields.collect());
    let log = json!({"path": file, "log_format": {"json_format": fields}});
    let log = typed("extensions.access_loggers.file.v3.FileAccessLog", log);
    json!([{"name": "file", "typed_config": log}])
}

/// The entries of `file`, once there are `count`, and then no more.
pub(crate) async fn entries(file: &Path, count: usize) -> Vec<String> {
    let read = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.split_inclusive('\n');
        let whole = lines.filter(|line| line.ends_with('\n'));
        whole.map(str::to_owned).collect::<Vec<_>>()
    };
    let complete = until(|| async {
        let found = read().len();
        let enough = (found >= count).then_some(());
        enough.ok_or_else(|| format!("{found} of {count} entries"))
    });
    complete.await.expect("all entries are written");
    let entries = read().into_iter().map(|line| {
        let entry: Value = serde_json::from_str(&line).expect("an object");
        entry.to_string() // keys in order
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    std::fs::remove_file(file).expect("it is there"); // the next proxy makes its own
    entries
}
