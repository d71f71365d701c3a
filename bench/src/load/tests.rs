//! The generator against origins of its own: counts add up, and a stall is seen in full.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::timeout;

use super::{Held, Load, LoadError, Pace, Plan, Protocol, RequestShape};
use crate::certificates::{Certificates, ClientOptions};
use crate::origin::{FixedOptions, FixedOrigin, TcpBehavior, TcpOrigin};
use crate::wire::Transport;

const DEADLINE: Duration = Duration::from_secs(20);

fn plan(origin: &FixedOrigin, protocol: Protocol, pace: Pace) -> Plan {
    Plan {
        target: origin.addr(),
        protocol,
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections: 4,
        pace,
    }
}

fn origin(body_bytes: usize) -> FixedOrigin {
    FixedOrigin::start(&FixedOptions {
        body_bytes,
        ..FixedOptions::default()
    })
    .expect("a free port")
}

async fn until(load: &Load, completed: u64) {
    let reached = async {
        while load.counters().completed < completed {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reached)
        .await
        .expect("the load makes progress");
}

#[tokio::test]
async fn every_protocol_receives_whole_bodies_without_failures() {
    for protocol in [
        Protocol::Http1,
        Protocol::Http1Close,
        Protocol::Http2 { streams: 3 },
    ] {
        for body_bytes in [0, 66, 300_000] {
            let origin = origin(body_bytes);
            let load = Load::start(plan(&origin, protocol, Pace::Closed))
                .await
                .expect("started");
            until(&load, 20).await;
            let counters = load.counters();
            assert_eq!(
                counters.failed + counters.refused,
                0,
                "{protocol:?} {body_bytes} {:?}",
                load.first_failure()
            );
            assert_eq!(counters.body_bytes, counters.completed * body_bytes as u64);
            let recorded = load.take_latency().len();
            assert!(recorded >= 20, "{recorded} latencies");
            load.stop().await;
            match protocol {
                Protocol::Http1Close => assert!(origin.connections() >= 20),
                _ => assert_eq!(origin.connections(), 4),
            }
        }
    }
}

#[tokio::test]
async fn a_request_with_a_body_and_headers_is_answered() {
    let origin = origin(10);
    let request = RequestShape {
        method: Method::POST,
        headers: vec![("x-a".to_owned(), "1".to_owned())],
        body: Bytes::from(vec![7; 100_000]),
        ..RequestShape::default()
    };
    for protocol in [Protocol::Http1, Protocol::Http2 { streams: 2 }] {
        let plan = Plan {
            request: request.clone(),
            ..plan(&origin, protocol, Pace::Closed)
        };
        let load = Load::start(plan).await.expect("started");
        until(&load, 10).await;
        assert_eq!(load.counters().failed, 0, "{:?}", load.first_failure());
        load.stop().await;
    }
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate() {
    let origin = origin(66);
    let pace = Pace::Open {
        rate: 500.0,
        seed: 3,
    };
    let load = Load::start(plan(&origin, Protocol::Http1, pace))
        .await
        .expect("started");
    let window = load.window(Duration::from_secs(1)).await;
    // Twice five deviations of a Poisson count of 500, for a window that a busy machine shifts.
    let rate = window.counters.due as f64 / window.elapsed.as_secs_f64();
    assert!(
        (275.0..=725.0).contains(&rate),
        "{rate} {:?}",
        window.counters
    );
    assert_eq!(window.counters.overrun, 0);
    load.stop().await;
}

/// Stops the origin for 200 ms under an open loop. Of about 400 requests due in a second, about 80
/// fall due during the stall: their latencies, counted from the due time, are spread over the
/// stall's length, so p99 comes near 200 ms. A generator that waits for answers before it sends
/// would have seen at most one slow request per connection: 4 of 400, and p98 would be clean.
#[tokio::test]
async fn a_stall_of_the_origin_shows_in_every_request_that_fell_due_meanwhile() {
    let stall = Duration::from_millis(200);
    let origin = origin(66);
    let pace = Pace::Open {
        rate: 400.0,
        seed: 11,
    };
    let load = Load::start(plan(&origin, Protocol::Http1, pace))
        .await
        .expect("started");
    until(&load, 10).await;
    let stalled = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        origin.pause();
        tokio::time::sleep(stall).await;
        origin.resume();
    };
    let (window, ()) = tokio::join!(load.window(Duration::from_secs(1)), stalled);
    load.stop().await;
    let p999 = window.latency_us(0.999) / 1_000.0;
    assert!((180.0..=2_000.0).contains(&p999), "p99.9 is {p999} ms");
    let slow = window.latency.len() - window.latency.count_between(0, 100_000_000);
    assert!(
        slow >= 20,
        "only {slow} requests waited for more than half of the stall"
    );
}

#[tokio::test]
async fn a_closed_port_and_an_empty_plan_are_refused() {
    let reserved = crate::ports::ReservedPort::new().expect("a free port");
    let plan = Plan {
        target: reserved.addr(),
        protocol: Protocol::Http1,
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections: 1,
        pace: Pace::Closed,
    };
    assert!(matches!(
        Load::start(plan.clone()).await,
        Err(LoadError::Connect { .. })
    ));
    let empty = Plan {
        connections: 0,
        ..plan
    };
    assert!(matches!(Load::start(empty).await, Err(LoadError::Plan(_))));
}

#[tokio::test]
async fn held_connections_stay_open() {
    let origin = origin(66);
    for protocol in [Protocol::Http1, Protocol::Http2 { streams: 1 }] {
        let before = origin.connections();
        let held = Held::open(
            origin.addr(),
            protocol,
            &Transport::Plain,
            &RequestShape::default(),
            20,
        )
        .await;
        assert_eq!(held.expect("all answered").len(), 20);
        assert_eq!(origin.connections() - before, 20);
    }
}

fn tls_origin(certificates: &Certificates, verify: bool) -> FixedOrigin {
    FixedOrigin::start(&FixedOptions {
        body_bytes: 100_000,
        tls: Some(certificates.server(verify).expect("usable")),
        ..FixedOptions::default()
    })
    .expect("a free port")
}

/// Runs `plan` until 20 answers came; none may fail.
async fn answers(plan: Plan) -> super::Counters {
    let load = Load::start(plan).await.expect("started");
    until(&load, 20).await;
    let counters = load.counters();
    let failure = load.first_failure();
    load.stop().await;
    assert_eq!(counters.failed + counters.refused, 0, "{failure:?}");
    counters
}

#[tokio::test]
async fn tls_carries_both_protocols_and_resumes_when_asked() {
    let certificates = Certificates::new().expect("made");
    let origin = tls_origin(&certificates, false);
    for (protocol, http2, resume) in [
        (Protocol::Http1, false, false),
        (Protocol::Http2 { streams: 2 }, true, false),
        (Protocol::Http1Close, false, false),
        (Protocol::Http1Close, false, true),
    ] {
        let options = ClientOptions {
            http2,
            resume,
            ..ClientOptions::default()
        };
        let transport = Transport::Tls(certificates.client(options).expect("usable"));
        let plan = Plan {
            transport,
            ..plan(&origin, protocol, Pace::Closed)
        };
        let counters = answers(plan).await;
        assert_eq!(counters.body_bytes, counters.completed * 100_000);
        // The first connection of each of the four workers has nothing to resume.
        let resumed = if resume { counters.completed - 4 } else { 0 };
        assert!(counters.resumed >= resumed, "{counters:?}");
        assert!(resume || counters.resumed == 0, "{counters:?}");
    }
}

#[tokio::test]
async fn a_server_that_verifies_takes_nobody_without_a_certificate() {
    let certificates = Certificates::new().expect("made");
    let origin = tls_origin(&certificates, true);
    for certificate in [true, false] {
        let options = ClientOptions {
            certificate,
            ..ClientOptions::default()
        };
        let transport = Transport::Tls(certificates.client(options).expect("usable"));
        let request = RequestShape::default();
        let held = Held::open(origin.addr(), Protocol::Http1, &transport, &request, 1).await;
        assert_eq!(held.is_ok(), certificate, "{held:?}");
    }
}

#[tokio::test]
async fn grpc_calls_and_streams_pass_whole_messages() {
    let origin = origin(1_000);
    let unary = Protocol::GrpcUnary { streams: 3 };
    let stream = Protocol::GrpcStream {
        streams: 3,
        messages: 7,
    };
    for protocol in [unary, stream] {
        let request = RequestShape {
            body: Bytes::from_static(b"a message"),
            ..RequestShape::default()
        };
        let plan = Plan {
            request,
            ..plan(&origin, protocol, Pace::Closed)
        };
        let before = origin.requests();
        let counters = answers(plan).await;
        // Five bytes of framing before each message.
        assert_eq!(counters.body_bytes, counters.completed * 1_005);
        let calls = origin.requests() - before;
        match protocol {
            Protocol::GrpcStream { .. } => assert!(calls < counters.completed, "{calls}"),
            _ => assert!(calls >= counters.completed, "{calls}"),
        }
    }
}

/// An answer that is no gRPC must not pass as one: this origin echoes, without a status at the end.
#[tokio::test]
async fn an_answer_without_a_grpc_status_is_a_failure() {
    let origin = crate::origin::Origin::start("plain").expect("a free port");
    let plan = Plan {
        target: origin.addr(),
        protocol: Protocol::GrpcUnary { streams: 1 },
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections: 1,
        pace: Pace::Closed,
    };
    let mut load = Load::start(plan).await.expect("started");
    let gave_up = async {
        while load.is_running() && load.counters().failed == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gave_up).await.expect("it fails");
    assert_eq!(load.counters().completed, 0);
}

#[tokio::test]
async fn raw_connections_echo_and_download() {
    let echo = TcpOrigin::start(TcpBehavior::Echo).expect("a free port");
    let download = TcpOrigin::start(TcpBehavior::Download).expect("a free port");
    let unit = 300_000;
    for (origin, protocol, bytes) in [
        (&echo, Protocol::TcpEcho, 64),
        (&download, Protocol::TcpDownload { unit }, unit as u64),
    ] {
        let plan = Plan {
            target: origin.addr(),
            protocol,
            transport: Transport::Plain,
            request: RequestShape {
                body: Bytes::from_static(&[7; 64]),
                ..RequestShape::default()
            },
            connections: 3,
            pace: Pace::Closed,
        };
        let counters = answers(plan.clone()).await;
        assert_eq!(counters.body_bytes, counters.completed * bytes);
        assert_eq!(origin.connections(), 3);
        let open = Plan {
            pace: Pace::Open { rate: 1e3, seed: 1 },
            ..plan
        };
        assert_eq!(
            Load::start(open).await.is_ok(),
            protocol == Protocol::TcpEcho
        );
    }
}
