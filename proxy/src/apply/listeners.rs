//! Bound listeners: only a change of address opens new sockets, only connections of chains that are
//! gone are drained.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::WeakSender;

use crate::apply::ApplyError;
use crate::apply::clusters::Clusters;
use crate::apply::routes::LiveTable;
use crate::apply::routes::Tables;
use crate::config;
use crate::config::ConnectionLimits;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::Snapshot;
use crate::config::access_log::AccessLog;
use crate::config::endpoint::Address;
use crate::config::filter_chain::Allowance;
use crate::config::filter_chain::FilterChain;
use crate::config::filter_chain::NetworkFilter;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::RouteSource;
use crate::http::connection_manager::HttpManager;
use crate::listener::ActiveChain;
use crate::listener::ActiveFilter;
use crate::listener::ActiveListener;
use crate::listener::active::Chains;
use crate::listener::balance::Balance;
use crate::listener::budget::Budget;
use crate::listener::budget::Budgets;
use crate::listener::budget::ChainLimit;
use crate::listener::directory::Directory;
use crate::net::BoundSocket;
use crate::net::How;
use crate::tcp::TcpManager;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::Registry;
use crate::telemetry::stats::TlsStats;
use crate::worker::Command;

/// Bound listeners by name.
#[derive(Debug)]
pub(super) struct Listeners {
    registry: Arc<Registry>,
    logs: Arc<AccessLogWriter>,
    limits: ConnectionLimits,
    process: Arc<Budget>,
    secrets: Arc<Secrets>,
    /// The inboxes of all workers.
    workers: Vec<WeakSender<Command>>,
    directory: Arc<Directory>,
    live: BTreeMap<Name, Live>,
}

#[derive(Debug)]
struct Live {
    active: Arc<ActiveListener>,
    /// As configured when its sockets were bound.
    bound: Arc<config::Listener>,
    /// Tables that are part of the listener, by chain id.
    inline: HashMap<u64, (Arc<config::RouteConfig>, LiveTable)>,
}

/// What the workers must do, and what could not be done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) commands: BTreeMap<usize, Vec<Command>>,
    pub(super) errors: Vec<ApplyError>,
}

impl Outcome {
    fn tell_all(&mut self, workers: usize, command: impl Fn() -> Command) {
        for worker in 0..workers {
            self.commands.entry(worker).or_default().push(command());
        }
    }
}

