//! What else is alike about members: the transport that they are asked over, what the control plane says of
//! them, and what is written down.

use serde_json::Value;
use serde_json::json;

use super::Both;
use super::active::FAILED;
use super::active::check;
use super::active::listener;
use super::cluster;
use super::flags;
use super::knobs::FINE;
use super::knobs::NO;
use super::knobs::PATH;
use super::member::Fault;
use super::member::Member;
use super::member::UP;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::nginx_is_there;
use crate::setting::until;
use crate::upstream::Server;

/// nginx tells in which way it was asked.
#[expect(clippy::too_many_lines, reason = "a table, and what is done with it")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_asked_over_the_same_transport() {
    if !envoy_is_there() || !nginx_is_there() {
        return;
    }
    let server = Server::start().await;
    let (secure, clear) = (server.tls.number(), server.clear.number());
    let tls = server.transport(&json!({"sni": "a.test"}), &json!({}));
    let other = server.transport(&json!({"sni": "other.test"}), &json!({}));
    let raw = typed(
        "extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    let matches = json!([
        {"name": "raw", "match": {"how": "clear"}, "transport_socket": {"name": "raw", "typed_config": raw}},
        {"name": "other", "match": {"how": "other"}, "transport_socket": other},
    ]);
    let hears = |path: &str, text: &str| {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        json!({"path": path, "receive": [{"text": hex}]})
    };
    let criteria = |how: &str| json!({"transport_socket_match_criteria": {"how": how}});
    let alpn = |names: &[&str]| json!({"tls_options": {"alpn_protocols": names}});
    let cases = [
        ("tls", secure, json!({}), hears("/", "tls a.test"), FINE),
        (
            "tls-to-clear",
            clear,
            json!({}),
            hears("/", "clear"),
            FAILED,
        ),
        ("clear", clear, criteria("clear"), hears("/", "clear"), FINE),
        (
            "clear-to-tls",
            secure,
            criteria("clear"),
            hears("/", "tls"),
            FAILED,
        ),
        (
            "other",
            secure,
            criteria("other"),
            hears("/", "tls other.test"),
            FINE,
        ),
        (
            "unknown",
            secure,
            criteria("unknown"),
            hears("/", "tls a.test"),
            FINE,
        ),
        (
            "alpn",
            secure,
            alpn(&["x", "http/1.0"]),
            hears("/alpn", "<http/1.0>"),
            FINE,
        ),
        ("no-alpn", secure, alpn(&[]), hears("/alpn", "<>"), FINE),
    ];
    let clusters = cases.clone().map(|(name, port, mut more, http, _)| {
        more["http_health_check"] = http;
        let mut cluster = cluster(name, &[port], &check(more));
        cluster["transport_socket"] = tls.clone();
        cluster["transport_socket_matches"] = matches.clone();
        cluster
    });
    let both = Both::start(|port| listener(port, "tls"), &clusters).await;
    for (name, port, _, _, wanted) in cases {
        both.say("asked", name, &[(port, wanted)]).await;
    }
    both.stop().await;
}

