//! `weir ca trust`: other trust domains.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use control_plane::ca::TrustDomain;
use control_plane::ca::authority::Federation;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use serde_json::json;

use super::Common;
use super::Done;
use super::Failed;
use super::actor;
use super::files;
use super::open;
use crate::moment::Moment;

/// Flags of `weir ca trust`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca trust add --dir ca other.example other.json
  weir ca trust list --dir ca
  weir ca trust remove --dir ca other.example

A bundle is a SPIFFE bundle in JSON or certificates in PEM; adding one again takes the place of the old.
Proxies get all roots, each for its own domain, as the secret `ALL`, and those of one domain as
`spiffe://DOMAIN`; what they get as `ROOTCA` stays the own domain's.")]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Believe the identities of another domain
    Add(AddArgs),
    /// Show the domains that are believed
    List(ListArgs),
    /// Believe a domain no more
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
struct AddArgs {
    #[command(flatten)]
    common: Common,
    /// The other domain, such as other.example
    domain: TrustDomain,
    /// Its bundle
    file: PathBuf,
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct RemoveArgs {
    #[command(flatten)]
    common: Common,
    /// The other domain
    domain: TrustDomain,
}

impl TrustArgs {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Add(args) => &args.common,
            Command::List(args) => &args.common,
            Command::Remove(args) => &args.common,
        }
    }
}

pub(super) fn run(args: &TrustArgs, now: UnixTime) -> Result<Done, Failed> {
    match &args.command {
        Command::Add(args) => add(args, now),
        Command::List(args) => list(args, now),
        Command::Remove(args) => remove(args, now),
    }
}

fn add(args: &AddArgs, now: UnixTime) -> Result<Done, Failed> {
    let bundle = files::read(&args.file)?;
    let domain = &args.domain;
    let count = open(&args.common)?.federate(now, domain, &bundle, &actor())?;
    Ok(Done {
        text: format!("identities of {domain} are believed because of {count} roots\n"),
        json: json!({"trust_domain": domain.as_str(), "roots": count}),
    })
}

fn remove(args: &RemoveArgs, now: UnixTime) -> Result<Done, Failed> {
    let domain = &args.domain;
    open(&args.common)?.separate(now, domain, &actor())?;
    Ok(Done {
        text: format!("identities of {domain} are believed no more\n"),
        json: json!({"trust_domain": domain.as_str()}),
    })
}

fn list(args: &ListArgs, now: UnixTime) -> Result<Done, Failed> {
    let federations = open(&args.common)?.federations(now)?;
    let line = |one: &Federation| {
        let until = Moment::new(one.until);
        let left = until.seen_from(now.as_secs());
        format!(
            "{}  {} roots until {until} ({left})\n",
            one.domain, one.count
        )
    };
    let known: Vec<Value> = federations.iter().map(to_json).collect();
    Ok(Done {
        text: federations.iter().map(line).collect(),
        json: json!({"trust_domains": known}),
    })
}

fn to_json(one: &Federation) -> Value {
    json!({
        "trust_domain": one.domain.as_str(),
        "roots": one.count,
        "until": Moment::new(one.until).to_string(),
        "bundle": one.roots,
    })
}
