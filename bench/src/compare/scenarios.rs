//! The rows, and what Weir wants to reach in each. The goals are those of the project; a row without
//! one is measured to be known.

use bench::load::Protocol;

use super::contestant::Contestant;
use super::scenario::{Against, Goal, Kind, Metric, Scenario, Setup, Traffic};

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
const STREAMS: usize = 16;
const HTTP2: Protocol = Protocol::Http2 { streams: STREAMS };
const HTTP2_CONNECTIONS: usize = 8;

/// Long enough that opening a stream does not show.
const MESSAGES: u32 = 1_000;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const SMALL: Traffic = Traffic {
    setup: Setup::Http1ToHttp1,
    protocol: Protocol::Http1,
    connections: CONNECTIONS,
    body_bytes: 66,
    sent_bytes: 0,
    fields: 0,
    routes: 0,
    resume: false,
    rate: None,
};

const HTTP2_SMALL: Traffic = Traffic {
    protocol: HTTP2,
    connections: HTTP2_CONNECTIONS,
    ..SMALL
};

const TLS: Traffic = Traffic {
    setup: Setup::TlsToHttp1,
    ..SMALL
};

const TCP: Traffic = Traffic {
    setup: Setup::Tcp,
    protocol: Protocol::TcpEcho,
    sent_bytes: 64,
    ..SMALL
};

/// 8 MB, the promise for a process at rest.
const REST_BYTES_MAX: f64 = 8.0 * MIB as f64;

const BEST: Against = Against::BestPeer;
const ENVOY: Against = Against::Peer(Contestant::Envoy);
const HAPROXY: Against = Against::Peer(Contestant::Haproxy);
const NGINX: Against = Against::Peer(Contestant::Nginx);

/// p99.9 at half of saturation.
const TAIL: Goal = goal(Metric::P999, BEST, 1.0);

const fn traffic(
    name: &'static str,
    title: &'static str,
    traffic: Traffic,
    goals: &'static [Goal],
) -> Scenario {
    Scenario {
        name,
        title,
        kind: Kind::Traffic(traffic),
        goals,
    }
}

const fn routes(routes: usize) -> Traffic {
    Traffic {
        setup: Setup::Routes,
        routes,
        ..SMALL
    }
}