impl Listeners {
    pub(super) fn new(
        registry: Arc<Registry>,
        logs: Arc<AccessLogWriter>,
        limits: ConnectionLimits,
        workers: Vec<WeakSender<Command>>,
    ) -> Self {
        Self {
            registry,
            logs,
            process: Arc::new(Budget::new(limits.process)),
            limits,
            secrets: Arc::default(),
            workers,
            directory: Arc::default(),
            live: BTreeMap::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ActiveListener>> {
        self.live.values().map(|live| &live.active)
    }

    /// Makes the listeners of `snapshot` live and ends the others.
    pub(super) fn update(
        &mut self,
        snapshot: &Snapshot,
        tables: &Tables,
        clusters: &Clusters,
        workers: usize,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        self.remove(snapshot, workers, &mut outcome);
        for chain in self.set_secrets(&snapshot.secrets) {
            outcome.tell_all(workers, || Command::VerifyAgain(Arc::clone(&chain)));
        }
        for (name, config) in &snapshot.listeners {
            let moved = self
                .live
                .get(name)
                .is_some_and(|live| live.bound.binding() != config.binding());
            match self.live.get_mut(name) {
                Some(live) if !moved => {
                    live.refresh(clusters);
                    if !Arc::ptr_eq(&live.active.chains().config, config) {
                        let active = Arc::clone(&live.active);
                        let whose = (active.addresses.first(), active.chains().balance.clone());
                        let made = self.make_chains(config, tables, clusters, whose);
                        self.swap(name, made, workers, &mut outcome);
                    }
                }
                Some(_) | None => {
                    self.open(name, config, (tables, clusters), workers, &mut outcome);
                }
            }
        }
        self.directory.set(self.iter());
        let stats = self.registry.listener_manager();
        stats.total_listeners_active().set_count(self.live.len());
        outcome
    }

    /// Handshakes of all listeners use these secrets from now on. Returns the chains that trust others
    /// now.
    pub(super) fn set_secrets(&mut self, secrets: &Arc<Secrets>) -> Vec<Arc<ActiveChain>> {
        self.secrets = Arc::clone(secrets);
        let mut trusting = Vec::new();
        for live in self.live.values() {
            let chains = live.active.chains();
            let changed = chains
                .all()
                .filter(|chain| chain.transport.refresh(secrets));
            trusting.extend(changed.cloned());
        }
        trusting
    }

    fn open(
        &mut self,
        name: &Name,
        config: &Arc<config::Listener>,
        (tables, clusters): (&Tables, &Clusters),
        workers: usize,
        outcome: &mut Outcome,
    ) {
        let bound = match &config.address {
            address if !config.binds && self.directory.is_taken(address, name) => {
                Err((address.clone(), io::ErrorKind::AddrInUse.into()))
            }
            _ => bind(config, workers),
        };
        let (sockets, addresses) = match bound {
            Ok(bound) => bound,
            Err((address, source)) => {
                let stats = self.registry.listener_manager();
                stats.listener_create_failure().inc();
                outcome.errors.push(ApplyError::Bind {
                    listener: name.to_string(),
                    address: format!("{address:?}"),
                    source,
                });
                return;
            }
        };
        let whose = (addresses.first(), None);
        let (chains, inline) = self.make_chains(config, tables, clusters, whose);
        let inspectors = self.registry.inspectors().clone();
        let budgets = Budgets {
            listener: Arc::new(Budget::new(self.limits.listener(name))),
            process: Arc::clone(&self.process),
            held: Arc::default(),
        };
        let directory = Arc::clone(&self.directory);
        let active = ActiveListener::new(chains, addresses, inspectors, budgets, directory);
        let active = Arc::new(active);
        for (worker, socket) in sockets {
            outcome
                .commands
                .entry(worker)
                .or_default()
                .push(Command::Listen(Arc::clone(&active), socket));
        }
        let live = Live {
            active,
            bound: Arc::clone(config),
            inline,
        };

        if let Some(old) = self.live.insert(Arc::clone(name), live) {
            end(&old, workers, outcome);
            self.registry.listener_manager().listener_modified().inc();
        } else {
            self.registry.listener_manager().listener_added().inc();
        }
        self.registry
            .listener_manager()
            .listener_create_success()
            .inc();
        if !config.binds {
            self.directory.set(self.iter()); // the system looks after those that have some
        }
    }

    fn swap(
        &mut self,
        name: &Name,
        (mut chains, mut inline): Made,
        workers: usize,
        outcome: &mut Outcome,
    ) {
        let Some(live) = self.live.get_mut(name) else {
            return;
        };
        let old = live.active.chains();
        keep_unchanged(&old, &mut chains, &mut live.inline, &mut inline);
        let kept: Vec<u64> = chains.all().map(|chain| chain.id).collect();
        let gone: Vec<u64> = old
            .all()
            .map(|chain| chain.id)
            .filter(|id| !kept.contains(id))
            .collect();
        live.active.set_chains(chains);
        live.inline = inline;
        if !gone.is_empty() {
            outcome.tell_all(workers, || Command::DrainChains(gone.clone()));
        }
        self.registry
            .listener_manager()
            .listener_in_place_updated()
            .inc();
    }

    fn remove(&mut self, snapshot: &Snapshot, workers: usize, outcome: &mut Outcome) {
        let gone: Vec<Name> = self
            .live
            .keys()
            .filter(|name| !snapshot.listeners.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(live) = self.live.remove(&name) {
                end(&live, workers, outcome);
                self.registry.listener_manager().listener_removed().inc();
            }
        }
    }

    fn make_chains(
        &self,
        config: &Arc<config::Listener>,
        tables: &Tables,
        clusters: &Clusters,
        (address, balance): (Option<&Address>, Option<Arc<Balance>>),
    ) -> Made {
        let name = &config.name;
        let mut inline = HashMap::new();
        let tls_stats = || self.registry.listener_tls(&stat_name(config, address));
        let mut make = |chain: &Arc<FilterChain>| match &chain.filter {
            NetworkFilter::HttpConnectionManager(http) => {
                let (routes, own) = match &http.routes {
                    RouteSource::Inline(routes) => {
                        let table = LiveTable::new(routes, clusters);
                        (table.handle.clone(), Some((Arc::clone(routes), table)))
                    }
                    RouteSource::Rds(name) => (tables.handle(name), None),
                };
                let manager = self.make_manager(http, routes, (name, chain.allowance));
                let filter = ActiveFilter::Http(Arc::new(manager));
                let chain = Arc::new(self.make_chain(chain, filter, tls_stats));
                if let Some(own) = own {
                    inline.insert(chain.id, own);
                }
                chain
            }
            NetworkFilter::TcpProxy(proxy) => {
                let resolve = |name: &Name| clusters.get(name).cloned();
                let stats = self.registry.tcp(&proxy.stat_prefix);
                let loggers = self.loggers(&proxy.access_logs, name);
                let manager = TcpManager::new(
                    Arc::clone(proxy),
                    resolve,
                    (stats, loggers),
                    chain.allowance,
                );
                let filter = ActiveFilter::Tcp(Arc::new(manager));
                Arc::new(self.make_chain(chain, filter, tls_stats))
            }
        };
        let balance = balance.or_else(|| Some(Arc::new(Balance::new(&self.workers))));
        let chains = Chains {
            config: Arc::clone(config),
            stats: self.registry.listener(&stat_name(config, address)),
            balance: balance.filter(|_| config.balances_exactly),
            loggers: Arc::new(self.loggers(&config.access_logs, name)),
            chains: config.filter_chains.iter().map(&mut make).collect(),
            default: config.default_filter_chain.as_ref().map(&mut make),
        };
        (chains, inline)
    }

    fn make_chain(
        &self,
        chain: &Arc<FilterChain>,
        filter: ActiveFilter,
        tls_stats: impl FnOnce() -> Arc<TlsStats>,
    ) -> ActiveChain {
        let limits = chain.connection_limits.iter().map(|limit| {
            let stats = self.registry.connection_limit(&limit.stat_prefix);
            ChainLimit::new(limit, stats)
        });
        let limits = limits.collect();
        ActiveChain::new(Arc::clone(chain), &self.secrets, limits, filter, tls_stats)
    }

    fn make_manager(
        &self,
        http: &Arc<HttpConnectionManager>,
        routes: crate::http::connection_manager::RouteHandle,
        (listener, allowance): (&Name, Allowance),
    ) -> HttpManager {
        let stats = self.registry.http(&http.stat_prefix);
        let loggers = self.loggers(&http.access_logs, listener);
        HttpManager::new(Arc::clone(http), routes, (stats, loggers), allowance)
    }

    /// Those that can be opened.
    fn loggers(&self, logs: &[AccessLog], listener: &Name) -> Vec<Logger> {
        let open = logs.iter().map(|log| self.logs.logger(log));
        open.filter_map(|logger| {
            logger
                .inspect_err(
                    |error| tracing::error!(%listener, %error, "an access log cannot be opened"),
                )
                .ok()
        })
        .collect()
    }
}

type Made = (Chains, HashMap<u64, (Arc<config::RouteConfig>, LiveTable)>);

/// Chains that are configured as before stay themselves, with their connections.
fn keep_unchanged(
    old: &Chains,
    new: &mut Chains,
    old_inline: &mut HashMap<u64, (Arc<config::RouteConfig>, LiveTable)>,
    new_inline: &mut HashMap<u64, (Arc<config::RouteConfig>, LiveTable)>,
) {
    let mut candidates: Vec<&Arc<ActiveChain>> = old.all().collect();
    for chain in new.chains.iter_mut().chain(&mut new.default) {
        let Some(place) = candidates.iter().position(|old| old.config == chain.config) else {
            continue;
        };
        let kept = candidates.swap_remove(place);
        new_inline.remove(&chain.id);
        if let Some(own) = old_inline.remove(&kept.id) {
            new_inline.insert(kept.id, own);
        }
        *chain = Arc::clone(kept);
    }
}

impl Live {
    /// Tables and TCP proxies of the listener itself follow clusters that came or went.
    fn refresh(&mut self, clusters: &Clusters) {
        for (config, table) in self.inline.values_mut() {
            table.update(config, clusters);
        }
        for chain in self.active.chains().all() {
            if let ActiveFilter::Tcp(manager) = &chain.filter {
                manager.resolve_again(|name| clusters.get(name).cloned());
            }
        }
    }
}

fn end(live: &Live, workers: usize, outcome: &mut Outcome) {
    let chains: Vec<u64> = live.active.chains().all().map(|chain| chain.id).collect();
    let id = live.active.id;
    live.active.close();
    outcome.tell_all(workers, || Command::StopListening(id));
    outcome.tell_all(workers, || Command::DrainChains(chains.clone()));
}

/// Sockets with the worker each is for, and where they are bound.
type Bound = (Vec<(usize, BoundSocket)>, Vec<Address>);

/// Binds all addresses, or none; none either of a listener without sockets.
fn bind(config: &config::Listener, workers: usize) -> Result<Bound, (Address, io::Error)> {
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for (address, options) in config.binding().0 {
        if !config.binds {
            addresses.push(address.clone());
            continue;
        }
        let how = How {
            backlog: config.backlog,
            reuse_port: config.reuse_port,
            options,
        };
        let (bound, real) = BoundSocket::bind_all(address, how, workers)
            .map_err(|error| (address.clone(), error))?;
        sockets.extend(bound.into_iter().enumerate());
        addresses.push(real);
    }
    Ok((sockets, addresses))
}

/// Envoy's name for a listener in statistics: its first address, with `_` for the colon, unless it has
/// another.
fn stat_name(config: &config::Listener, address: Option<&Address>) -> String {
    if !config.stat_prefix.is_empty() {
        return config.stat_prefix.to_string();
    }
    match address {
        None => String::new(),
        Some(Address::Pipe(path)) => path.to_string_lossy().into_owned(),
        Some(Address::Socket(address)) => format!("{}_{}", address.ip(), address.port()),
    }
}
