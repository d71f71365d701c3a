//! One run: a fresh proxy process, a load, a window, and what the window cost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bench::load::{Held, Load, LoadError, Pace, Plan, Window};
use bench::process::Process;
use bench::usage::{self, CpuTime, Memory};
use tokio::time::{Instant, sleep};

use super::backdrop::Backdrop;
use super::contestant::{Contestant, Running, Site};
use super::host::Sample;
use super::outcome::{Hole, Run};
use super::scenario::{Scenario, Traffic};

/// How long a proxy may take to its first answer; with 10,000 clusters some need seconds.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Connections of a row about resumption that must be resumed ones; the first has nothing to resume.
const RESUMED_SHARE_MIN: f64 = 0.9;

/// How often a void window is measured again.
const RETRIES: usize = 2;

/// Lengths of the windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Until a process is at rest: some give back what a start needed only after a while.
    pub(crate) rest: Duration,
}

/// Windows of a row at a low rate are so much longer: in a short one a handshake or a timer is
/// divided by few requests.
const PACED_LONGER: u32 = 4;

impl Timing {
    fn of(self, traffic: &Traffic) -> Self {
        let factor = if traffic.rate.is_some() {
            PACED_LONGER
        } else {
            1
        };
        Self {
            warm_up: self.warm_up * factor,
            window: self.window * factor,
            ..self
        }
    }
}

/// A scenario with everything around the proxies, ready for runs.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) backdrop: Backdrop,
    pub(crate) site: Site,
    pub(crate) timing: Timing,
    pub(crate) accept_disturbed: bool,
}

impl<'a> Stage<'a> {
    /// Starts the origin and writes what the configurations name; the proxy will have `core`.
    pub(crate) fn new(
        scenario: &'a Scenario,
        core: usize,
        timing: Timing,
        weir: Option<PathBuf>,
    ) -> Result<Self, String> {
        let backdrop = Backdrop::new(scenario)?;
        let site = Site {
            setup: scenario.setup(),
            origin: backdrop.origin().port(),
            core,
            weir,
            wrapper: Vec::new(),
            values: backdrop.values(scenario),
        };
        Ok(Self {
            scenario,
            backdrop,
            site,
            timing,
            accept_disturbed: false,
        })
    }

    /// Starts a proxy and waits for its first answer; how long that took comes along.
    pub(crate) async fn start(&self, contestant: Contestant) -> Result<(Running, Duration), Hole> {
        self.start_at(contestant, &self.site).await
    }

    /// The same at another site.
    pub(crate) async fn start_at(
        &self,
        contestant: Contestant,
        site: &Site,
    ) -> Result<(Running, Duration), Hole> {
        let began = Instant::now();
        let mut running = Running::spawn(contestant, site)?;
        let target = running.listen.addr();
        loop {
            let Err(error) = self.hold(target, 1).await else {
                return Ok((running, began.elapsed()));
            };
            running.check_started(contestant)?;
            if began.elapsed() > FIRST_ANSWER_LIMIT {
                let output = running.process().output();
                return Err(Hole::failed(format!(
                    "no answer within {FIRST_ANSWER_LIMIT:?}: {error} {output}"
                )));
            }
            // No sleep: the start scenario counts in fractions of a millisecond.
            tokio::task::yield_now().await;
        }
    }

    /// Opens so many connections to `target`, each with one request.
    pub(crate) async fn hold(&self, target: SocketAddr, count: usize) -> Result<Held, LoadError> {
        let (protocol, request) = (self.scenario.protocol(), self.scenario.request());
        let transport = &self.backdrop.transport;
        Held::open(target, protocol, transport, &request, count).await
    }

    /// The generator straight against the origin: the rate it can reach with no proxy between.
    pub(crate) async fn direct(&self, traffic: &Traffic) -> Result<f64, String> {
        // An origin speaks both; the proxy's front protocol is what the generator has to produce.
        let plan = self.plan(traffic, self.backdrop.direct_addr(), Pace::Closed);
        let load = Load::start(plan).await.map_err(|error| error.to_string())?;
        sleep(self.timing.warm_up).await;
        let window = load.window(self.timing.window).await;
        let failure = load.first_failure();
        load.stop().await;
        if window.counters.completed == 0 {
            let why = failure.unwrap_or_else(|| "it is too slow".to_owned());
            return Err(format!(
                "{}: the origin gave no answer within {:?}: {why}",
                self.scenario.name, self.timing.window
            ));
        }
        Ok(window.rate())
    }

