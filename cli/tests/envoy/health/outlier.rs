//! Members that are judged by what they answer: the same requests to each proxy, the same verdicts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bench::peer::Admin;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Both;
use super::cluster;
use super::flags;
use super::member::Fault;
use super::member::Member;
use super::member::UP;
use crate::identity::manager;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

const EJECTED: &str = "/failed_outlier_check";
const DEGRADED: &str = "/degraded_outlier_detection";
const FINE: &str = "healthy";
const FIVE: Fault = Fault::Answers(500, "");
const GATEWAY: Fault = Fault::Answers(503, "");

/// Unavailable, which stands for 503.
const GRPC: Fault = Fault::Answers(200, "content-type: application/grpc\r\ngrpc-status: 14\r\n");

/// Whatever the header's value is.
const SAYS_DEGRADED: Fault = Fault::Answers(200, "x-envoy-degraded: false\r\n");
const FOUR_SAYS_DEGRADED: Fault = Fault::Answers(404, "x-envoy-degraded: true\r\n");
const FIVE_SAYS_DEGRADED: Fault = Fault::Answers(500, "x-envoy-degraded: true\r\n");

const BAD: Fault = Fault::Answers(200, "x-bad: 1\r\n");

/// A cluster of one member, what it does with so many requests each, and what is said of it then.
struct Case {
    name: &'static str,
    config: Value,
    script: &'static [(Fault, usize)],
    wanted: &'static str,
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let case = |name, config, script, wanted| Case {
        name,
        config,
        script,
        wanted,
    };
    let fives = json!({"consecutive_5xx": 3});
    let gateway = json!({
        "consecutive_5xx": 100, "consecutive_gateway_failure": 3,
        "enforcing_consecutive_gateway_failure": 100,
    });
    let degraded = json!({"detect_degraded_hosts": true, "max_ejection_percent": 0});
    let split = json!({
        "consecutive_5xx": 3, "consecutive_local_origin_failure": 2,
        "split_external_local_origin_errors": true,
    });
    let errors = json!({"http_response_headers_match": {"headers": [
        {"name": "x-bad", "present_match": true},
    ]}});
    let missing = json!({"http_response_headers_match": {"headers": [
        {"name": ":status", "string_match": {"exact": "404"}},
    ]}});
    let either = json!({"or_match": {"rules": [errors, missing]}});
    let both = json!({"and_match": {"rules": [errors, missing]}});
    let judged_by = |errors: Value| {
        let mut config = fives.clone();
        config["error_matcher"] = errors;
        config
    };
    vec![
        case("bad", judged_by(errors.clone()), &[(BAD, 3)], EJECTED),
        case("bad-five", judged_by(errors.clone()), &[(FIVE, 4)], FINE),
        case("grpc-bad", judged_by(errors.clone()), &[(GRPC, 3)], EJECTED),
        case(
            "not-bad",
            judged_by(json!({"not_match": errors})),
            &[(BAD, 2), (UP, 3)],
            EJECTED,
        ),
        case(
            "either",
            judged_by(either),
            &[(BAD, 1), (Fault::Answers(404, ""), 2)],
            EJECTED,
        ),
        case(
            "both",
            judged_by(both),
            &[(BAD, 3), (Fault::Answers(404, ""), 3)],
            FINE,
        ),
        case(
            "fives",
            fives.clone(),
            &[(FIVE, 2), (UP, 1), (FIVE, 3)],
            EJECTED,
        ),
        case(
            "broken",
            fives.clone(),
            &[(FIVE, 2), (UP, 1), (FIVE, 2)],
            FINE,
        ),
        case("mixed", fives.clone(), &[(FIVE, 1), (GATEWAY, 2)], EJECTED),
        case("away", fives.clone(), &[(Fault::Down, 3)], EJECTED),
        case("reset", fives.clone(), &[(Fault::Resets, 3)], EJECTED),
        case("grpc", fives.clone(), &[(GRPC, 3)], EJECTED),
        case(
            "checked-in-vain",
            json!({"consecutive_5xx": 3, "successful_active_health_check_uneject_host": false}),
            &[(Fault::FailsRequests, 3)],
            EJECTED,
        ),
        case("slow", fives.clone(), &[(Fault::Hangs, 3)], EJECTED),
        // It was reached each time, which ends each row.
        case("slow-split", split.clone(), &[(Fault::Hangs, 3)], FINE),
        case("silent", fives.clone(), &[(SAYS_DEGRADED, 1)], FINE),
        case(
            "degraded",
            degraded.clone(),
            &[(UP, 1), (SAYS_DEGRADED, 3), (UP, 1)],
            DEGRADED,
        ),
        case(
            "degraded-four",
            degraded.clone(),
            &[(FOUR_SAYS_DEGRADED, 1)],
            DEGRADED,
        ),
        case("degraded-five", degraded, &[(FIVE_SAYS_DEGRADED, 2)], FINE),
        case("four", fives, &[(Fault::Answers(404, ""), 9)], FINE),
        case(
            "gateway",
            gateway.clone(),
            &[(FIVE, 5), (GATEWAY, 3)],
            EJECTED,
        ),
        case(
            "other",
            gateway,
            &[(GATEWAY, 2), (FIVE, 1), (GATEWAY, 2)],
            FINE,
        ),
        case(
            "local",
            split.clone(),
            // Alone: on a connection that answers left open, a request may fail another way.
            &[(Fault::Down, 2)],
            EJECTED,
        ),
        case(
            "served",
            split,
            &[(Fault::Down, 1), (UP, 1), (Fault::Down, 1)],
            FINE,
        ),
        case(
            "noted",
            json!({"consecutive_5xx": 3, "enforcing_consecutive_5xx": 0}),
            &[(FIVE, 4)],
            FINE,
        ),
        case(
            "few",
            json!({"consecutive_5xx": 3, "max_ejection_percent": 50}),
            &[(FIVE, 4)],
            FINE,
        ),
        case(
            "one",
            json!({"consecutive_5xx": 3, "max_ejection_percent": 0, "always_eject_one_host": true}),
            &[(FIVE, 3)],
            EJECTED,
        ),
    ]
}

