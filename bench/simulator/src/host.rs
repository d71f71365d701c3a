//! One host: places, a queue, and what it says of itself to those who ask.

use std::collections::VecDeque;
use std::time::Duration;

/// Over which a host measures its own load.
const WINDOW: Duration = Duration::from_secs(1);

/// Latencies older than this say nothing about now.
const RECENT: Duration = Duration::from_secs(10);

/// Latencies kept for each number of requests in flight.
const RECENT_MAX: usize = 16;

/// Numbers in flight that are told apart.
const FLIGHTS: usize = 64;

/// What a host measured of itself over its last window (`OrcaLoadReport`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Requests per second.
    pub(crate) qps: f64,
    /// Failures per second.
    pub(crate) eps: f64,
    /// Of all places, 0 to 1.
    pub(crate) utilization: f64,
}

/// What comes with an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Requests the host has when it answers, without this one.
    pub(crate) in_flight: usize,
    /// How long it worked on this one.
    pub(crate) service: Duration,
    /// None before the first window is over.
    pub(crate) load: Option<Load>,
}

/// What a probe is answered with.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Probed {
    pub(crate) in_flight: usize,
    /// Median of recent requests that met about as many others; none if there was no such request.
    pub(crate) latency: Option<Duration>,
}

/// A request as its host sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visit {
    /// Requests that were there before it.
    pub(crate) met: usize,
    pub(crate) entered: Duration,
    pub(crate) started: Duration,
    pub(crate) failed: bool,
}

#[derive(Debug)]
pub(crate) struct Host {
    slots: usize,
    busy: usize,
    waiting: VecDeque<usize>,
    meter: Meter,
    recent: Vec<VecDeque<(Duration, Duration)>>,
}

/// Sums of the window that is not over yet.
#[derive(Debug, Default)]
struct Meter {
    since: Duration,
    at: Duration,
    busy_seconds: f64,
    done: f64,
    failed: f64,
    last: Option<Load>,
}

impl Host {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            busy: 0,
            waiting: VecDeque::new(),
            meter: Meter::default(),
            recent: vec![VecDeque::new(); FLIGHTS],
        }
    }

    pub(crate) fn has_place(&self) -> bool {
        self.busy < self.slots
    }

    pub(crate) fn queue(&self) -> usize {
        self.waiting.len()
    }

    fn in_flight(&self) -> usize {
        self.busy + self.waiting.len()
    }

    /// A request comes in; how many it meets.
    pub(crate) fn enter(&mut self, request: usize) -> usize {
        self.waiting.push_back(request);
        self.in_flight() - 1
    }

    /// Who takes a free place.
    pub(crate) fn start(&mut self, now: Duration) -> Option<usize> {
        if !self.has_place() {
            return None;
        }
        let request = self.waiting.pop_front()?;
        self.meter.advance(now, self.busy, self.slots);
        self.busy += 1;
        Some(request)
    }

    /// A request is done.
    pub(crate) fn finish(&mut self, visit: &Visit, now: Duration) -> Report {
        self.meter.done += 1.0;
        self.meter.failed += f64::from(u8::from(visit.failed));
        self.meter.advance(now, self.busy, self.slots);
        self.busy -= 1;
        let recent = &mut self.recent[visit.met.min(FLIGHTS - 1)];
        recent.push_back((now, now - visit.entered));
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
        Report {
            in_flight: self.in_flight(),
            service: now - visit.started,
            load: self.meter.last,
        }
    }

    pub(crate) fn probe(&self, now: Duration) -> Probed {
        let in_flight = self.in_flight();
        let here = in_flight.min(FLIGHTS - 1);
        let fresh = |place: usize| {
            let recent = self.recent.get(place).into_iter().flatten();
            recent.filter(move |(at, _)| now.saturating_sub(*at) < RECENT)
        };
        let latency = (0..FLIGHTS).find_map(|distance| {
            let above = fresh(here + distance);
            let below = here.checked_sub(distance).filter(|_| distance > 0);
            let both = above.chain(below.into_iter().flat_map(fresh));
            let mut found: Vec<Duration> = both.map(|(_, took)| *took).collect();
            found.sort_unstable();
            found.get(found.len() / 2).copied()
        });
        Probed { in_flight, latency }
    }

    /// Who still waits when everything is over.
    pub(crate) fn into_waiting(self) -> VecDeque<usize> {
        self.waiting
    }
}

impl Meter {
    /// So many places were busy since the last time.
    fn advance(&mut self, now: Duration, busy: usize, slots: usize) {
        self.busy_seconds += busy as f64 * (now - self.at).as_secs_f64();
        self.at = now;
        let passed = now - self.since;
        if passed < WINDOW {
            return;
        }
        let seconds = passed.as_secs_f64();
        self.last = Some(Load {
            qps: self.done / seconds,
            eps: self.failed / seconds,
            utilization: self.busy_seconds / (seconds * slots as f64),
        });
        (self.since, self.busy_seconds) = (now, 0.0);
        (self.done, self.failed) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One request that takes so long.
    fn serve(host: &mut Host, at: Duration, took: Duration, failed: bool) -> Report {
        let met = host.enter(0);
        assert_eq!(host.start(at), Some(0));
        let visit = Visit {
            met,
            entered: at,
            started: at,
            failed,
        };
        host.finish(&visit, at + took)
    }

    #[test]
    fn a_host_reports_what_its_last_window_was_like() {
        let mut host = Host::new(4);
        for second in 0..10 {
            serve(&mut host, MS * second * 100, MS * 100, second % 5 == 0);
        }
        let report = serve(&mut host, MS * 1000, MS, false);
        // Ten in a second, two failed, one of four places busy all the time.
        let load = report.load.expect("the window is over");
        assert!((load.qps - 10.0).abs() < 1e-9, "{load:?}");
        assert!((load.eps - 2.0).abs() < 1e-9, "{load:?}");
        assert!((load.utilization - 0.25).abs() < 1e-9, "{load:?}");
        assert_eq!((report.in_flight, report.service), (0, MS));
    }

    #[test]
    fn a_probe_tells_the_median_of_requests_that_met_as_many() {
        let mut host = Host::new(1);
        assert_eq!(host.probe(MS).latency, None);
        for (turn, took) in [(1, 5), (2, 1), (3, 9)] {
            serve(&mut host, MS * 20 * turn, MS * took, false);
        }
        host.enter(7);
        // Nothing is known of requests that met one: the nearest is what is known of those that met none.
        let probed = host.probe(MS * 200);
        assert_eq!((probed.in_flight, probed.latency), (1, Some(MS * 5)));
        let late = host.probe(MS * 200 + RECENT);
        assert_eq!(late.latency, None);
    }
}
