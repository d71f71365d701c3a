//! A data-plane worker: one thread, one runtime, its own sockets, pools and drain signals.
//!
//! It is told what to do over a bounded queue by the control side and never waits for it. State is
//! `!Send` on purpose: nothing on the data path takes a lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::config::limits;
use crate::drain::DrainGuard;
use crate::drain::DrainSignal;
use crate::listener::ActiveChain;
use crate::listener::ActiveListener;
use crate::listener::acceptor;
use crate::listener::balance::Handed;
use crate::listener::peers;
use crate::listener::peers::Peers;
use crate::net::BoundSocket;
use crate::overload::Loads;
use crate::overload::held;
use crate::overload::held::Order;
use crate::overload::watchdog::Beat;
use crate::telemetry::stats::worker;
use crate::timer::waits;
use crate::upstream::pool::Pools;
use crate::upstream::transport::Transport;

/// Commands waiting for a worker. One is sent per changed listener; when a push changes more than
/// this, the control side waits.
const COMMANDS_MAX: usize = 256;

/// How often idle connections are looked over and logs are flushed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What the control side asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Every connection finishes what runs; new ones are still accepted, for one answer.
    AskAll,
    /// Connections of these chains finish what runs and close.
    DrainChains(Vec<u64>),
    /// Accept on this socket.
    Listen(Arc<ActiveListener>, BoundSocket),
    /// Accept no more anywhere, drain every connection; the answer comes when all are gone that came
    /// before, and whoever accepts. Others may have handed connections over meanwhile.
    DrainAll(oneshot::Sender<()>),
    /// Hosts may have left: their idle connections go.
    FollowHosts,
    /// A connection that another worker accepted.
    Serve(Handed),
    /// Timeouts have changed.
    Retime,
    /// Give back what memory is not needed.
    Shrink,
    /// Streams that hold much are given up.
    ResetStreams(Order),
    /// Accept no more on the listener with this id; its socket is closed.
    StopListening(u64),
    /// Who can say goodbye says it: the rest is cut in a moment.
    SayGoodbye,
    /// Whom this chain trusts has changed: its clients are verified again.
    VerifyAgain(Arc<ActiveChain>),
    /// Whom this transport trusts has changed: the servers over it are verified again.
    VerifyServers(Arc<Transport>),
}

/// What the tasks of one worker share.
#[derive(Debug)]
pub struct WorkerContext {
    /// Upstream connections.
    pub pools: Pools,
    /// Clients over TLS.
    pub peers: Peers,
    all: DrainSignal,
    /// Asks those to say goodbye that can.
    goodbye: DrainSignal,
    chains: RefCell<HashMap<u64, DrainSignal>>,
    options: WorkerOptions,
}

/// What all workers have in common.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Connections that are asked to go are cut after it.
    pub drain_time: Duration,
    /// What is done because of overload.
    pub loads: Arc<Loads>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            drain_time: limits::DRAIN_TIME,
            loads: Arc::default(),
        }
    }
}

impl Default for WorkerContext {
    fn default() -> Self {
        Self::new(WorkerOptions::default())
    }
}

impl WorkerContext {
    /// Nothing runs yet.
    pub fn new(options: WorkerOptions) -> Self {
        Self {
            pools: Pools::new(options.drain_time, Arc::clone(&options.loads)),
            peers: Peers::new(options.drain_time),
            all: DrainSignal::default(),
            goodbye: DrainSignal::default(),
            chains: RefCell::default(),
            options,
        }
    }

    /// How long a connection that is asked to go may take.
    pub fn drain_time(&self) -> Duration {
        self.options.drain_time
    }

    /// What is done because of overload.
    pub fn loads(&self) -> &Loads {
        &self.options.loads
    }

    /// The same, to be kept.
    pub fn shared_loads(&self) -> &Arc<Loads> {
        &self.options.loads
    }

    /// Gives back what memory it can.
    fn shrink(&self) {
        self.pools.close_idle();
        crate::memory::collect();
    }

    /// Holds a place among the connections of a chain; of its own if the chain is stopping. `all` is the
    /// one among the connections of the worker.
    pub fn drain_guard(&self, chain: u64, all: DrainGuard, is_stopping: bool) -> ConnectionGuard {
        let signal = if is_stopping {
            DrainSignal::default()
        } else {
            self.chains.borrow_mut().entry(chain).or_default().clone()
        };
        if is_stopping || all.is_draining() {
            signal.start();
        }
        ConnectionGuard {
            chain: signal.guard(),
            _all: all,
        }
    }

    /// Holds a place among the connections of the worker, from the moment there is one.
    pub fn guard(&self) -> DrainGuard {
        self.all.guard()
    }

    /// Asks to say goodbye before all connections are cut.
    pub fn last_word(&self) -> DrainGuard {
        self.goodbye.guard()
    }

