//! One run: proxies, hosts, a clock that jumps from event to event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::host::{Host, Probed, Report, Visit};
use crate::policy::{Ended, Kind, Policy};
use crate::scenario::{Fate, Scenario, WARM_UP, exponential};

/// Between two ticks of the policies.
const TICK: Duration = Duration::from_millis(50);

/// To a host and back, without its distance.
const PROBE: Duration = Duration::from_micros(500);

/// More requests than this waiting at one host is a run nobody needs to finish exactly.
const QUEUE_MAX: usize = 100_000;

/// The oracle sends nothing to hosts slower than this: they would only make requests wait.
const ORACLE_FACTOR_MAX: f64 = 3.5;

/// What came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Microseconds, of requests that did not fail.
    pub(crate) latency: Histogram<u64>,
    pub(crate) failed: u64,
    pub(crate) requests: u64,
    /// Requests of the hosts that change, or else of the first, per second of the run.
    pub(crate) watched: Vec<u64>,
    pub(crate) per_second: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Arrival,
    Probe {
        proxy: usize,
        host: usize,
    },
    Probed {
        proxy: usize,
        host: usize,
        probed: Probed,
    },
    Done {
        request: usize,
    },
    FirstByte {
        request: usize,
    },
    End {
        request: usize,
    },
    Tick,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    proxy: usize,
    host: usize,
    class: usize,
    mean: Duration,
    arrived: Duration,
    visit: Visit,
    report: Report,
}

pub(crate) struct World {
    scenario: Scenario,
    fate: Fate,
    proxies: Vec<Box<dyn Policy>>,
    hosts: Vec<Host>,
    members: usize,
    /// Of the oracle.
    central: VecDeque<usize>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    number: u64,
    arrivals: Rng,
    services: Rng,
    picks: Rng,
    outcome: Outcome,
}

