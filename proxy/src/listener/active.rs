//! A listener as it lives.
//!
//! Its sockets stay; what is done with a new connection is swapped. A connection pins the chain it
//! began with, so a change drains only connections of chains that are gone.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::config;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::chain_selector::Choice;
use crate::config::endpoint::Address;
use crate::config::filter_chain::FilterChain;
use crate::downstream::Downstream;
use crate::http::connection_manager::HttpManager;
use crate::listener::balance::Balance;
use crate::listener::budget::Budgets;
use crate::listener::budget::ChainLimit;
use crate::listener::directory::Directory;
use crate::listener::transport::Transport;
use crate::tcp::TcpManager;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::InspectorStats;
use crate::telemetry::stats::ListenerStats;
use crate::telemetry::stats::TlsStats;

/// A bound listener.
#[derive(Debug)]
pub struct ActiveListener {
    /// Never used twice in a process.
    pub id: u64,
    /// Its name.
    pub name: Name,
    /// Where it really listens; at least one.
    pub addresses: Vec<Address>,
    /// The counters of all listener filters.
    pub inspector_stats: InspectorStats,
    /// How many connections it may have.
    pub budgets: Budgets,
    /// All listeners.
    directory: Arc<Directory>,
    is_closed: AtomicBool,
    current: ArcSwap<Chains>,
}

/// What is done with new connections.
#[derive(Debug)]
pub struct Chains {
    /// The configuration it was made from.
    pub config: Arc<config::Listener>,
    /// The listener's counters.
    pub stats: Arc<ListenerStats>,
    /// Which worker takes a connection, if that does not depend on who accepts it.
    pub balance: Option<Arc<Balance>>,
    /// What is written at the end of each connection.
    pub loggers: Arc<Vec<Logger>>,
    /// In the order of the configuration.
    pub chains: Vec<Arc<ActiveChain>>,
    /// Taken if none matches.
    pub default: Option<Arc<ActiveChain>>,
}

/// A filter chain as it lives.
#[derive(Debug)]
pub struct ActiveChain {
    /// Never used twice in a process; what is drained.
    pub id: u64,
    /// The configuration it was made from.
    pub config: Arc<FilterChain>,
    /// What stands between the socket and the filter.
    pub(crate) transport: Transport,
    /// Asked in order, before anything is read.
    pub limits: Vec<ChainLimit>,
    /// Its one filter.
    pub filter: ActiveFilter,
}

/// The terminal filter of a chain as it lives.
#[derive(Debug)]
pub enum ActiveFilter {
    /// HTTP.
    Http(Arc<HttpManager>),
    /// Any stream.
    Tcp(Arc<TcpManager>),
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl ActiveChain {
    /// A new chain; `tls_stats` is asked if it has TLS.
    pub fn new(
        config: Arc<FilterChain>,
        secrets: &Secrets,
        limits: Vec<ChainLimit>,
        filter: ActiveFilter,
        tls_stats: impl FnOnce() -> Arc<TlsStats>,
    ) -> Self {
        Self {
            id: next_id(),
            transport: Transport::new(&config.transport_socket, secrets, tls_stats),
            config,
            limits,
            filter,
        }
    }
}

impl ActiveListener {
    /// A listener whose sockets are bound to `addresses`.
    pub fn new(
        chains: Chains,
        addresses: Vec<Address>,
        inspector_stats: InspectorStats,
        budgets: Budgets,
        directory: Arc<Directory>,
    ) -> Self {
        let name = Arc::clone(&chains.config.name);
        Self {
            id: next_id(),
            name,
            addresses,
            inspector_stats,
            budgets,
            directory,
            is_closed: AtomicBool::new(false),
            current: ArcSwap::from_pointee(chains),
        }
    }

    /// What connections to it ask for, if they were redirected.
    pub fn taken(&self) -> impl Iterator<Item = SocketAddr> {
        let config = Arc::clone(&self.chains().config);
        let options: Vec<bool> = config.all_options().map(|one| one.takes_ipv4).collect();
        let addresses = self.addresses.iter().zip(options);
        addresses
            .flat_map(|(address, takes_ipv4)| {
                let Address::Socket(address) = *address else {
                    return [None, None];
                };
                let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
                [Some(address), takes_ipv4.then_some(ipv4)]
            })
            .flatten()
    }

    /// The listener a redirected connection wanted, if this one hands it over, and it is another.
    pub fn wanted_by(&self, downstream: &Downstream) -> Option<Arc<Self>> {
        if !downstream.found().local_is_restored || !self.chains().config.hands_over {
            return None;
        }
        let other = self.directory.find(downstream.local?)?;
        (other.id != self.id && !other.is_closed()).then_some(other)
    }

    /// Whether it accepts no more, so that connections without a chain yet should not stay.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Says that it accepts no more. Called by `apply`.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// What is done with a connection accepted now.
    pub fn chains(&self) -> Arc<Chains> {
        self.current.load_full()
    }

    /// Changes what is done with connections from now on. Called by `apply`.
    pub fn set_chains(&self, chains: Chains) {
        self.current.store(Arc::new(chains));
    }
}

impl Chains {
    /// The chain for a connection.
    pub fn find(&self, downstream: &Downstream) -> Option<&Arc<ActiveChain>> {
        match self.config.selector.choose(downstream) {
            Choice::Chain(place) => self.chains.get(place),
            Choice::Default => self.default.as_ref(),
            Choice::Nothing => None,
        }
    }

    /// All chains.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ActiveChain>> {
        self.chains.iter().chain(&self.default)
    }
}
