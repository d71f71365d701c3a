//! `weir lb show`: why a member of a cluster has its weight, asked of a running proxy. What changes it is
//! in `balancing`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::balancing;
use crate::balancing::onlooker;
use crate::client;

/// Flags of `weir lb`.
#[derive(Args, Debug)]
pub(crate) struct LbArgs {
    #[command(subcommand)]
    command: LbCommand,
}

#[derive(Debug, Subcommand)]
enum LbCommand {
    /// What was changed by hand, at a control plane
    List(balancing::ListArgs),
    /// Have a control plane change how a cluster balances
    Set(balancing::SetArgs),
    /// Let a policy look on beside the one that chooses, to compare them
    Shadow(balancing::ShadowArgs),
    /// One line per member: latency, baseline, samples, failures, weight
    Show(ShowArgs),
    /// Take back what was changed: the cluster balances as its resource says
    Unset(balancing::UnsetArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir lb show backend
  weir lb show backend --admin 127.0.0.1:15000 -o json")]
struct ShowArgs {
    #[command(flatten)]
    asked: ClusterArgs,
}

/// Which cluster of which proxy, and how to print what is said of it.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// The cluster's name
    cluster: String,
    /// The admin interface of the proxy
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The part of `/clusters?format=json` that is read here.
#[derive(Debug, Deserialize)]
struct Clusters {
    cluster_statuses: Vec<Cluster>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cluster {
    name: String,
    /// As the admin interface shows them.
    #[serde(default)]
    pub(crate) host_statuses: Vec<Value>,
    /// How its limits stand.
    #[serde(default)]
    pub(crate) weir_limits: Vec<Value>,
    /// How its breakers stand that look at outcomes.
    #[serde(default)]
    pub(crate) weir_breakers: Vec<Value>,
    /// What chooses among its members.
    #[serde(default)]
    weir_policy: String,
    /// What is known of a policy that looks on.
    weir_shadow: Option<Value>,
}

/// What the policy that follows latency says of a member.
#[derive(Debug, Deserialize)]
pub(crate) struct Latency {
    pub(crate) effective_weight: f64,
    pub(crate) latency_ms: f64,
    baseline_ms: f64,
    ratio: f64,
    samples: u64,
    failures: u64,
    spared: bool,
    wanted_weight: f64,
    /// None under the formula alone.
    guards: Option<Guards>,
}

/// What keeps the formula from its traps.
#[derive(Debug, Deserialize)]
struct Guards {
    penalty_ms: f64,
    floor_weight: f64,
    explored: f64,
    step_max: f64,
}

impl Latency {
    /// `None` under another policy, and before the first answer.
    pub(crate) fn of(host: &Value) -> Option<Self> {
        let latency = host.get("weir_latency")?.clone();
        serde_json::from_value(latency).ok()
    }
}

/// Asks and prints.
pub(crate) fn run(args: &LbArgs) -> ExitCode {
    match &args.command {
        LbCommand::List(args) => balancing::list(args),
        LbCommand::Set(args) => balancing::set(args),
        LbCommand::Shadow(args) => balancing::shadow(args),
        LbCommand::Show(ShowArgs { asked }) => asked.print(|cluster| {
            let first = onlooker::line(&cluster.weir_policy, cluster.weir_shadow.as_ref());
            let members = cluster.host_statuses.iter().map(line);
            let lines = [first].into_iter().chain(members).collect();
            let object = json!({
                "policy": cluster.weir_policy,
                "shadow": cluster.weir_shadow,
                "members": cluster.host_statuses,
            });
            (object, lines)
        }),
        LbCommand::Unset(args) => balancing::unset(args),
    }
}

impl ClusterArgs {
    /// Asks, and prints a part of what is said: as it is, or a line for each.
    pub(crate) fn show(
        &self,
        part: fn(Cluster) -> Vec<Value>,
        line: fn(&Value) -> String,
    ) -> ExitCode {
        self.print(|cluster| {
            let part = part(cluster);
            let lines = part.iter().map(line).collect();
            (Value::Array(part), lines)
        })
    }

    /// The same of anything that is said, as an object and in lines.
    fn print(&self, told: impl FnOnce(Cluster) -> (Value, Vec<String>)) -> ExitCode {
        let printed = self.ask().and_then(|cluster| {
            let (object, lines) = told(cluster);
            match self.output {
                Output::Json => serde_json::to_string_pretty(&object)
                    .map(|text| println!("{text}"))
                    .map_err(|error| error.to_string()),
                Output::Text => {
                    lines.iter().for_each(|line| println!("{line}"));
                    Ok(())
                }
            }
        });
        match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                eprintln!("weir: {sentence}");
                ExitCode::FAILURE
            }
        }
    }

    fn ask(&self) -> Result<Cluster, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        runtime.block_on(cluster(self.admin, &self.cluster))
    }
}