    fn drain_chains(&self, ids: &[u64]) {
        for id in ids {
            if let Some(signal) = self.chains.borrow_mut().remove(id) {
                signal.start();
            }
            self.peers.drain_chain(*id);
        }
    }

    fn drain_all(&self) {
        self.all.start();
        self.peers.drain_all();
        self.chains.borrow().values().for_each(DrainSignal::start);
    }

    fn housekeep(&self, now: Instant) {
        self.pools.housekeep(now);
        self.peers.housekeep();
        self.chains
            .borrow_mut()
            .retain(|_, signal| signal.alive() > 0);
        held::weigh();
        crate::telemetry::access_log::flush_aged(now);
    }
}

/// A connection's place in the drain of its chain and of the worker.
#[derive(Debug)]
pub struct ConnectionGuard {
    /// Asks the connection to finish.
    pub chain: DrainGuard,
    _all: DrainGuard,
}

/// The control side's end of a worker.
#[derive(Debug)]
pub struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
    beat: Arc<Beat>,
}

impl WorkerHandle {
    /// Starts worker `index` on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime could not be made.
    pub fn start(index: usize, options: WorkerOptions) -> io::Result<Self> {
        let beat = Arc::<Beat>::default();
        let its = Arc::clone(&beat);
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let thread = std::thread::Builder::new()
            .name(format!("weir-worker-{index}"))
            .spawn(move || {
                let mut runtime = runtime;
                worker::enter(index);
                match runtime
                    .enable_all()
                    .build_local(tokio::runtime::LocalOptions::default())
                {
                    Ok(runtime) => runtime.block_on(run(inbox, options, &its)),
                    Err(error) => tracing::error!(%error, index, "a worker has no runtime"),
                }
                crate::telemetry::access_log::flush_all();
            })?;
        Ok(Self {
            commands,
            thread: Some(thread),
            beat,
        })
    }

    /// Its sign of life.
    pub fn beat(&self) -> Arc<Beat> {
        Arc::clone(&self.beat)
    }

    /// Where commands are sent to, as long as this is there.
    pub fn inbox(&self) -> mpsc::WeakSender<Command> {
        self.commands.downgrade()
    }

    /// Sends a command; waits if the worker has many to do already. A worker that is gone ignores it.
    pub async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::error!("a worker is gone");
        }
    }

    /// Ends the worker; connections still open are dropped.
    pub fn stop(mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        drop(self);
        if thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

async fn run(mut inbox: mpsc::Receiver<Command>, options: WorkerOptions, beat: &Beat) {
    let context = Rc::new(WorkerContext::new(options));
    let mut acceptors: HashMap<u64, Vec<oneshot::Sender<()>>> = HashMap::new();
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(command) => obey(command, &context, &mut acceptors),
                None => return,
            },
            () = context.pools.cut_due() => context.pools.cut(Instant::now()),
            now = tick.tick() => {
                beat.give();
                context.housekeep(now);
            }
            () = context.pools.asked() => context.pools.give_up(),
        }
    }
}

fn obey(
    command: Command,
    context: &Rc<WorkerContext>,
    acceptors: &mut HashMap<u64, Vec<oneshot::Sender<()>>>,
) {
    match command {
        Command::AskAll => context.drain_all(),
        Command::DrainChains(ids) => context.drain_chains(&ids),
        Command::Listen(listener, socket) => match socket.into_acceptor() {
            Ok(acceptor) => {
                let (stop, stopped) = oneshot::channel();
                acceptors.entry(listener.id).or_default().push(stop);
                let accepting = acceptor::run(Rc::clone(context), listener, acceptor, stopped);
                tokio::task::spawn_local(accepting);
            }
            Err(error) => tracing::error!(listener = %listener.name, %error, "cannot accept"),
        },
        Command::DrainAll(done) => {
            acceptors.clear(); // each stops, and serves what waits on its socket
            context.drain_all();
            let context = Rc::clone(context);
            tokio::task::spawn_local(async move {
                context.all.drained().await;
                let _ = done.send(()); // whoever asked may have lost patience
            });
        }
        Command::FollowHosts => context.pools.follow_hosts(),
        Command::SayGoodbye => context.goodbye.start(),
        Command::ResetStreams(order) => held::reset(&order),
        Command::Retime => waits::wake_all(),
        Command::Serve(handed) => handed.spawn(context),
        Command::Shrink => context.shrink(),
        Command::VerifyAgain(chain) => {
            tokio::task::spawn_local(peers::verify_again(Rc::clone(context), chain));
        }
        Command::VerifyServers(transport) => {
            let servers = context.pools.servers.clone();
            tokio::task::spawn_local(servers.verify_again(transport));
        }
        Command::StopListening(id) => {
            acceptors.remove(&id); // all stop, and serve what waits on their sockets
        }
    }
}
