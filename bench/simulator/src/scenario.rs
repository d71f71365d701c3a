//! What happens to whom: S1 to S11 of the project's performance notes. Ten hosts with four places each,
//! 10 ms of exponential service, two proxies, unless a scenario says otherwise.

use std::time::Duration;

use fastrand::Rng;

/// Of a request, before its host's factor.
pub(crate) const SERVICE: Duration = Duration::from_millis(10);

/// Nothing is counted before: policies have met their hosts.
pub(crate) const WARM_UP: Duration = Duration::from_secs(10);

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) hosts: usize,
    pub(crate) slots: usize,
    pub(crate) proxies: usize,
    /// Of all places of the healthy hosts.
    pub(crate) load: f64,
    pub(crate) length: Duration,
    pub(crate) story: Story,
}

/// What is not as usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Story {
    Nothing,
    /// The first host is so many times slower, from 20 s to 50 s.
    Slow(f64),
    /// The first host takes 2 s for everything, from 20 s to 50 s.
    Stall,
    /// Every host is now and then two or three times slower, for some seconds.
    Antagonists,
    /// One request of ten takes 91 ms, the others 1 ms, on routes of their own.
    Bimodal,
    /// The first host fails in 0.1 ms.
    FailsFast,
    /// A third more hosts from 20 s on, ten times slower for 30 s.
    ColdStart,
    /// A third of the hosts is 1 ms away, a third 30 ms.
    Zones,
    /// Half more load for a second, a quarter less for two.
    Bursts,
    /// One request of fifty goes on for 5 s after its first byte, without using a place.
    Streams,
}

const BASE: Scenario = Scenario {
    name: "",
    title: "",
    hosts: 10,
    slots: 4,
    proxies: 2,
    load: 0.8,
    length: Duration::from_secs(60),
    story: Story::Nothing,
};

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S1-50",
        title: "equal hosts, load 0.5",
        load: 0.5,
        ..BASE
    },
    Scenario {
        name: "S1-80",
        title: "equal hosts, load 0.8",
        ..BASE
    },
    Scenario {
        name: "S1-95",
        title: "equal hosts, load 0.95",
        load: 0.95,
        ..BASE
    },
    Scenario {
        name: "S2",
        title: "one of 10 is 10x slower for 30 s",
        load: 0.7,
        story: Story::Slow(10.0),
        ..BASE
    },
    Scenario {
        name: "S3",
        title: "one of 11 takes 2 s for 30 s",
        hosts: 11,
        load: 0.7,
        story: Story::Stall,
        ..BASE
    },
    Scenario {
        name: "S4",
        title: "hosts that slow down now and then",
        load: 0.6,
        story: Story::Antagonists,
        ..BASE
    },
    Scenario {
        name: "S5",
        title: "1 ms and 91 ms routes",
        story: Story::Bimodal,
        ..BASE
    },
    Scenario {
        name: "S6",
        title: "one of 10 fails in 0.1 ms",
        load: 0.7,
        story: Story::FailsFast,
        ..BASE
    },
    Scenario {
        name: "S7",
        title: "a third more hosts, cold for 30 s",
        load: 0.7,
        story: Story::ColdStart,
        ..BASE
    },
    Scenario {
        name: "S8",
        title: "50 proxies that do not see each other",
        hosts: 20,
        proxies: 50,
        ..BASE
    },
    Scenario {
        name: "S9",
        title: "three zones, +0, +1, +30 ms",
        hosts: 12,
        load: 0.6,
        story: Story::Zones,
        ..BASE
    },
    Scenario {
        name: "S10",
        title: "bursts",
        load: 0.6,
        story: Story::Bursts,
        ..BASE
    },
    Scenario {
        name: "S10-few",
        title: "20 clients of 5 requests/s",
        proxies: 20,
        load: 0.025,
        ..BASE
    },
    Scenario {
        name: "S11",
        title: "long streams among requests",
        load: 0.7,
        story: Story::Streams,
        ..BASE
    },
];

impl Scenario {
    /// When hosts get into trouble and out of it, if they do.
    pub(crate) fn trouble(&self) -> Option<(Duration, Duration)> {
        match self.story {
            Story::Slow(_) | Story::Stall | Story::ColdStart => Some(TROUBLE),
            _ => None,
        }
    }

    /// How many hosts are watched, and their fair part of all requests.
    pub(crate) fn watched(&self) -> (usize, f64) {
        let (watched, members) = match self.story {
            Story::ColdStart => (self.hosts / 3, self.hosts + self.hosts / 3),
            _ => (1, self.hosts),
        };
        (watched, watched as f64 / members as f64)
    }

