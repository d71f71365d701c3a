//! `weir lb set`, `shadow`, `unset` and `list`: how clusters balance, changed at a running control plane.
//!
//! | file | holds |
//! |---|---|
//! | `onlooker` | what a proxy says of a policy that looks on, in words |
//! | `policy` | names of policies, and what they are on the wire |

pub(crate) mod onlooker;
mod policy;

use std::process::ExitCode;

use clap::Args;
use clap::ValueEnum;
use control_plane::client::Client;
use serde_json::Value;
use serde_json::json;
use xds_proto::Pool;
use xds_proto::dump;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::google::protobuf::Empty;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyRequest;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyResponse;
use xds_proto::pb::weir::control_plane::v1::PolicyOverride;
use xds_proto::pb::weir::control_plane::v1::change_policy_request::Change;
use xds_proto::type_url;

use policy::Choice;

/// Flags of `weir lb set`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir lb set backend latency
  weir lb set backend latency --with '{window: 5s, guards: {exploration: 2}}'
  weir lb set backend least-request --version 7
  weir lb set backend round-robin --shadow

Connections, health and what was learned of latency stay: only how members are chosen changes. What is set
stands over what resource files say, until `weir lb unset`. A client that does not know the policy uses
round robin: latency, latency-plain and peak-ewma are followed by it.

With --version the same command is one change, however often it runs, and one that comes late changes
nothing: a version below the last one is refused. Without, it is the next one.")]
pub(crate) struct SetArgs {
    /// The cluster's name
    cluster: String,
    /// What chooses
    policy: Choice,
    #[command(flatten)]
    with: WithArgs,
    /// Let it look on beside what chooses now, as `weir lb shadow` does
    #[arg(long)]
    shadow: bool,
    #[command(flatten)]
    asked: AskedArgs,
}

/// Flags of `weir lb shadow`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir lb shadow backend latency
  weir lb show backend --admin 127.0.0.1:9901
  weir lb shadow backend off

A shadow is asked for each request, and nothing follows from its choice. How often it chose the same,
whom it chose and what latency that would have brought is in `weir lb show` and the metrics of each proxy.")]
pub(crate) struct ShadowArgs {
    /// The cluster's name
    cluster: String,
    /// What looks on, or `off`
    policy: Shadow,
    #[command(flatten)]
    with: WithArgs,
    #[command(flatten)]
    asked: AskedArgs,
}

/// Flags of `weir lb unset`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir lb unset backend

The cluster balances as its resource says, and nothing looks on.")]
pub(crate) struct UnsetArgs {
    /// The cluster's name
    cluster: String,
    #[command(flatten)]
    asked: AskedArgs,
}

/// Flags of `weir lb list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir lb list
  weir lb list -o json --control-plane unix:/run/weir/api")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
struct WithArgs {
    /// Fields of the policy, as YAML or JSON
    #[arg(long, value_name = "FIELDS")]
    with: Option<String>,
}

#[derive(Args, Debug)]
struct AskedArgs {
    /// Which change of this cluster this is; the next one if it is left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
struct PlaceArgs {
    /// The API of the control plane: an address, or unix:PATH
    #[arg(
        long,
        value_name = "ADDR",
        env = "WEIR_API",
        default_value = "127.0.0.1:18001"
    )]
    control_plane: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A policy, or none.
#[derive(Clone, Copy, Debug)]
enum Shadow {
    Off,
    Policy(Choice),
}

impl std::str::FromStr for Shadow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        Choice::from_str(text, false)
            .map(Self::Policy)
            .map_err(|_| {
                let all = Choice::value_variants().iter();
                let names: Vec<_> = all.map(|each| each.name()).collect();
                format!("it is off, or one of {}", names.join(", "))
            })
    }
}

/// Changes what chooses, or what looks on.
pub(crate) fn set(args: &SetArgs) -> ExitCode {
    told(
        args.policy
            .policies(args.with.with.as_deref())
            .and_then(|list| {
                let change = match args.shadow {
                    true => Change::Shadow(list),
                    false => Change::Policy(list),
                };
                args.asked.change(&args.cluster, change)
            }),
    )
}