/// Both read the same file; what nobody checks is `healthy` unless the file says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_members_is_shown_alike() {
    if !envoy_is_there() {
        return;
    }
    const SAID: [&str; 6] = [
        "UNKNOWN",
        "HEALTHY",
        "UNHEALTHY",
        "DRAINING",
        "TIMEOUT",
        "DEGRADED",
    ];
    let fine = SAID.map(|_| Member::start(UP));
    let failing = SAID.map(|_| Member::start(NO));
    let of = |name: &str, members: &[Member; 6], more: &Value| {
        let ports = members.each_ref().map(Member::port);
        let mut cluster = cluster(name, &ports, more);
        let members = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"];
        for (place, status) in SAID.into_iter().enumerate() {
            members[place]["health_status"] = status.into();
        }
        cluster
    };
    let asked = check(json!({"http_health_check": {"path": PATH}}));
    let clusters = [
        of("said", &fine, &json!({})),
        of("asked", &fine, &asked),
        of("failing", &failing, &asked),
    ];
    let both = Both::start(|port| listener(port, "said"), &clusters).await;
    for (name, wanted) in [
        ("said", ["", "/degraded_eds_health"]),
        ("asked", ["", ""]),
        ("failing", [FAILED; 2]),
    ] {
        let alike = until(|| async {
            let mut all = Vec::new();
            for (_, admin) in both.admins() {
                all.push(flags(admin, name).await);
            }
            // Of those that are checked each was, once some have been found.
            let is_settled = wanted
                .iter()
                .all(|wanted| all[0].values().any(|flags| flags.contains(wanted)));
            let is_alike = is_settled && all[0] == all[1] && all[0].len() == SAID.len();
            is_alike.then_some(()).ok_or_else(|| format!("{all:?}"))
        });
        let alike = alike.await;
        assert!(alike.is_ok(), "{name}: {alike:?}");
    }
    let all = flags(&both.weir_admin, "said").await;
    let all: Vec<&str> = fine.iter().map(|member| &*all[&member.port()]).collect();
    let wanted = [
        FINE,
        FINE,
        "/failed_eds_health",
        "/eds_status_draining",
        "/failed_eds_health",
        "/degraded_eds_health",
    ];
    assert_eq!(all, wanted);
    both.stop().await;
}

/// A line of the log, without when and who.
fn event(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).expect("an object");
    let line = line.as_object_mut().expect("an object");
    line.remove("timestamp");
    line.remove("host");
    Value::Object(line.clone()).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_written_down() {
    if !envoy_is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("events");
    let sink = typed(
        "extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
        json!({"event_log_path": file}),
    );
    let member = std::sync::Mutex::new(Member::start(UP));
    let port = member.lock().expect("no panic").port();
    let more = check(json!({
        "timeout": "0.5s",
        "always_log_health_check_failures": true,
        "always_log_health_check_success": true,
        "event_logger": [{"name": "file", "typed_config": sink}],
        "http_health_check": {"path": PATH},
    }));
    let ports = free_ports(1);
    let text = bootstrap(
        &[listener(ports[0].number(), "asked")],
        &[cluster("asked", &[port], &more)],
    );
    let degraded = Fault::Answers(200, "x-envoy-degraded: true\r\n");
    // What each fault brings, at last.
    let steps = [
        (UP, "add_healthy_event"),
        (UP, "successful_health_check_event"),
        (NO, "eject_unhealthy_event"),
        (NO, "health_check_failure_event"),
        (UP, "add_healthy_event"),
        (degraded, "degraded_healthy_host"),
        (UP, "no_longer_degraded_host"),
        (Fault::Hangs, "eject_unhealthy_event"),
        (Fault::Down, "\"NETWORK\""),
    ];
    let look = || async {
        let mut seen = Vec::new();
        let mut from = 0;
        for (fault, wanted) in steps {
            member.lock().expect("no panic").set(fault);
            let came = until(|| {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let end = text.rfind('\n').map_or(0, |end| end + 1);
                let news = text.get(from..end).unwrap_or_default();
                let found = news.lines().position(|line| line.contains(wanted));
                let taken: Vec<String> = news
                    .lines()
                    .take(found.map_or(0, |place| place + 1))
                    .map(str::to_owned)
                    .collect();
                from += taken.iter().map(|line| line.len() + 1).sum::<usize>();
                seen.extend(taken.iter().map(|line| event(line)));
                std::future::ready(found.map(drop).ok_or_else(|| text.clone()))
            });
            let came = came.await;
            assert!(came.is_ok(), "{wanted}: {came:?}");
        }
        member.lock().expect("no panic").set(UP);
        std::fs::remove_file(&file).expect("it was written");
        // How often a check says the same is chance; one that went well was waited for.
        seen.retain(|line| !line.contains("successful_health_check_event"));
        seen.dedup();
        seen
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(envoy, weir);
}
