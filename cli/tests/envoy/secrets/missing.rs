//! A secret that is not there, or is no good: nobody is let in without it, and what was good stays.

use std::net::SocketAddr;

use bench::origin::Origin;
use bench::peer::Envoy;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use proxy::telemetry::stats::Group;
use proxy::telemetry::stats::Reading;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::authority::Authority;
use super::caller::Caller;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// The source with this longest wait.
fn waiting(timeout: &str) -> Value {
    let mut source = site::ads();
    source["initial_fetch_timeout"] = timeout.into();
    source
}

fn listener(port: u16, timeout: &str) -> Value {
    let tls = site::downstream(site::named("leaf", &waiting(timeout)), None);
    site::answering("l", port, &tls)
}

/// What a client sees that says something in clear text.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Nobody listens.
    Refused,
    /// The connection ends without a word.
    Closed,
    /// Something comes back.
    Answered,
}

async fn knock(target: SocketAddr) -> Seen {
    let Ok(mut socket) = TcpStream::connect(target).await else {
        return Seen::Refused;
    };
    let _ = socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await; // it may be closed
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await; // a reset is an end, too
    if answer.is_empty() {
        Seen::Closed
    } else {
        Seen::Answered
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x06_a_missing_secret_keeps_the_listener_warming() {
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let listener = listener(port.number(), "0s");
    control_plane.commit_dangling("weir", std::slice::from_ref(&listener));
    let weir = Weir::launch(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let waits = until(|| async {
        let waiting = weir.live().xds.facts().waiting_for;
        let is_said = waiting.iter().any(|line| line == "listener l: secret leaf");
        is_said.then_some(()).ok_or_else(|| format!("{waiting:?}"))
    });
    waits.await.expect("it says what it waits for");
    assert!(!weir.live().is_ready());
    assert_eq!(knock(port.addr()).await, Seen::Refused);
    let leaf = root.issue("leaf");
    control_plane.commit("weir", &[listener, leaf.secret("leaf")]);
    let caller = Caller::trusting(&[&root]);
    let open = until(|| async {
        let seen = caller.leaf(port.addr()).await;
        seen.map(drop).map_err(|error| error.to_string())
    });
    open.await.expect("it opens with its secret");
    let ready = until(|| async {
        let is_ready = weir.live().is_ready();
        is_ready.then_some(()).ok_or_else(|| "not ready".to_owned())
    });
    ready.await.expect("it is ready");
    assert_eq!(weir.live().xds.facts().waiting_for, Vec::<String>::new());
    weir.stop().await;
}

/// After the wait both listen, and let nobody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x06_after_the_fetch_timeout_envoy_and_weir_close_every_connection() {
    if !envoy_is_there() {
        return;
    }
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let ports = free_ports(2);
    let [at_envoy, at_weir] = [ports[0].addr(), ports[1].addr()];
    let listeners = [
        listener(at_envoy.port(), "0.3s"),
        listener(at_weir.port(), "0.3s"),
    ];
    control_plane.commit_dangling("envoy", &[listeners[0].clone()]);
    control_plane.commit_dangling("weir", &[listeners[1].clone()]);
    let bootstrap = |group| site::dynamic(group, "GRPC", control_plane.address);
    let envoy = Envoy::spawn(&bootstrap("envoy"), &StartOptions::default()).expect("it starts");
    let weir = Weir::launch(&bootstrap("weir")).await;
    for target in [at_envoy, at_weir] {
        let open = until(|| async {
            match knock(target).await {
                Seen::Closed => Ok(()),
                seen => Err(format!("{target}: {seen:?}")),
            }
        });
        open.await.expect("it listens and closes");
    }
    let leaf = root.issue("leaf");
    let [first, second] = listeners;
    control_plane.commit_dangling("envoy", &[first, leaf.secret("leaf")]);
    control_plane.commit("weir", &[second, leaf.secret("leaf")]);
    let caller = Caller::trusting(&[&root]);
    for target in [at_envoy, at_weir] {
        let open = until(|| async {
            let seen = caller.leaf(target).await;
            seen.map(drop).map_err(|error| format!("{target}: {error}"))
        });
        open.await.expect("it lets in with its secret");
    }
    drop(envoy);
    weir.stop().await;
}

/// A cluster without its secret is active after the wait, and every request to it fails: nothing is
/// sent in clear text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x06_without_its_secret_a_cluster_of_envoy_and_weir_answers_alike() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    let control_plane = ControlPlane::start().await;
    let ports = free_ports(2);
    let source = waiting("0.3s");
    let tls = site::upstream(site::named("leaf", &source), site::named("roots", &source));
    let logs = tempfile::tempdir().expect("a directory");
    let log = |port: &ReservedPort| logs.path().join(port.number().to_string());
    let resources = |port: &ReservedPort| {
        [
            site::logging("l", port.number(), &log(port), "c"),
            site::cluster("c", origin.addr().port(), Some(&tls)),
        ]
    };
    control_plane.commit_dangling("envoy", &resources(&ports[0]));
    control_plane.commit_dangling("weir", &resources(&ports[1]));
    let bootstrap = |group| site::dynamic(group, "GRPC", control_plane.address);
    let options = StartOptions {
        arguments: vec!["--file-flush-interval-msec".into(), "10".into()],
        ..StartOptions::default()
    };
    let envoy = Envoy::spawn(&bootstrap("envoy"), &options).expect("it starts");
    let weir = Weir::launch(&bootstrap("weir")).await;
    let mut answers = Vec::new();
    for port in &ports {
        let answered = until(|| async {
            let request = Request::get("/")
                .body(Empty::<Bytes>::new())
                .expect("a path");
            let answer = bench::client::http1(port.addr(), request).await;
            answer.map(drop).map_err(|error| error.to_string())
        });
        answered.await.expect("it answers");
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("a path");
        let answer = bench::client::http1(port.addr(), request).await;
        let answer = answer.expect("an answer");
        answers.push((answer.status, answer.text()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 503);
    let name = "client_ssl_socket_factory.upstream_context_secrets_not_ready";
    let counted = envoy.admin().stat(&format!("cluster.c.{name}")).await;
    assert_eq!(counted.expect("statistics"), Some(2));
    let stats = weir.live().registry.cluster("c");
    let place = stats.fields().iter().position(|field| field.name == name);
    let counted = place.and_then(|place| stats.read(place));
    assert_eq!(counted, Some(Reading::Counter(2)));
    assert!(origin.seen().is_empty(), "nothing was sent");
    // Envoy writes its log now and then, and not at its end.
    let written = until(|| async {
        let text = std::fs::read_to_string(log(&ports[0])).unwrap_or_default();
        (text.lines().count() == 2).then_some(()).ok_or(text)
    });
    written.await.expect("Envoy writes both entries");
    drop(envoy);
    weir.stop().await;
    let logged = ports.iter().map(|port| std::fs::read_to_string(log(port)));
    let logged: Vec<String> = logged.collect::<Result<_, _>>().expect("a log");
    let reason = "UF TLS_error:_Secret_is_not_supplied_by_SDS \
                  upstream_reset_before_response_started{remote_connection_failure|TLS_error:_Secret_is_not_supplied_by_SDS}\n";
    assert_eq!(logged, [reason.repeat(2), reason.repeat(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_secret_is_refused_and_the_old_one_serves() {
    let root = Authority::new("root");
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let control_plane = ControlPlane::start().await;
        let port = free_ports(1).remove(0);
        let listener = listener(port.number(), "15s");
        let leaf = root.issue("leaf");
        control_plane.commit("weir", &[listener.clone(), leaf.secret("leaf")]);
        let weir = Weir::start(&site::dynamic("weir", api_type, control_plane.address)).await;
        let bad = root.issue("bad").unsound("leaf");
        control_plane.commit("weir", &[listener.clone(), bad]);
        let refused = until(|| async {
            let clients = control_plane.handle.clients();
            let mut types = clients.iter().flat_map(|client| &client.types);
            let refusal = types.find_map(|one| one.report.refusal.clone());
            let text = format!("{refusal:?}");
            let is_told = text.contains("leaf: tls_certificate: the private key does not belong");
            is_told.then_some(()).ok_or(text)
        });
        refused.await.expect("it is refused with its path");
        let caller = Caller::trusting(&[&root]);
        let seen = caller.leaf(port.addr()).await.expect("it serves");
        assert_eq!(seen, leaf.der, "{api_type}");
        let next = root.issue("next");
        control_plane.commit("weir", &[listener, next.secret("leaf")]);
        let follows = until(|| async {
            let seen = caller.leaf(port.addr()).await;
            let seen = seen.map_err(|error| error.to_string())?;
            (seen == next.der)
                .then_some(())
                .ok_or_else(|| "old".to_owned())
        });
        follows.await.expect("a good one is taken again");
        weir.stop().await;
    }
}

/// What nobody can make whole is refused where it stands.
#[test]
fn a_bootstrap_that_names_what_cannot_come_is_refused() {
    let check = |named: Value, expected: &str| {
        let listener = {
            let mut listener = site::answering("l", 1, &site::downstream(named, None));
            listener
                .as_object_mut()
                .map(|members| members.remove("@type"));
            listener
        };
        let bootstrap = crate::identity::bootstrap(&[listener], &[]);
        let loaded = proxy::bootstrap::load("b.yaml".as_ref(), &bootstrap);
        let errors = loaded.expect_err("it is refused");
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(text.join("\n").contains(expected), "{text:?}");
    };
    check(
        json!({"name": "leaf"}),
        "has no sds_config and is not among",
    );
    check(
        site::named("leaf", &site::ads()),
        "comes by ads, which needs ads_config",
    );
    let own = json!({"api_config_source": {
        "api_type": "GRPC",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "nowhere"}}],
    }});
    check(site::named("leaf", &own), "comes from \"nowhere\"");
}