/// Changes what looks on.
pub(crate) fn shadow(args: &ShadowArgs) -> ExitCode {
    let change = match args.policy {
        Shadow::Off if args.with.with.is_some() => Err("--with goes with a policy".to_owned()),
        Shadow::Off => Ok(Change::NoShadow(Empty {})),
        Shadow::Policy(policy) => policy
            .policies(args.with.with.as_deref())
            .map(Change::Shadow),
    };
    told(change.and_then(|change| args.asked.change(&args.cluster, change)))
}

/// Takes back what was changed.
pub(crate) fn unset(args: &UnsetArgs) -> ExitCode {
    told(args.asked.change(&args.cluster, Change::Unset(Empty {})))
}

/// What was changed.
pub(crate) fn list(args: &ListArgs) -> ExitCode {
    let place = &args.place;
    told(
        place
            .ask(async |client| client.list_policies().await)
            .and_then(|list| {
                match place.output {
                    Output::Json => {
                        print(&Value::Array(list.overrides.iter().map(object).collect()))?;
                    }
                    Output::Text if list.overrides.is_empty() => {
                        println!("every cluster balances as its resource says");
                    }
                    Output::Text => list
                        .overrides
                        .iter()
                        .for_each(|one| println!("{}", line(one))),
                }
                Ok(())
            }),
    )
}

fn told(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("weir: {sentence}");
            ExitCode::FAILURE
        }
    }
}

impl AskedArgs {
    fn change(&self, cluster: &str, change: Change) -> Result<(), String> {
        let request = ChangePolicyRequest {
            cluster: cluster.to_owned(),
            version: self.version.unwrap_or_default(),
            change: Some(change),
        };
        let answer = self
            .place
            .ask(async |client| client.change_policy(request).await)?;
        let ChangePolicyResponse {
            now,
            changed,
            durable,
        } = answer;
        let now = now.unwrap_or_default();
        match self.place.output {
            Output::Json => {
                let mut object = object(&now);
                object["changed"] = changed.into();
                object["durable"] = durable.into();
                print(&object)?;
            }
            Output::Text => {
                let news = if changed { "" } else { ", as before" };
                println!("{}{news}", line(&now));
                if changed && !durable {
                    println!(
                        "it is forgotten when the control plane ends, which has no --state-dir"
                    );
                }
            }
        }
        Ok(())
    }
}

impl PlaceArgs {
    fn ask<A>(
        &self,
        call: impl AsyncFnOnce(&mut Client) -> Result<A, control_plane::client::Status>,
    ) -> Result<A, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let place = &self.control_plane;
        runtime.block_on(async {
            let mut client = Client::connect(place).await.map_err(|error| {
                format!(
                    "no control plane's API answers on {place}: {error}; `weir control-plane --api {place}` \
                     serves it, --control-plane names another"
                )
            })?;
            let called = call(&mut client).await;
            called.map_err(|status| status.message().to_owned())
        })
    }
}

fn print(value: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    println!("{text}");
    Ok(())
}

/// A cluster in one line.
fn line(one: &PolicyOverride) -> String {
    let PolicyOverride {
        cluster,
        version,
        policy,
        shadow,
    } = one;
    let names = |list: &LoadBalancingPolicy| {
        let names: Vec<_> = anys(list).map(|any| short(&any.type_url)).collect();
        names.join(", else ")
    };
    let chooses = policy
        .as_ref()
        .map_or_else(|| "as its resource says".to_owned(), names);
    let looks_on = shadow.as_ref().map_or_else(String::new, |shadow| {
        format!("; {} looks on", names(shadow))
    });
    format!("{cluster}  version {version}: {chooses}{looks_on}")
}

/// The same as JSON.
fn object(one: &PolicyOverride) -> Value {
    let pool = Pool::new();
    let list = |list: &Option<LoadBalancingPolicy>| {
        let list = list.as_ref()?;
        let policies = anys(list).map(|any| dump::any_to_json(&pool, any));
        Some(policies.collect::<Vec<_>>())
    };
    json!({
        "cluster": one.cluster,
        "version": one.version,
        "policy": list(&one.policy),
        "shadow": list(&one.shadow),
    })
}

fn anys(list: &LoadBalancingPolicy) -> impl Iterator<Item = &xds_proto::pb::google::protobuf::Any> {
    let configs = list.policies.iter();
    let configs = configs.filter_map(|policy| policy.typed_extension_config.as_ref());
    configs.filter_map(|config| config.typed_config.as_ref())
}

fn short(url: &str) -> &str {
    let name = type_url::message_name(url);
    name.rsplit('.').next().unwrap_or(name)
}