/// Outlier detection that is not over before the test is.
fn outlier(more: &Value) -> Value {
    let mut outlier = json!({
        "interval": "0.2s", "base_ejection_time": "1000s", "max_ejection_percent": 100,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        outlier[name] = value.clone();
    }
    let errors = outlier
        .as_object_mut()
        .and_then(|all| all.remove("error_matcher"));
    let mut config = json!({ "outlier_detection": outlier });
    if let Some(errors) = errors {
        let name = "extensions.upstreams.http.v3.HttpProtocolOptions";
        let options = json!({
            "explicit_http_config": {"http_protocol_options": {}},
            "outlier_detection": {"error_matcher": errors},
        });
        let options = typed(name, options);
        config["typed_extension_protocol_options"] = json!({format!("envoy.{name}"): options});
    }
    config
}

/// Members are asked, besides.
fn checks() -> Value {
    json!({
        "timeout": "2s", "interval": "0.05s", "no_traffic_interval": "0.05s",
        "unhealthy_threshold": 2, "healthy_threshold": 2, "http_health_check": {"path": "/"},
    })
}

/// Each cluster under a path of its name.
fn listener(port: u16, names: &[&str]) -> Value {
    let route = |name: &&str| {
        let mut route = json!({"cluster": name});
        if name.starts_with("slow") {
            route["timeout"] = "0.2s".into();
        }
        json!({"match": {"path": format!("/{name}")}, "route": route})
    };
    let routes: Vec<_> = names.iter().map(route).collect();
    let manager = manager(&routes.into(), &json!({}));
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": manager}]}],
    })
}