    /// Whether proxies are too many to know what hosts do.
    pub(crate) fn is_herd(&self) -> bool {
        self.proxies > self.hosts && self.load > 0.5
    }

    /// Whether it is what is promised to be next to perfect: load 0.8 with few proxies.
    pub(crate) fn is_plain(&self) -> bool {
        let is_usual = matches!(self.story, Story::Nothing | Story::Bimodal);
        is_usual && self.proxies == BASE.proxies && (self.load - BASE.load).abs() < 1e-9
    }
}

/// One host at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) factor: f64,
    /// Everything takes this long.
    pub(crate) fixed: Option<Duration>,
    pub(crate) fails: bool,
}

/// What is drawn once per run, so that every policy meets the same.
#[derive(Debug)]
pub(crate) struct Fate {
    scenario: Scenario,
    /// Of each host: since when which factor.
    factors: Vec<Vec<(Duration, f64)>>,
}

const TROUBLE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(50));

impl Fate {
    pub(crate) fn new(scenario: Scenario, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5eed);
        let mut factors = vec![Vec::new(); scenario.hosts * 2];
        if scenario.story == Story::Antagonists {
            for host in &mut factors {
                let mut at = Duration::ZERO;
                while at < scenario.length {
                    let factor = [1.0, 1.0, 1.0, 2.0, 3.0][random.usize(..5)];
                    host.push((at, factor));
                    at += Duration::from_secs_f64(exponential(5.0, &mut random));
                }
            }
        }
        Self { scenario, factors }
    }

    /// Members at a moment.
    pub(crate) fn hosts(&self, now: Duration) -> usize {
        match self.scenario.story == Story::ColdStart && now >= TROUBLE.0 {
            true => self.scenario.hosts + self.scenario.hosts / 3,
            false => self.scenario.hosts,
        }
    }

    /// Whether its share is looked at: hosts that change, or else the first.
    pub(crate) fn is_watched(&self, host: usize) -> bool {
        match self.scenario.story == Story::ColdStart {
            true => host >= self.scenario.hosts,
            false => host == 0,
        }
    }

    pub(crate) fn condition(&self, host: usize, now: Duration) -> Condition {
        let mut condition = Condition {
            factor: 1.0,
            fixed: None,
            fails: false,
        };
        let in_trouble = (TROUBLE.0..TROUBLE.1).contains(&now);
        match self.scenario.story {
            Story::Slow(factor) if host == 0 && in_trouble => condition.factor = factor,
            Story::Stall if host == 0 && in_trouble => {
                condition.fixed = Some(Duration::from_secs(2));
            }
            Story::FailsFast if host == 0 => {
                condition.fixed = Some(Duration::from_micros(100));
                condition.fails = true;
            }
            Story::ColdStart if host >= self.scenario.hosts && in_trouble => {
                condition.factor = 10.0;
            }
            Story::Antagonists => {
                let since = self.factors[host].iter().rev().find(|(at, _)| *at <= now);
                condition.factor = since.map_or(1.0, |(_, factor)| *factor);
            }
            _ => {}
        }
        condition
    }

    /// On the way to a host and back.
    pub(crate) fn distance(&self, host: usize) -> Duration {
        match (self.scenario.story, host % 3) {
            (Story::Zones, 1) => Duration::from_millis(1),
            (Story::Zones, 2) => Duration::from_millis(30),
            _ => Duration::ZERO,
        }
    }

    /// Requests per second of all proxies together.
    pub(crate) fn rate(&self, now: Duration) -> f64 {
        let scenario = &self.scenario;
        let healthy = match scenario.story {
            Story::FailsFast => scenario.hosts - 1,
            _ => scenario.hosts,
        };
        let rate = scenario.load * (healthy * scenario.slots) as f64 / SERVICE.as_secs_f64();
        match scenario.story {
            Story::Bursts if now.as_secs().is_multiple_of(3) => rate * 1.5,
            Story::Bursts => rate * 0.75,
            _ => rate,
        }
    }

    /// Route class and the mean of its service.
    pub(crate) fn class(&self, random: &mut Rng) -> (usize, Duration) {
        match self.scenario.story == Story::Bimodal {
            true if random.usize(..10) == 0 => (1, Duration::from_millis(91)),
            true => (0, Duration::from_millis(1)),
            false => (0, SERVICE),
        }
    }

    /// How long a request goes on after its first byte, outside of any place.
    pub(crate) fn tail(&self, random: &mut Rng) -> Duration {
        match self.scenario.story == Story::Streams && random.usize(..50) == 0 {
            true => Duration::from_secs(5),
            false => Duration::ZERO,
        }
    }
}

/// With this mean.
pub(crate) fn exponential(mean: f64, random: &mut Rng) -> f64 {
    -(1.0 - random.f64()).ln() * mean
}