impl World {
    pub(crate) fn new(scenario: Scenario, kind: Kind, seed: u64) -> Self {
        let proxies =
            (0..scenario.proxies).filter_map(|_| kind.balancer(scenario.hosts, scenario.proxies));
        let seconds = usize::try_from(scenario.length.as_secs()).unwrap_or(0) + 1;
        Self {
            scenario,
            fate: Fate::new(scenario, seed),
            proxies: proxies.collect(),
            hosts: (0..scenario.hosts * 2)
                .map(|_| Host::new(scenario.slots))
                .collect(),
            members: scenario.hosts,
            central: VecDeque::new(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            number: 0,
            arrivals: Rng::with_seed(seed),
            services: Rng::with_seed(seed ^ 0x77),
            picks: Rng::with_seed(seed ^ 0x1234),
            outcome: Outcome {
                latency: new_histogram(),
                failed: 0,
                requests: 0,
                watched: vec![0; seconds],
                per_second: vec![0; seconds],
            },
        }
    }

    /// To the end.
    pub(crate) fn run(mut self) -> Outcome {
        self.schedule(Duration::ZERO, Event::Arrival);
        self.schedule(Duration::ZERO, Event::Tick);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > self.scenario.length {
                break;
            }
            match event {
                Event::Arrival => self.arrive(now),
                Event::Probe { proxy, host } => self.probe(proxy, host, now),
                Event::Probed {
                    proxy,
                    host,
                    probed,
                } => self.proxies[proxy].probed(host, probed, now, &mut self.picks),
                Event::Done { request } => self.done(request, now),
                Event::FirstByte { request } => self.first_byte(request, now),
                Event::End { request } => self.end(request),
                Event::Tick => self.tick(now),
            }
        }
        self.count_unanswered();
        self.outcome
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn tick(&mut self, now: Duration) {
        let members = self.fate.hosts(now);
        for proxy in &mut self.proxies {
            if members != self.members {
                proxy.set_hosts(members);
            }
            proxy.tick(now);
        }
        self.members = members;
        self.schedule(now + TICK, Event::Tick);
    }

    fn arrive(&mut self, now: Duration) {
        let gap = exponential(1.0 / self.fate.rate(now), &mut self.arrivals);
        self.schedule(now + Duration::from_secs_f64(gap), Event::Arrival);
        let proxy = self.arrivals.usize(..self.scenario.proxies);
        let (class, mean) = self.fate.class(&mut self.arrivals);
        let request = Request {
            proxy,
            host: 0,
            class,
            mean,
            arrived: now,
            visit: Visit::default(),
            report: Report::default(),
        };
        let number = self.requests.len();
        self.requests.push(request);
        if self.proxies.is_empty() {
            self.central.push_back(number);
            self.feed(now);
            return;
        }
        let host = self.proxies[proxy].pick(now, &mut self.picks);
        self.proxies[proxy].begin(host);
        self.enter(host, number, now);
        self.count_arrival(host, now);
        self.start(host, now);
        for host in self.proxies[proxy].probes(&mut self.picks) {
            let there = now + (PROBE + self.fate.distance(host)) / 2;
            self.schedule(there, Event::Probe { proxy, host });
        }
    }

    fn enter(&mut self, host: usize, request: usize, now: Duration) {
        let met = self.hosts[host].enter(request);
        let told = &mut self.requests[request];
        told.host = host;
        told.visit.met = met;
        told.visit.entered = now;
    }

    fn probe(&mut self, proxy: usize, host: usize, now: Duration) {
        let probed = self.hosts[host].probe(now);
        let back = now + (PROBE + self.fate.distance(host)) / 2;
        let event = Event::Probed {
            proxy,
            host,
            probed,
        };
        self.schedule(back, event);
    }

    fn count_arrival(&mut self, host: usize, now: Duration) {
        let second = usize::try_from(now.as_secs()).unwrap_or(0);
        if let Some(count) = self.outcome.per_second.get_mut(second) {
            *count += 1;
        }
        let is_watched = self.fate.is_watched(host);
        let watched = self.outcome.watched.get_mut(second);
        if let Some(count) = watched.filter(|_| is_watched) {
            *count += 1;
        }
    }

    /// The oracle: whoever waits longest gets the best free place.
    fn feed(&mut self, now: Duration) {
        while !self.central.is_empty() {
            let usable = (0..self.members).filter(|host| {
                let condition = self.fate.condition(*host, now);
                self.hosts[*host].has_place()
                    && !condition.fails
                    && condition.fixed.is_none()
                    && condition.factor < ORACLE_FACTOR_MAX
            });
            let cost = |host: &usize| {
                let factor = self.fate.condition(*host, now).factor;
                Duration::from_secs_f64(0.01 * factor) + self.fate.distance(*host)
            };
            let Some(best) = usable.min_by_key(cost) else {
                return;
            };
            let Some(request) = self.central.pop_front() else {
                return;
            };
            self.enter(best, request, now);
            self.start(best, now);
        }
    }

    /// Whoever waits at a host takes a free place.
    fn start(&mut self, host: usize, now: Duration) {
        while let Some(number) = self.hosts[host].start(now) {
            let condition = self.fate.condition(host, now);
            let mean = self.requests[number].mean.as_secs_f64() * condition.factor;
            let drawn = exponential(mean, &mut self.services);
            let took = condition
                .fixed
                .unwrap_or_else(|| Duration::from_secs_f64(drawn));
            let visit = &mut self.requests[number].visit;
            visit.failed = condition.fails;
            visit.started = now;
            self.schedule(now + took, Event::Done { request: number });
        }
    }

    fn done(&mut self, request: usize, now: Duration) {
        let host = self.requests[request].host;
        self.requests[request].report = self.hosts[host].finish(&self.requests[request].visit, now);
        self.schedule(now + self.fate.distance(host), Event::FirstByte { request });
        if self.proxies.is_empty() {
            self.feed(now);
        } else if self.hosts[host].queue() < QUEUE_MAX {
            self.start(host, now);
        }
    }

    fn first_byte(&mut self, request: usize, now: Duration) {
        let told = self.requests[request];
        let took = now - told.arrived;
        if told.arrived >= WARM_UP {
            self.count(&told, took);
        }
        if let Some(proxy) = self.proxies.get_mut(told.proxy) {
            let ended = Ended {
                host: told.host,
                class: told.class,
                took,
                failed: told.visit.failed,
                report: told.report,
            };
            proxy.first_byte(&ended, now);
            let tail = self.fate.tail(&mut self.arrivals);
            self.schedule(now + tail, Event::End { request });
        }
    }

    fn end(&mut self, request: usize) {
        let told = self.requests[request];
        if let Some(proxy) = self.proxies.get_mut(told.proxy) {
            proxy.end(told.host);
        }
    }

    fn count(&mut self, request: &Request, took: Duration) {
        self.outcome.requests += 1;
        if request.visit.failed {
            self.outcome.failed += 1;
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.outcome.latency.saturating_record(us.max(1));
    }

    /// Requests that still wait have waited at least until now.
    fn count_unanswered(&mut self) {
        let end = self.scenario.length;
        let queues = std::mem::take(&mut self.hosts);
        let waiting = queues.into_iter().flat_map(Host::into_waiting);
        for number in waiting.chain(std::mem::take(&mut self.central)) {
            let request = self.requests[number];
            if request.arrived >= WARM_UP {
                self.count(&request, end - request.arrived);
            }
        }
    }
}

/// From a microsecond to a minute, to three digits.
pub(crate) fn new_histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants: {error}"),
    }
}