/// One request on a connection of its own.
async fn get(target: SocketAddr, path: &str, id: &str) {
    let mut stream = TcpStream::connect(target).await.expect("it listens");
    let kind = if path.starts_with("grpc") {
        "application/grpc"
    } else {
        "text/plain"
    };
    let request = format!(
        "GET /{path} HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\ncontent-type: {kind}\r\n\
         connection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 "), "{path} {id}");
}

/// All counters of a cluster's outlier detection that Weir has.
async fn counters(admin: &Admin, cluster: &str) -> BTreeMap<String, u64> {
    let stats = admin.stats().await.expect("it answers");
    let start = format!("cluster.{cluster}.outlier_detection.");
    let ours = stats.into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(&start)?;
        // Deprecated counters of Envoy's, which say what others say.
        let is_old = [
            "ejections_total",
            "ejections_success_rate",
            "ejections_consecutive_5xx",
        ];
        (!is_old.contains(&name)).then(|| (name.to_owned(), value))
    });
    ours.filter(|(_, value)| *value > 0).collect()
}

async fn settled(what: &str, admin: &Admin, cluster: &str, wanted: &BTreeMap<u16, String>) {
    let said = until(|| async {
        let found = flags(admin, cluster).await;
        if found == *wanted {
            return Ok(());
        }
        Err(format!("{found:?} instead of {wanted:?}"))
    });
    let said = said.await;
    assert!(said.is_ok(), "{what} says of {cluster}: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_a_row_eject_alike() {
    if !envoy_is_there() {
        return;
    }
    let cases = cases();
    let mut members: Vec<Member> = cases.iter().map(|_| Member::start(UP)).collect();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    let clusters: Vec<Value> = cases
        .iter()
        .zip(&members)
        .map(|(case, member)| {
            let mut more = outlier(&case.config);
            if case.name.starts_with("checked") {
                more["health_checks"] = json!([checks()]);
            }
            cluster(case.name, &[member.port()], &more)
        })
        .collect();
    let both = Both::start(|port| listener(port, &names), &clusters).await;
    let mut counted = Vec::new();
    for (place, (who, admin)) in both.admins().into_iter().enumerate() {
        let target = both.ports[place].addr();
        let mut all = Vec::new();
        for (case, member) in cases.iter().zip(&mut members) {
            let mut sent = 0;
            for (fault, count) in case.script {
                member.set(*fault);
                for _ in 0..*count {
                    sent += 1;
                    get(target, case.name, &format!("{}-{sent}", case.name)).await;
                }
            }
            member.set(UP);
            let wanted = BTreeMap::from([(member.port(), case.wanted.to_owned())]);
            settled(who, admin, case.name, &wanted).await;
        }
        // What was not ejected had its time to be by now.
        for (case, member) in cases.iter().zip(&members) {
            let wanted = BTreeMap::from([(member.port(), case.wanted.to_owned())]);
            settled(who, admin, case.name, &wanted).await;
            all.push((case.name, counters(admin, case.name).await));
        }
        counted.push(all);
    }
    assert_eq!(counted[0], counted[1], "Envoy, then Weir");
    let requests = ejecting(&both.weir_admin, "fives").await;
    // Not those before the one that went well.
    assert_eq!(requests, ["fives-4", "fives-5", "fives-6"]);
    both.stop().await;
}

/// The ids of the requests for which the member of a cluster was ejected, as Weir tells.
async fn ejecting(admin: &Admin, cluster: &str) -> Vec<String> {
    let (_, text) = admin
        .get("/clusters?format=json")
        .await
        .expect("it answers");
    let all: Value = serde_json::from_str(&text).expect("it is JSON");
    let clusters = all["cluster_statuses"].as_array().expect("a list");
    let found = clusters.iter().find(|one| one["name"] == cluster);
    let host = &found.expect("it is there")["host_statuses"][0];
    let events = host["weir_health"]["events"].as_array();
    let events = events.expect("a member that was judged has events");
    let ejected = events.iter().find(|event| event["event"] == "ejected");
    let ejected = ejected.expect("it was ejected");
    assert_eq!(ejected["reason"], "CONSECUTIVE_5XX");
    let requests = ejected["requests"].as_array().expect("a list");
    let ids = requests
        .iter()
        .map(|request| request["request_id"].as_str());
    ids.map(|id| id.expect("it has one").to_owned()).collect()
}

#[expect(
    clippy::too_many_lines,
    reason = "one walk of one member, step by step"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_worse_than_others_eject_alike_and_return() {
    if !envoy_is_there() {
        return;
    }
    let mut members: Vec<Member> = (0..5).map(|_| Member::start(UP)).collect();
    let bad = members[4].port();
    let ports: Vec<u16> = members.iter().map(Member::port).collect();
    let alone = Member::start(FIVE);
    let fit = Member::start(Fault::FailsRequests);
    let many = json!({"consecutive_5xx": 1_000_000});
    let with = |more: Value| {
        let mut config = many.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        outlier(&config)
    };
    let rate = with(json!({
        "success_rate_minimum_hosts": 3, "success_rate_request_volume": 5,
    }));
    let percentage = with(json!({
        "enforcing_success_rate": 0, "enforcing_failure_percentage": 100,
        "failure_percentage_minimum_hosts": 3, "failure_percentage_request_volume": 5,
        "failure_percentage_threshold": 50,
    }));
    let back = outlier(&json!({
        "consecutive_5xx": 3, "interval": "0.1s", "base_ejection_time": "0.2s",
    }));
    let weary = Member::start(SAYS_DEGRADED);
    let relents = outlier(&json!({
        "detect_degraded_hosts": true, "interval": "0.1s", "base_ejection_time": "0.2s",
    }));
    let mut checked = outlier(&json!({"consecutive_5xx": 3}));
    checked["health_checks"] = json!([checks()]);
    let clusters = [
        cluster("rate", &ports, &rate),
        cluster("percentage", &ports, &percentage),
        cluster("back", &[alone.port()], &back),
        cluster("checked", &[fit.port()], &checked),
        cluster("relents", &[weary.port()], &relents),
    ];
    let names = ["rate", "percentage", "back", "checked", "relents"];
    let both = Both::start(|port| listener(port, &names), &clusters).await;
    members[4].set(FIVE);
    let verdicts: BTreeMap<u16, String> = ports
        .iter()
        .map(|port| (*port, if *port == bad { EJECTED } else { FINE }.to_owned()))
        .collect();
    for (place, (who, admin)) in both.admins().into_iter().enumerate() {
        let target = both.ports[place].addr();
        for name in ["rate", "percentage"] {
            let found = until(|| async {
                for at in 0..50 {
                    get(target, name, &at.to_string()).await;
                }
                let found = flags(admin, name).await;
                (found == verdicts)
                    .then_some(())
                    .ok_or_else(|| format!("{found:?}"))
            });
            let found = found.await;
            assert!(found.is_ok(), "{who} says of {name}: {found:?}");
        }
        // Ejected for a moment only, so that its counters tell.
        let fives = "ejections_enforced_consecutive_5xx";
        for (name, port, stat) in [
            ("back", alone.port(), fives),
            ("checked", fit.port(), fives),
            ("relents", weary.port(), "ejections_detected_degradation"),
        ] {
            for at in 0..3 {
                get(target, name, &at.to_string()).await;
            }
            let stat = format!("cluster.{name}.outlier_detection.{stat}");
            let limit = crate::setting::PATIENCE;
            let ejected = admin.wait_for_stat(&stat, limit, |value| value == 1).await;
            assert!(ejected.is_ok(), "{who}: {ejected:?}");
            let wanted = BTreeMap::from([(port, FINE.to_owned())]);
            settled(who, admin, name, &wanted).await;
        }
    }
    both.stop().await;
}
