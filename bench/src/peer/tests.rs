//! Every installed peer passes requests for each pair of protocols, and the origin sees the right one;
//! the comparison's own tests go through all of `bench/peers`. One that is not installed is skipped
//! here: the comparison shows it as a hole.

use std::time::Duration;

use tokio::time::timeout;

use super::template::render;
use super::{Envoy, Haproxy, Nginx, PeerError, StartOptions, Weir};
use crate::load::{Load, Pace, Plan, Protocol, RequestShape};
use crate::origin::{Origin, Recorder, Reply};
use crate::ports::ReservedPort;
use crate::wire::Transport;

const DEADLINE: Duration = Duration::from_secs(30);

fn filled(template: &str, listen: &ReservedPort, origin: u16) -> String {
    let values = [
        ("listen", listen.number().to_string()),
        ("origin", origin.to_string()),
        ("clusters", "3".to_owned()),
    ];
    render(template, &values).expect("the templates use these names only")
}

/// Whether the peer is there; anything but its absence is a failure.
fn present<T>(started: Result<T, PeerError>) -> Option<T> {
    match started {
        Ok(peer) => Some(peer),
        Err(PeerError::Missing { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Sends through the proxy until ten answers came back.
async fn passes(listen: &ReservedPort, front: &str, path: &str) {
    let protocol = match front {
        "h2" => Protocol::Http2 { streams: 2 },
        _ => Protocol::Http1,
    };
    let plan = Plan {
        target: listen.addr(),
        protocol,
        transport: Transport::Plain,
        request: RequestShape {
            path: path.to_owned(),
            ..RequestShape::default()
        },
        connections: 2,
        pace: Pace::Closed,
    };
    let load = Load::start(plan).await.expect("the proxy listens");
    let answered = async {
        while load.counters().completed < 10 {
            tokio::task::yield_now().await;
        }
    };
    let answered = timeout(DEADLINE, answered).await;
    assert!(
        answered.is_ok(),
        "{:?} {:?}",
        load.counters(),
        load.first_failure()
    );
    load.stop().await;
}

fn check_seen(origin: &Origin, pair: &str) {
    let version = if pair.ends_with("h2") {
        "HTTP/2.0"
    } else {
        "HTTP/1.1"
    };
    let seen = origin.seen();
    assert!(
        seen.iter().all(|request| request.version == version),
        "{pair}: {:?}",
        seen.first()
    );
}

#[tokio::test]
async fn envoy_passes_requests_and_shows_its_statistics() {
    for (pair, template) in [
        ("h1-h1", include_str!("../../peers/envoy/h1-h1.yaml")),
        ("h2-h1", include_str!("../../peers/envoy/h2-h1.yaml")),
        ("h1-h2", include_str!("../../peers/envoy/h1-h2.yaml")),
        ("h2-h2", include_str!("../../peers/envoy/h2-h2.yaml")),
        (
            "h1-clusters-h1",
            include_str!("../../peers/envoy/clusters.yaml"),
        ),
    ] {
        let origin = Origin::start("a").expect("a free port");
        let listen = ReservedPort::new().expect("a free port");
        let bootstrap = filled(template, &listen, origin.addr().port());
        let Some(envoy) = present(Envoy::start(&bootstrap).await) else {
            return;
        };
        let path = if pair.contains("clusters") {
            "/cluster-2/x"
        } else {
            "/"
        };
        passes(
            &listen,
            pair.split_once('-').map_or("", |(front, _)| front),
            path,
        )
        .await;
        check_seen(&origin, pair);
        let cluster = if pair.contains("clusters") {
            "origin-2"
        } else {
            "origin"
        };
        let name = format!("cluster.{cluster}.upstream_rq_total");
        let total = envoy
            .admin()
            .wait_for_stat(&name, DEADLINE, |total| total >= 10)
            .await;
        assert!(total.is_ok(), "{total:?}");
        let dump = envoy.admin().config_dump().await.expect("a dump");
        assert!(dump.to_string().contains("origin"));
    }
    assert!(Envoy::version().is_some_and(|version| version.starts_with("1.")));
}

/// Weir shares Envoy's flags and admin interface, so an Envoy may stand in for it.
#[tokio::test]
async fn weir_starts_on_an_envoy_bootstrap() {
    let Ok(program) = Envoy::locate() else {
        return;
    };
    let origin = Origin::start("a").expect("a free port");
    let listen = ReservedPort::new().expect("a free port");
    let template = include_str!("../../peers/envoy/h1-h1.yaml");
    let bootstrap = filled(template, &listen, origin.addr().port());
    let options = StartOptions {
        program: Some(program),
        arguments: ["--service-node", "stand-in"].map(Into::into).to_vec(),
        ..StartOptions::default()
    };
    let weir = Weir::start_with(&bootstrap, &options)
        .await
        .expect("started");
    passes(&listen, "h1", "/").await;
    let (status, info) = weir.admin().get("/server_info").await.expect("answered");
    assert!(
        status == 200 && info.contains("stand-in"),
        "{status} {info}"
    );
    assert_eq!(weir.stop().await.expect("reaped").code(), Some(0));
}

#[tokio::test]
async fn envoy_tells_why_it_refuses_a_bootstrap() {
    let Err(error) = Envoy::start("static_resources: { no_such_field: 1 }").await else {
        panic!("a wrong field was accepted");
    };
    if !matches!(error, PeerError::Missing { .. }) {
        assert!(error.to_string().contains("no_such_field"), "{error}");
    }
}

#[tokio::test]
async fn haproxy_passes_requests() {
    for (pair, template) in [
        ("h1-h1", include_str!("../../peers/haproxy/h1-h1.cfg")),
        ("h2-h1", include_str!("../../peers/haproxy/h2-h1.cfg")),
        ("h1-h2", include_str!("../../peers/haproxy/h1-h2.cfg")),
        ("h2-h2", include_str!("../../peers/haproxy/h2-h2.cfg")),
    ] {
        let origin = Origin::start("a").expect("a free port");
        let listen = ReservedPort::new().expect("a free port");
        let config = filled(template, &listen, origin.addr().port());
        let options = StartOptions::default();
        let Some(_haproxy) = present(Haproxy::start(&config, listen.addr(), &options).await) else {
            return;
        };
        passes(
            &listen,
            pair.split_once('-').map_or("", |(front, _)| front),
            "/",
        )
        .await;
        check_seen(&origin, pair);
    }
    assert!(Haproxy::version().is_some());
}

#[tokio::test]
async fn nginx_passes_requests() {
    for (pair, template) in [
        ("h1-h1", include_str!("../../peers/nginx/h1-h1.conf")),
        ("h2-h1", include_str!("../../peers/nginx/h2-h1.conf")),
        ("h1-h2", include_str!("../../peers/nginx/h1-h2.conf")),
        ("h2-h2", include_str!("../../peers/nginx/h2-h2.conf")),
        (
            "h1-clusters-h1",
            include_str!("../../peers/nginx/clusters.conf"),
        ),
    ] {
        let origin = Origin::start("a").expect("a free port");
        origin.reply(Reply::body("hello"));
        let listen = ReservedPort::new().expect("a free port");
        let config = filled(template, &listen, origin.addr().port());
        let options = StartOptions::default();
        let Some(mut nginx) = present(Nginx::start(&config, listen.addr(), &options).await) else {
            return;
        };
        passes(
            &listen,
            pair.split_once('-').map_or("", |(front, _)| front),
            "/",
        )
        .await;
        check_seen(&origin, pair);
        assert!(nginx.process().memory().is_ok_and(|memory| memory.pss > 0));
    }
    assert!(Nginx::version().is_some());
}

#[tokio::test]
async fn the_recorder_sees_the_bytes_a_proxy_writes() {
    let recorder = Recorder::start().expect("a free port");
    let listen = ReservedPort::new().expect("a free port");
    let template = include_str!("../../peers/haproxy/h1-h1.cfg");
    let config = filled(template, &listen, recorder.addr().port());
    let options = StartOptions::default();
    let Some(_haproxy) = present(Haproxy::start(&config, listen.addr(), &options).await) else {
        return;
    };
    passes(&listen, "h1", "/recorded").await;
    let arrived = recorder.wait_until(|connections| !connections.is_empty());
    timeout(DEADLINE, arrived).await.expect("bytes arrive");
    let first = recorder.connections().concat();
    assert!(
        first.starts_with(b"GET /recorded HTTP/1.1\r\n"),
        "{}",
        first.escape_ascii()
    );
}