/// Every row, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    traffic(
        "http1-small",
        "HTTP/1.1 keep-alive, 64 connections, 66-byte body",
        SMALL,
        &[
            goal(Metric::Main, BEST, 0.95),
            goal(Metric::Main, ENVOY, 0.40),
            TAIL,
        ],
    ),
    traffic(
        "http1-small-log",
        "the same with an access log",
        Traffic {
            setup: Setup::Http1Logged,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "http1-guarded",
        "http1-small with health checks, outlier detection, breakers and retries",
        Traffic {
            setup: Setup::Http1Guarded,
            ..SMALL
        },
        &[goal(Metric::Main, ENVOY, 0.40)],
    ),
    traffic(
        "http1-in-turn",
        "http1-small to two members, each in turn",
        Traffic {
            setup: Setup::Http1InTurn,
            ..SMALL
        },
        &[],
    ),
    traffic(
        "http1-latency",
        "http1-small to two members, weights by latency",
        Traffic {
            setup: Setup::Http1Latency,
            ..SMALL
        },
        &[],
    ),
    traffic(
        "http1-headers",
        "HTTP/1.1 keep-alive, 20 header fields each way, 1 KiB body",
        Traffic {
            fields: 20,
            body_bytes: KIB,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "http1-16k",
        "HTTP/1.1 keep-alive, 16 KiB body",
        Traffic {
            body_bytes: 16 * KIB,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "http1-1m",
        "HTTP/1.1 keep-alive, 16 connections, 1 MiB body",
        Traffic {
            body_bytes: MIB,
            connections: 16,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 1.0)],
    ),
    traffic(
        "http1-close",
        "HTTP/1.1, one connection per request",
        Traffic {
            protocol: Protocol::Http1Close,
            ..SMALL
        },
        &[goal(Metric::Main, HAPROXY, 1.2)],
    ),
    traffic(
        "http1-1000rps",
        "HTTP/1.1 keep-alive at 1,000 requests/s, the mesh case",
        Traffic {
            rate: Some(1_000.0),
            body_bytes: KIB,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.9)],
    ),
    traffic(
        "h2-to-h1",
        "HTTP/2 (8 connections x 16 streams) to HTTP/1.1",
        Traffic {
            setup: Setup::Http2ToHttp1,
            ..HTTP2_SMALL
        },
        &[goal(Metric::Main, ENVOY, 0.45)],
    ),
    traffic(
        "h1-to-h2",
        "HTTP/1.1 (64 connections) to HTTP/2",
        Traffic {
            setup: Setup::Http1ToHttp2,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "h2-to-h2",
        "HTTP/2 (8 connections x 16 streams) to HTTP/2",
        Traffic {
            setup: Setup::Http2ToHttp2,
            ..HTTP2_SMALL
        },
        &[goal(Metric::Main, ENVOY, 0.35)],
    ),
    traffic(
        "h2-guarded",
        "h2-to-h2 with health checks, outlier detection, breakers and retries",
        Traffic {
            setup: Setup::Http2Guarded,
            ..HTTP2_SMALL
        },
        &[goal(Metric::Main, ENVOY, 0.35)],
    ),
    traffic(
        "grpc-unary",
        "gRPC unary (8 connections x 16 calls), 64-byte messages",
        Traffic {
            setup: Setup::Http2ToHttp2,
            protocol: Protocol::GrpcUnary { streams: STREAMS },
            sent_bytes: 64,
            ..HTTP2_SMALL
        },
        &[
            goal(Metric::Main, ENVOY, 0.35),
            goal(Metric::Main, NGINX, 0.8),
        ],
    ),
    traffic(
        "grpc-stream",
        "gRPC streams (8 connections x 16), 64-byte messages to and fro; a request is a message",
        Traffic {
            setup: Setup::Http2ToHttp2,
            protocol: Protocol::GrpcStream {
                streams: STREAMS,
                messages: MESSAGES,
            },
            sent_bytes: 64,
            ..HTTP2_SMALL
        },
        &[],
    ),
    traffic("routes-1", "HTTP/1.1, a table of 1 route", routes(1), &[]),
    traffic(
        "routes-100",
        "HTTP/1.1, the last of 100 routes",
        routes(100),
        &[],
    ),
    traffic(
        "routes-5000",
        "HTTP/1.1, the last of 5,000 routes",
        routes(5_000),
        &[goal(Metric::Main, Against::Scenario("routes-1"), 1.05)],
    ),
    traffic(
        "tls-handshake",
        "TLS 1.3, a full handshake (ECDSA P-256) and one request per connection",
        Traffic {
            protocol: Protocol::Http1Close,
            ..TLS
        },
        &[
            goal(Metric::Main, NGINX, 0.90),
            goal(Metric::Main, HAPROXY, 0.67),
        ],
    ),
    traffic(
        "tls-resume",
        "TLS 1.3, a resumed session and one request per connection",
        Traffic {
            protocol: Protocol::Http1Close,
            resume: true,
            ..TLS
        },
        &[],
    ),
    traffic(
        "tls-keepalive",
        "TLS 1.3, keep-alive, 66-byte body",
        TLS,
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "tls-bulk",
        "TLS 1.3, keep-alive, 16 connections, 1 MiB body",
        Traffic {
            body_bytes: MIB,
            connections: 16,
            ..TLS
        },
        &[goal(Metric::Main, HAPROXY, 0.9)],
    ),
    traffic(
        "mtls",
        "TLS 1.3 with certificates of both ends on both sides, keep-alive, 1 KiB body",
        Traffic {
            setup: Setup::MutualTls,
            body_bytes: KIB,
            ..SMALL
        },
        &[goal(Metric::Main, BEST, 0.95)],
    ),
    traffic(
        "mtls-1000rps",
        "the same at 1,000 requests/s, the sidecar",
        Traffic {
            setup: Setup::MutualTls,
            body_bytes: KIB,
            rate: Some(1_000.0),
            ..SMALL
        },
        &[goal(Metric::Main, ENVOY, 0.30)],
    ),
    traffic(
        "tcp-small",
        "TCP relay, 64 connections, 64 bytes to and fro",
        TCP,
        &[goal(Metric::Main, HAPROXY, 0.85)],
    ),
    traffic(
        "tcp-bulk",
        "TCP relay, 8 connections, a download without end; a request is 1 MiB",
        Traffic {
            protocol: Protocol::TcpDownload { unit: MIB },
            connections: 8,
            ..TCP
        },
        &[
            goal(Metric::Main, ENVOY, 0.75),
            goal(Metric::Main, HAPROXY, 0.25),
        ],
    ),
    Scenario {
        name: "idle-http1",
        title: "bytes per idle HTTP/1.1 keep-alive connection after one request",
        kind: Kind::Idle(Setup::Http1ToHttp1, Protocol::Http1),
        goals: &[goal(Metric::Main, ENVOY, 1.0)],
    },
    Scenario {
        name: "idle-tls",
        title: "bytes per idle TLS connection with HTTP/1.1 after one request",
        kind: Kind::Idle(Setup::TlsToHttp1, Protocol::Http1),
        goals: &[goal(Metric::Main, Against::Absolute, 12.0 * KIB as f64)],
    },
    Scenario {
        name: "idle-h2",
        title: "bytes per idle HTTP/2 connection after one request",
        kind: Kind::Idle(Setup::Http2ToHttp1, Protocol::Http2 { streams: 1 }),
        goals: &[goal(Metric::Main, Against::Absolute, 12.0 * KIB as f64)],
    },
    Scenario {
        name: "idle-tcp",
        title: "bytes per idle relayed TCP connection, its other half included",
        kind: Kind::Idle(Setup::Tcp, Protocol::TcpEcho),
        goals: &[],
    },
    Scenario {
        name: "rest-0",
        title: "memory at rest without clusters",
        kind: Kind::Rest(0),
        goals: &[
            goal(Metric::Main, Against::Absolute, REST_BYTES_MAX),
            goal(Metric::Main, HAPROXY, 0.6),
        ],
    },
    Scenario {
        name: "rest-1000",
        title: "memory at rest with 1,000 clusters",
        kind: Kind::Rest(1_000),
        goals: &[],
    },
    Scenario {
        name: "rest-10000",
        title: "memory at rest with 10,000 clusters",
        kind: Kind::Rest(10_000),
        goals: &[],
    },
    Scenario {
        name: "start",
        title: "process start to first answer",
        kind: Kind::Start,
        goals: &[goal(Metric::Main, Against::Absolute, 20.0)],
    },
    Scenario {
        name: "endpoint-change",
        title: "one member among 100,000 changes in a file of the control plane, until a request goes there",
        kind: Kind::EndpointChange(1_000),
        goals: &[],
    },
];
