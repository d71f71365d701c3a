//! What is measured, and what Weir wants to reach there.

use bench::load::{Protocol, RequestShape};

use super::contestant::Contestant;

/// The protocol pair, which picks the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pair {
    Http1ToHttp1,
    Http1ToHttp2,
    Http2ToHttp1,
    Http2ToHttp2,
    /// HTTP/1.1 on both sides, many clusters with a route each.
    Clusters,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) goals: &'static [Goal],
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// CPU per request and rate in closed loop, latency in open loop.
    Traffic(Traffic),
    /// Memory per connection that made a request and went silent.
    Idle(Protocol),
    /// Memory of a process with so many clusters and no traffic.
    Rest(usize),
    /// Time from starting the process to its first answer.
    Start,
}

/// The traffic of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) pair: Pair,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Length of the answer's body.
    pub(crate) body_bytes: usize,
    /// Extra header fields of request and answer.
    pub(crate) fields: usize,
    /// A fixed rate in place of saturation: CPU per request is then measured at it.
    pub(crate) rate: Option<f64>,
}

/// A promise about one metric of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Metric {
    /// The scenario's first number: CPU µs per request, bytes, or milliseconds.
    Main,
    P999,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Against {
    /// The number itself.
    Absolute,
    /// The best of Envoy, HAProxy and nginx.
    BestPeer,
    Peer(Contestant),
}

const fn goal(metric: Metric, against: Against, at_most: f64) -> Goal {
    Goal {
        metric,
        against,
        at_most,
    }
}

/// 64 connections saturate one core and stay within every peer's defaults.
const CONNECTIONS: usize = 64;

/// 8 connections x 16 streams is the HTTP/2 load of the first measurements.
const HTTP2: Protocol = Protocol::Http2 { streams: 16 };
const HTTP2_CONNECTIONS: usize = 8;

const SMALL: Traffic = Traffic {
    pair: Pair::Http1ToHttp1,
    protocol: Protocol::Http1,
    connections: CONNECTIONS,
    body_bytes: 66,
    fields: 0,
    rate: None,
};

const HTTP2_SMALL: Traffic = Traffic {
    protocol: HTTP2,
    connections: HTTP2_CONNECTIONS,
    ..SMALL
};

/// 8 MB, the promise for a process at rest.
const REST_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;

const BEST: Against = Against::BestPeer;
const ENVOY: Against = Against::Peer(Contestant::Envoy);
const HAPROXY: Against = Against::Peer(Contestant::Haproxy);

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "http1-small",
        title: "HTTP/1.1 keep-alive, 64 connections, 66-byte body",
        kind: Kind::Traffic(SMALL),
        goals: &[
            goal(Metric::Main, BEST, 0.95),
            goal(Metric::Main, ENVOY, 0.40),
            goal(Metric::P999, BEST, 1.0),
        ],
    },
    Scenario {
        name: "http1-headers",
        title: "HTTP/1.1 keep-alive, 20 header fields each way, 1 KiB body",
        kind: Kind::Traffic(Traffic {
            fields: 20,
            body_bytes: 1024,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, BEST, 0.95)],
    },
    Scenario {
        name: "http1-16k",
        title: "HTTP/1.1 keep-alive, 16 KiB body",
        kind: Kind::Traffic(Traffic {
            body_bytes: 16 * 1024,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, BEST, 0.95)],
    },
    Scenario {
        name: "http1-1m",
        title: "HTTP/1.1 keep-alive, 16 connections, 1 MiB body",
        kind: Kind::Traffic(Traffic {
            body_bytes: 1024 * 1024,
            connections: 16,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, BEST, 1.0)],
    },
    Scenario {
        name: "http1-close",
        title: "HTTP/1.1, one connection per request",
        kind: Kind::Traffic(Traffic {
            protocol: Protocol::Http1Close,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, HAPROXY, 1.2)],
    },
    Scenario {
        name: "http1-1000rps",
        title: "HTTP/1.1 keep-alive at 1,000 requests/s, the mesh case",
        kind: Kind::Traffic(Traffic {
            rate: Some(1_000.0),
            body_bytes: 1024,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, BEST, 0.9)],
    },
    Scenario {
        name: "h2-to-h1",
        title: "HTTP/2 (8 connections x 16 streams) to HTTP/1.1",
        kind: Kind::Traffic(Traffic {
            pair: Pair::Http2ToHttp1,
            ..HTTP2_SMALL
        }),
        goals: &[goal(Metric::Main, ENVOY, 0.45)],
    },
    Scenario {
        name: "h1-to-h2",
        title: "HTTP/1.1 (64 connections) to HTTP/2",
        kind: Kind::Traffic(Traffic {
            pair: Pair::Http1ToHttp2,
            ..SMALL
        }),
        goals: &[goal(Metric::Main, BEST, 0.95)],
    },
    Scenario {
        name: "h2-to-h2",
        title: "HTTP/2 (8 connections x 16 streams) to HTTP/2",
        kind: Kind::Traffic(Traffic {
            pair: Pair::Http2ToHttp2,
            ..HTTP2_SMALL
        }),
        goals: &[goal(Metric::Main, ENVOY, 0.35)],
    },
    Scenario {
        name: "idle-http1",
        title: "bytes per idle HTTP/1.1 keep-alive connection after one request",
        kind: Kind::Idle(Protocol::Http1),
        goals: &[goal(Metric::Main, ENVOY, 1.0)],
    },
    Scenario {
        name: "idle-h2",
        title: "bytes per idle HTTP/2 connection after one request",
        kind: Kind::Idle(Protocol::Http2 { streams: 1 }),
        goals: &[goal(Metric::Main, Against::Absolute, 12.0 * 1024.0)],
    },
    Scenario {
        name: "rest-100",
        title: "memory at rest with 100 clusters",
        kind: Kind::Rest(100),
        goals: &[
            goal(Metric::Main, Against::Absolute, REST_BYTES_MAX),
            goal(Metric::Main, HAPROXY, 0.6),
        ],
    },
    Scenario {
        name: "start",
        title: "process start to first answer",
        kind: Kind::Start,
        goals: &[goal(Metric::Main, Against::Absolute, 20.0)],
    },
];

impl Scenario {
    /// The pair whose configuration the scenario uses.
    pub(crate) fn pair(&self) -> Pair {
        match self.kind {
            Kind::Traffic(traffic) => traffic.pair,
            Kind::Idle(Protocol::Http2 { .. }) => Pair::Http2ToHttp1,
            Kind::Idle(_) | Kind::Start => Pair::Http1ToHttp1,
            Kind::Rest(_) => Pair::Clusters,
        }
    }

    /// How requests enter the proxy.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Traffic(traffic) => traffic.protocol,
            Kind::Idle(protocol) => protocol,
            Kind::Rest(_) | Kind::Start => Protocol::Http1,
        }
    }

    /// The extra header fields, plausible in name and length.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let count = match self.kind {
            Kind::Traffic(traffic) => traffic.fields,
            _ => 0,
        };
        (0..count)
            .map(|at| {
                (
                    format!("x-field-{at}"),
                    format!("value {at} of a usual length, 32 bytes"),
                )
            })
            .collect()
    }

    /// The request of the scenario.
    pub(crate) fn request(&self) -> RequestShape {
        RequestShape {
            headers: self.fields(),
            ..RequestShape::default()
        }
    }
}
