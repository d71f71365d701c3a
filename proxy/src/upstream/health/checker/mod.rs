//! Asking one host once, over whatever protocol: each keeps its connection for the next time, if it may.
//!
//! Nothing here knows thresholds or waits; who asks also says how long the answer may take, and drops
//! the question when it took too long. What comes from a host is bounded by `config::limits`.
//!
//! | file | asks |
//! |---|---|
//! | `http` | with a request |
//! | `grpc` | with `grpc.health.v1.Health/Check` |
//! | `tcp` | with a connection, and bytes on it |
//! | `client` | - ; a connection for requests |

mod client;
mod grpc;
mod http;
mod tcp;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::health::EndpointCheck;
use crate::config::health::HealthCheck;
use crate::config::health::Probe;
use crate::http::headers::Program;
use crate::net::NetStream;
use crate::net::descriptors;
use crate::net::tls::Facts;
use crate::net::tls::unix_now;
use crate::tls::client::Target;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::health::session::Failure;
use crate::upstream::health::session::Outcome;
use crate::upstream::transport::Transport;

/// What the checks of all hosts of a cluster have in common.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Arc<HealthCheck>,
    /// The cluster.
    pub(super) cluster: ClusterHandle,
    /// When the thread began that asks.
    pub(super) began: Instant,
    edits: Program,
}

impl Plan {
    pub(super) fn new(cluster: ClusterHandle, config: Arc<HealthCheck>, began: Instant) -> Self {
        let edits = match &config.probe {
            Probe::Grpc(probe) => Program::new(&probe.edits),
            Probe::Http(probe) => Program::new(&probe.edits),
            Probe::Tcp(_) => Program::default(),
        };
        Self {
            config,
            cluster,
            began,
            edits,
        }
    }
}

/// Who is asked.
#[derive(Debug)]
pub(super) struct Peer {
    address: Address,
    /// The host's name, for TLS.
    hostname: Name,
    transport: Arc<Transport>,
    /// The authority; empty if the host says nothing.
    authority: Name,
    plan: Rc<Plan>,
    host: Arc<Host>,
    /// Few descriptors were left when the last connection was made.
    is_short: Cell<bool>,
    /// The secrets that the last connection was made with, and until when its certificates are good.
    made: Cell<(u32, i64)>,
}

impl Peer {
    pub(super) fn new(
        plan: Rc<Plan>,
        host: Arc<Host>,
        (said, transport): (Option<&EndpointCheck>, &Arc<Transport>),
    ) -> Self {
        let port = said.and_then(|said| said.port).or(plan.config.port);
        let address = match (said.and_then(|said| said.address.as_ref()), port) {
            (Some(address), _) => address.clone(),
            (None, Some(port)) => at_port(&host.address, port),
            (None, None) => host.address.clone(),
        };
        Self {
            address,
            hostname: Arc::clone(&host.hostname),
            transport: Arc::clone(transport),
            authority: said.map_or_else(|| "".into(), |said| Arc::clone(&said.hostname)),
            plan,
            host,
            is_short: Cell::new(false),
            made: Cell::new((0, i64::MAX)),
        }
    }

    /// The authority that goes with a question; `usual` is the cluster's.
    fn authority<'a>(&'a self, usual: &'a Name) -> &'a Name {
        if self.authority.is_empty() {
            usual
        } else {
            &self.authority
        }
    }

    fn keeps(&self) -> bool {
        self.plan.config.reuses_connection && !self.is_short.get()
    }

    /// A new connection, its transport included.
    async fn connect(&self, alpn: &'static [&'static [u8]]) -> Result<NetStream, Failure> {
        let stream = NetStream::connect(&self.address).await;
        let stream = stream.map_err(|error| of_io(&error))?;
        // What is kept would be missing elsewhere.
        self.is_short.set(descriptors::are_scarce(&stream));
        let target = Target {
            address: &self.address,
            hostname: &self.hostname,
            request_host: None,
            alpn,
            alpn_instead: self.plan.config.alpn.as_deref(),
        };
        let made = self.transport.establish(stream, target, None).await;
        let made = made.map_err(|_| Failure::Network)?;
        let until = made.tls.as_ref().map_or(i64::MAX, |facts| self.end(facts));
        self.made.set((made.generation, until));
        Ok(made.stream)
    }

    /// When the first certificate ends that a connection stands on.
    fn end(&self, facts: &Facts) -> i64 {
        let peer = facts.peer.as_ref();
        let peer = peer.filter(|_| !self.transport.allows_expired());
        let end = peer.map_or(i64::MAX, |peer| peer.end());
        end.min(facts.shown_until())
    }

    /// Whether the last connection would be made now, too: nobody else uses one that would not.
    fn is_good(&self) -> bool {
        let (generation, until) = self.made.get();
        let is_trusted = generation == self.transport.generation()
            || self.transport.only_shows_another(generation);
        is_trusted && (until == i64::MAX || unix_now() < until)
    }
}

/// Why a connection did not come about.
fn of_io(error: &io::Error) -> Failure {
    use rustix::io::Errno;
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    let found = Errno::from_io_error(error);
    if found.is_some_and(|found| ours.contains(&found)) {
        Failure::Ours
    } else {
        Failure::Network
    }
}

fn at_port(address: &Address, port: u16) -> Address {
    match address {
        Address::Pipe(_) => address.clone(), // has no ports
        Address::Socket(address) => {
            let mut address = *address;
            address.set_port(port);
            Address::Socket(address)
        }
    }
}

/// Asks one host, again and again.
#[derive(Debug)]
pub(super) enum Checker {
    Grpc(grpc::Grpc),
    Http(http::Http),
    Tcp(tcp::Tcp),
}

impl Checker {
    pub(super) fn new(peer: Peer) -> Self {
        match peer.plan.config.probe {
            Probe::Grpc(_) => Self::Grpc(grpc::Grpc::new(peer)),
            Probe::Http(_) => Self::Http(http::Http::new(peer)),
            Probe::Tcp(_) => Self::Tcp(tcp::Tcp::new(peer)),
        }
    }

    /// Asks once.
    ///
    /// # Cancel safety
    /// The connection is closed, and the next question makes a new one.
    pub(super) async fn ask(&mut self) -> Outcome {
        let answer = match self {
            Self::Grpc(checker) => checker.ask().await,
            Self::Http(checker) => checker.ask().await,
            Self::Tcp(checker) => checker.ask().await,
        };
        match answer {
            Ok(is_degraded) => Outcome::Good { is_degraded },
            Err(failure) => Outcome::Bad(failure),
        }
    }
}

/// Every one of `wanted` is in `found`, one behind the other.
fn contains(found: &[u8], wanted: &[Vec<u8>]) -> bool {
    let mut rest = found;
    wanted.iter().all(|part| {
        let at = rest
            .windows(part.len().max(1))
            .position(|window| window == part);
        let end = at.map(|at| at + part.len());
        rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        end.is_some() || part.is_empty()
    })
}
