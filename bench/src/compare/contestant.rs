//! The proxies of the comparison, and how each is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::peer::template::render;
use bench::peer::{Envoy, Haproxy, Nginx, PeerError, StartOptions, Weir};
use bench::ports::ReservedPort;
use bench::process::{Process, ProcessError};
use serde::Serialize;

use super::configs::template;
use super::outcome::Hole;
use super::scenario::Setup;

/// A column of the table, in the order of printing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contestant {
    /// The null relay: no proxy, the limit.
    Floor,
    Weir,
    Envoy,
    Haproxy,
    Nginx,
}

/// A breaker that looks at what came of requests, in the metadata of a cluster.
const OUTCOME_BREAKER: &str = "{ typed_filter_metadata: { weir.circuit_breaking.v1: { \"@type\": \
     type.googleapis.com/weir.circuit_breaking.v1.OutcomeBreaker, error_percent: 50.0 } } }";

const ROUND_ROBIN: &str = "{ typed_extension_config: { name: in_turn, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin } } }";

const BY_LATENCY: &str = "{ typed_extension_config: { name: latency, typed_config: { \"@type\": \
     type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin } } }";

/// How members take turns; in a file Envoy wants to know every type.
fn policies(contestant: Contestant, setup: Setup) -> &'static str {
    match (contestant, setup) {
        (Contestant::Weir, Setup::Http1Latency) => BY_LATENCY,
        _ => ROUND_ROBIN,
    }
}

impl Contestant {
    pub(crate) const ALL: [Self; 5] = [
        Self::Floor,
        Self::Weir,
        Self::Envoy,
        Self::Haproxy,
        Self::Nginx,
    ];

    /// Those asked for, in the order of printing; all when nobody was.
    pub(crate) fn among(asked: &[Self]) -> Vec<Self> {
        let is_in = |each: &Self| asked.is_empty() || asked.contains(each);
        Self::ALL.into_iter().filter(is_in).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Weir => "weir",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether Weir is compared with it.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Floor | Self::Weir)
    }

    /// What its program says; `weir` is the one given on the command line.
    pub(crate) fn version(self, weir: Option<&Path>) -> Option<String> {
        match self {
            Self::Floor => Some("this program".to_owned()),
            Self::Weir => Weir::version(weir),
            Self::Envoy => Envoy::version(),
            Self::Haproxy => Haproxy::version(),
            Self::Nginx => Nginx::version(),
        }
    }
}

/// What starting a contestant needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) setup: Setup,
    pub(crate) origin: u16,
    pub(crate) core: usize,
    pub(crate) weir: Option<PathBuf>,
    /// What Weir is started under.
    pub(crate) wrapper: Vec<OsString>,
    /// Further values of the templates.
    pub(crate) values: Vec<(&'static str, String)>,
}

/// A started contestant and the port it listens on.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) listen: ReservedPort,
    proxy: Proxy,
}

#[derive(Debug)]
enum Proxy {
    Envoy(Envoy),
    Floor(Process),
    Haproxy(Haproxy),
    Nginx(Nginx),
    Weir(Weir),
}

impl Running {
    /// Starts the process; the reason when that is impossible.
    pub(crate) fn spawn(contestant: Contestant, site: &Site) -> Result<Self, Hole> {
        let template = template(contestant, site.setup).map_err(Hole::absent)?;
        let listen = ReservedPort::new().map_err(Hole::failed)?;
        let mut values = site.values.clone();
        values.push(("listen", listen.number().to_string()));
        values.push(("origin", site.origin.to_string()));
        // Envoy takes it from a control plane only; in a file it wants to know every type.
        let outcome_breaker = match contestant {
            Contestant::Weir => OUTCOME_BREAKER,
            _ => "{}",
        };
        values.push(("outcome_breaker", outcome_breaker.to_owned()));
        values.push(("policy", policies(contestant, site.setup).to_owned()));
        let config = render(template, &values).map_err(Hole::failed)?;
        let program = site.weir.clone().filter(|_| contestant == Contestant::Weir);
        let options = StartOptions {
            core: Some(site.core),
            program,
            wrapper: site.wrapper.clone(),
            ..StartOptions::default()
        };
        let proxy = match contestant {
            Contestant::Floor => floor(listen.number(), site).map(Proxy::Floor),
            Contestant::Weir => Weir::spawn(&config, &options).map(Proxy::Weir),
            Contestant::Envoy => Envoy::spawn(&config, &options).map(Proxy::Envoy),
            Contestant::Haproxy => Haproxy::spawn(&config, &options).map(Proxy::Haproxy),
            Contestant::Nginx => Nginx::spawn(&config, &options).map(Proxy::Nginx),
        };
        Ok(Self {
            listen,
            proxy: proxy.map_err(|error| match error {
                PeerError::Missing { .. } => Hole::absent(error),
                PeerError::Process(_) | PeerError::Config(_) => Hole::failed(error),
            })?,
        })
    }

    /// Fails when it has ended; when that is Weir, refusing its configuration, in its own words.
    pub(crate) fn check_started(&mut self, contestant: Contestant) -> Result<(), Hole> {
        match self.process().check_running() {
            Ok(()) => Ok(()),
            Err(ProcessError::Ended { status, output, .. }) if contestant == Contestant::Weir => {
                Err(Hole::failed(format!(
                    "ended with {status}: {}",
                    refusal(&output)
                )))
            }
            Err(error) => Err(Hole::failed(error)),
        }
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        match &mut self.proxy {
            Proxy::Envoy(envoy) => envoy.process(),
            Proxy::Floor(process) => process,
            Proxy::Haproxy(haproxy) => haproxy.process(),
            Proxy::Nginx(nginx) => nginx.process(),
            Proxy::Weir(weir) => weir.process(),
        }
    }
}

/// The line that says what was refused, without the file it stands in.
fn refusal(output: &str) -> &str {
    let line = output.lines().find(|line| line.contains("error"));
    let line = line.or_else(|| output.lines().next()).unwrap_or_default();
    line.split_once("error: ").map_or(line, |(_, rest)| rest)
}

fn floor(port: u16, site: &Site) -> Result<Process, PeerError> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["relay", "--listen", &port.to_string()])
        .args(["--target", &format!("127.0.0.1:{}", site.origin)]);
    Ok(Process::start("floor", command, Some(site.core))?)
}