/// The cluster of this name, as a running proxy shows it.
pub(crate) async fn cluster(admin: SocketAddr, name: &str) -> Result<Cluster, String> {
    let answer = client::get(admin, "/clusters?format=json").await;
    let (status, body) = answer.map_err(|error| {
        format!("no admin interface answers on {admin}: {error}; --admin names another")
    })?;
    if status != 200 {
        return Err(format!("{admin} answered with {status}"));
    }
    let clusters: Clusters = serde_json::from_str(&body)
        .map_err(|error| format!("{admin} is no admin interface: {error}"))?;
    let mut names = Vec::new();
    for cluster in clusters.cluster_statuses {
        if cluster.name == name {
            return Ok(cluster);
        }
        names.push(cluster.name);
    }
    Err(format!(
        "there is no cluster {name:?}; there are: {}",
        names.join(", ")
    ))
}

/// The address of a member, as it is written on the command line.
pub(crate) fn place(host: &Value) -> String {
    let text = |pointer| host.pointer(pointer).and_then(Value::as_str);
    let port = host.pointer("/address/socket_address/port_value");
    match (text("/address/socket_address/address"), port) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        _ => text("/address/pipe/path").unwrap_or_default().to_owned(),
    }
}

/// The weight a member was given by configuration.
pub(crate) fn configured_weight(host: &Value) -> u64 {
    host.get("weight").and_then(Value::as_u64).unwrap_or(1)
}

/// A member in one line.
fn line(host: &Value) -> String {
    let shadow = host.get("weir_shadow").map(onlooker::share);
    format!("{}{}", explained(host), shadow.unwrap_or_default())
}

fn explained(host: &Value) -> String {
    let (place, configured) = (place(host), configured_weight(host));
    let Some(latency) = Latency::of(host) else {
        return format!(
            "{place}  weight {configured}, as configured: its policy does not follow latency, or nothing was answered yet"
        );
    };
    let Latency {
        effective_weight,
        latency_ms,
        baseline_ms,
        ratio,
        samples,
        failures,
        spared,
        wanted_weight,
        guards,
    } = latency;
    let asked = if spared {
        "; spared because it asked for it"
    } else {
        ""
    };
    let guarded = guards.map_or_else(
        || "; without guards".to_owned(),
        |guards| {
            let Guards {
                penalty_ms,
                floor_weight,
                explored,
                step_max,
            } = guards;
            format!(
                " of {penalty_ms:.2} ms each; moves {step_max}-fold at most, towards {wanted_weight:.1}; \
                 floor {floor_weight:.1} and {:.2} % of picks",
                100.0 * explored
            )
        },
    );
    format!(
        "{place}  weight {effective_weight:.1} (configured {configured}): latency {latency_ms:.2} ms, \
         {ratio:.2} of the usual, baseline {baseline_ms:.2} ms, {samples} samples, {failures} failures{guarded}{asked}"
    )
}
