//! `/mixed`: all backends behind a policy that follows latency, asked by a few clients, and what the
//! proxy makes of it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::get;
use crate::demo::Demo;
use crate::lb;
use crate::lb::Latency;

const CLIENTS: usize = 4;

/// Between two looks; weights move four times in it.
const LOOK: Duration = Duration::from_secs(1);

const LOOKS: u32 = 10;

/// A slow backend is known within a second and forgiven within ten.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for ten seconds and prints every second.
pub(crate) async fn show(demo: &Demo) -> Result<(), String> {
    for look in 0..LOOKS {
        let answers = ask(demo.proxy).await?;
        let members = lb::cluster(demo.admin, "mixed").await?.host_statuses;
        if look > 0 && std::io::stdout().is_terminal() {
            print!("\x1b[{}A", members.len() + 1); // over the table before
        }
        println!(
            "{:<8}{:>12}{:>14}{:>18}{:>9}",
            "backend", "configured", "latency ms", "effective weight", "share %"
        );
        for member in &members {
            println!("{}", line(demo, member, &answers));
        }
    }
    Ok(())
}

/// Asks until red's share in one look is right.
pub(crate) async fn wait_until(demo: &Demo, is_right: impl Fn(f64) -> bool) -> Result<(), String> {
    let mut last = BTreeMap::new();
    let waiting = async {
        loop {
            last = ask(demo.proxy).await?;
            if is_right(share(&last, "red")) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| Err(format!("answers in the last second: {last:?}")))
}

/// A member in one line.
fn line(demo: &Demo, member: &Value, answers: &BTreeMap<String, u64>) -> String {
    let place = lb::place(member);
    let mut backends = demo.backends.iter();
    let backend = backends.find(|backend| backend.address.to_string() == place);
    let name = backend.map_or(place.as_str(), |backend| backend.name);
    let latency = Latency::of(member);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"));
    format!(
        "{name:<8}{:>12}{:>14}{:>18}{:>9.1}",
        lb::configured_weight(member),
        number(latency.as_ref().map(|latency| latency.latency_ms)),
        number(latency.as_ref().map(|latency| latency.effective_weight)),
        100.0 * share(answers, name)
    )
}

fn share(answers: &BTreeMap<String, u64>, name: &str) -> f64 {
    let all: u64 = answers.values().sum();
    let own = answers.get(name).copied().unwrap_or(0);
    own as f64 / all.max(1) as f64
}

/// Asks for one look; how many answers each backend gave.
async fn ask(proxy: SocketAddr) -> Result<BTreeMap<String, u64>, String> {
    let until = Instant::now() + LOOK;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(proxy, until));
    }
    let mut answers = BTreeMap::new();
    while let Some(names) = clients.join_next().await {
        for name in names.map_err(|error| error.to_string())?? {
            *answers.entry(name).or_insert(0) += 1;
        }
    }
    Ok(answers)
}

async fn client(proxy: SocketAddr, until: Instant) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    while Instant::now() < until {
        let (status, body) = get(proxy, "/mixed").await?;
        if status != 200 {
            return Err(format!("{status} {body}"));
        }
        let answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("{body}: {error}"))?;
        let name = answer.get("backend").and_then(Value::as_str);
        names.push(name.unwrap_or("nobody").to_owned());
    }
    Ok(names)
}