    /// One run, repeated while it is disturbed.
    pub(crate) async fn run(
        &self,
        contestant: Contestant,
        traffic: &Traffic,
        pace: Pace,
    ) -> Result<Run, Hole> {
        let mut run = self.run_once(contestant, traffic, pace).await?;
        for _ in 0..RETRIES {
            if !run.disturbed || self.accept_disturbed {
                break;
            }
            run = self.run_once(contestant, traffic, pace).await?;
        }
        Ok(run)
    }

    async fn run_once(
        &self,
        contestant: Contestant,
        traffic: &Traffic,
        pace: Pace,
    ) -> Result<Run, Hole> {
        let (mut running, _) = self.start(contestant).await?;
        self.window(&mut running, traffic, pace).await
    }

    /// One window of a proxy that runs.
    pub(crate) async fn window(
        &self,
        running: &mut Running,
        traffic: &Traffic,
        pace: Pace,
    ) -> Result<Run, Hole> {
        let timing = self.timing.of(traffic);
        let plan = self.plan(traffic, running.listen.addr(), pace);
        let mut load = Load::start(plan).await.map_err(Hole::failed)?;
        sleep(timing.warm_up).await;
        let before = Readings::take(running.process())?;
        let window = load.window(timing.window).await;
        let after = Readings::take(running.process())?;
        running.process().check_running().map_err(Hole::failed)?;
        let broken = window.counters.failed + window.counters.refused;
        if broken > 0 || window.counters.completed == 0 || !load.is_running() {
            let why = load
                .first_failure()
                .unwrap_or_else(|| "no answers at all".to_owned());
            return Err(Hole::failed(format!(
                "{broken} of its requests failed: {why}"
            )));
        }
        self.check_resumed(traffic, &window)?;
        load.stop().await;
        Ok(assess(&window, &before, &after))
    }

    /// A row about resumed sessions says nothing when they are not resumed.
    fn check_resumed(&self, traffic: &Traffic, window: &Window) -> Result<(), Hole> {
        let opened = window.counters.connections.max(1) as f64;
        let share = window.counters.resumed as f64 / opened;
        if traffic.resume && share < RESUMED_SHARE_MIN {
            let reason = format!("resumed only {:.0} % of its sessions", share * 1e2);
            return Err(Hole::failed(reason));
        }
        Ok(())
    }

    fn plan(&self, traffic: &Traffic, target: SocketAddr, pace: Pace) -> Plan {
        Plan {
            target,
            protocol: traffic.protocol,
            transport: self.backdrop.transport.clone(),
            request: self.scenario.request(),
            connections: traffic.connections,
            pace,
        }
    }
}

/// The clocks at one end of a window.
#[derive(Clone, Copy, Debug)]
struct Readings {
    host: Sample,
    cpu: CpuTime,
    /// Of this thread: generator and origin.
    generator: Duration,
    memory: Memory,
    at: Instant,
}

impl Readings {
    fn take(process: &Process) -> Result<Self, Hole> {
        let read = || -> std::io::Result<Self> {
            Ok(Self {
                memory: process.memory()?,
                host: Sample::take()?,
                cpu: process.cpu_time()?,
                generator: usage::thread_cpu_time()?,
                at: Instant::now(),
            })
        };
        read().map_err(|error| Hole::failed(format!("it cannot be observed: {error}")))
    }
}

fn assess(window: &Window, before: &Readings, after: &Readings) -> Run {
    let spent = after.cpu.since(&before.cpu);
    let length = after.at.duration_since(before.at);
    let requests = window.counters.completed;
    let cpu_us = spent.total.as_secs_f64() * 1e6 / requests as f64;
    let user_us = cpu_us * spent.user_share();
    let disturbance = before.host.until(&after.host);
    Run {
        requests,
        requests_per_second: window.rate(),
        cpu_us,
        user_us,
        system_us: cpu_us - user_us,
        busy: spent.total.as_secs_f64() / length.as_secs_f64(),
        generator_busy: (after.generator - before.generator).as_secs_f64() / length.as_secs_f64(),
        p50_us: window.latency_us(0.5),
        p99_us: window.latency_us(0.99),
        p999_us: window.latency_us(0.999),
        rss_bytes: after.memory.rss,
        disturbance,
        disturbed: disturbance.is_void(),
    }
}
