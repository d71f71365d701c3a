//! The session's rules one by one; names cite the rule ids of the xDS reference.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::envoy::service::discovery::v3 as discovery;
use xds_proto::pb::google::protobuf as wkt;
use xds_proto::pb::google::rpc::Status;

use super::Interest;
use super::Lapse;
use super::Options;
use super::Request;
use super::Response;
use super::Session;
use super::Update;
use super::Variant;
use crate::config::Name;
use crate::xds::resource::Refusal;
use crate::xds::resource::ResourceType;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const T0: Duration = Duration::ZERO;

fn session(variant: Variant) -> Session {
    let node = Node {
        id: "n".to_owned(),
        ..Default::default()
    };
    Session::new(Options {
        variant,
        node,
        node_on_first_message_only: true,
    })
}

fn sotw() -> Session {
    session(Variant::Sotw)
}

fn delta() -> Session {
    session(Variant::Delta)
}

/// Bodies are `name=value`; a value beginning with `bad` is refused, `?` has no readable name.
fn accept(_: ResourceType, body: &Bytes) -> Result<(Name, String), Refusal> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let refuse = |name: &str| Refusal {
        name: name.into(),
        detail: format!("field.path: {text}"),
    };
    match text.split_once('=') {
        Some((name, value)) if value.starts_with("bad") => Err(refuse(name)),
        Some((name, value)) => Ok((name.into(), value.to_owned())),
        None => Err(refuse("")),
    }
}

fn any(t: ResourceType, body: &str) -> wkt::Any {
    wkt::Any {
        type_url: t.type_url().to_owned(),
        value: body.as_bytes().to_vec(),
    }
}

fn sotw_response(t: ResourceType, version: &str, nonce: &str, bodies: &[&str]) -> Response {
    Response::Sotw(Box::new(discovery::DiscoveryResponse {
        type_url: t.type_url().to_owned(),
        version_info: version.to_owned(),
        nonce: nonce.to_owned(),
        resources: bodies.iter().map(|b| any(t, b)).collect(),
        ..Default::default()
    }))
}

fn wrapped(t: ResourceType, body: &str, version: &str) -> discovery::Resource {
    discovery::Resource {
        name: body.split('=').next().unwrap().to_owned(),
        version: version.to_owned(),
        resource: body.contains('=').then(|| any(t, body)),
        ..Default::default()
    }
}

fn delta_response(t: ResourceType, nonce: &str, bodies: &[&str], removed: &[&str]) -> Response {
    Response::Delta(Box::new(discovery::DeltaDiscoveryResponse {
        type_url: t.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources: bodies.iter().map(|b| wrapped(t, b, nonce)).collect(),
        removed_resources: removed.iter().map(|r| (*r).to_owned()).collect(),
        ..Default::default()
    }))
}

fn deliver(s: &mut Session, response: Response, now: Duration) -> Update<String> {
    s.on_response(response, now, &mut accept)
        .expect("an open type")
}

fn names(update: &Update<String>) -> Vec<&str> {
    update.accepted.iter().map(|a| &*a.name).collect()
}

fn removed(update: &Update<String>) -> Vec<(&str, bool)> {
    update
        .removed
        .iter()
        .map(|r| (&*r.name, r.was_held))
        .collect()
}

fn next_sotw(s: &mut Session, now: Duration) -> discovery::DiscoveryRequest {
    match s.next_request(now) {
        Some(Request::Sotw(r)) => *r,
        other => panic!("no SotW request: {other:?}"),
    }
}

fn next_delta(s: &mut Session, now: Duration) -> discovery::DeltaDiscoveryRequest {
    match s.next_request(now) {
        Some(Request::Delta(r)) => *r,
        other => panic!("no delta request: {other:?}"),
    }
}

fn open_sotw(t: ResourceType, interest: Interest) -> Session {
    let mut s = sotw();
    s.subscribe(t, interest);
    s.on_stream_open();
    next_sotw(&mut s, T0);
    s
}

fn open_delta(t: ResourceType, interest: Interest) -> Session {
    let mut s = delta();
    s.subscribe(t, interest);
    s.on_stream_open();
    next_delta(&mut s, T0);
    s
}

#[test]
fn c3_node_comes_first_on_every_stream() {
    let mut s = sotw();
    s.subscribe(LDS, Interest::wildcard());
    s.subscribe(CDS, Interest::wildcard());
    for _ in 0..2 {
        s.on_stream_open();
        let first = next_sotw(&mut s, T0);
        assert_eq!(first.node.unwrap().id, "n");
        assert_eq!(first.type_url, CDS.type_url());
        assert_eq!(next_sotw(&mut s, T0).node, None);
        assert_eq!(s.next_request(T0), None);
        s.on_stream_closed();
    }
}

#[test]
fn c3_node_in_every_message_if_so_set() {
    let mut s = Session::new(Options::default());
    s.subscribe(LDS, Interest::wildcard());
    s.subscribe(CDS, Interest::wildcard());
    s.on_stream_open();
    assert!(next_sotw(&mut s, T0).node.is_some());
    assert!(next_sotw(&mut s, T0).node.is_some());
}

#[test]
fn c20_ack_repeats_version_nonce_and_all_names() {
    let mut s = open_sotw(EDS, Interest::names(["a", "b"]));
    let update = deliver(&mut s, sotw_response(EDS, "7", "n1", &["a=1"]), T0);
    assert_eq!(names(&update), ["a"]);
    let ack = next_sotw(&mut s, T0);
    assert_eq!(ack.version_info, "7");
    assert_eq!(ack.response_nonce, "n1");
    assert_eq!(ack.resource_names, ["a", "b"]);
    assert_eq!(ack.error_detail, None);
    assert_eq!(s.next_request(T0), None);
}

#[test]
fn c21_nack_names_every_bad_resource_and_the_last_good_version() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let first = sotw_response(CDS, "1", "n1", &["a=bad", "b=2", "c=bad"]);
    let update = deliver(&mut s, first, T0);
    assert_eq!(names(&update), ["b"], "C-90: the good one applies");
    let nack = next_sotw(&mut s, T0);
    let error = nack.error_detail.unwrap();
    assert_eq!(error.code, 13);
    assert!(error.message.contains("a: field.path") && error.message.contains("c: field.path"));
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("", "n1"));

    deliver(&mut s, sotw_response(CDS, "2", "n2", &["a=1"]), T0);
    assert_eq!(next_sotw(&mut s, T0).version_info, "2");
    deliver(&mut s, sotw_response(CDS, "3", "n3", &["a=bad"]), T0);
    let nack = next_sotw(&mut s, T0);
    assert!(nack.error_detail.is_some());
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("2", "n3"));
}

#[test]
fn c21_type_mismatch_is_named() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let mut response = discovery::DiscoveryResponse {
        type_url: CDS.type_url().to_owned(),
        ..Default::default()
    };
    response.resources.push(any(EDS, "a=1"));
    let update = deliver(&mut s, Response::Sotw(Box::new(response)), T0);
    assert!(
        update
            .nack
            .unwrap()
            .contains("does not match the message-wide type URL")
    );
}

#[test]
fn b6_state_is_per_type() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    s.subscribe(EDS, Interest::names(["a"]));
    next_sotw(&mut s, T0);
    deliver(&mut s, sotw_response(CDS, "1", "c1", &["x=bad"]), T0);
    deliver(&mut s, sotw_response(EDS, "9", "e1", &["a=1"]), T0);
    let nack = next_sotw(&mut s, T0);
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("", "c1"));
    let ack = next_sotw(&mut s, T0);
    assert_eq!((&*ack.version_info, &*ack.response_nonce), ("9", "e1"));
    assert_eq!(ack.error_detail, None);
}

#[test]
fn s27_only_complete_sets_delete_by_absence() {
    for (t, gone) in [
        (CDS, vec![("b", true)]),
        (LDS, vec![("b", true)]),
        (EDS, vec![]),
    ] {
        let mut s = open_sotw(t, Interest::names(["a", "b"]));
        deliver(&mut s, sotw_response(t, "1", "1", &["a=1", "b=1"]), T0);
        let update = deliver(&mut s, sotw_response(t, "2", "2", &["a=1"]), T0);
        assert_eq!(removed(&update), gone, "{t}");
    }
    let mut s = open_sotw(CDS, Interest::wildcard());
    deliver(&mut s, sotw_response(CDS, "1", "1", &["a=1"]), T0);
    let update = deliver(&mut s, sotw_response(CDS, "2", "2", &[]), T0);
    assert_eq!(removed(&update), [("a", true)]);
}

#[test]
fn s27_a_refused_resource_is_not_absent() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    deliver(
        &mut s,
        sotw_response(CDS, "1", "1", &["a=1", "b=1", "c=1"]),
        T0,
    );
    let update = deliver(&mut s, sotw_response(CDS, "2", "2", &["a=bad", "b=2"]), T0);
    assert_eq!(removed(&update), [("c", true)]);
    let update = deliver(&mut s, sotw_response(CDS, "3", "3", &["?"]), T0);
    assert_eq!(removed(&update), [], "an unnamed one may be any of them");
}

#[test]
fn c30_what_was_not_asked_for_is_acked_and_unused() {
    let mut s = open_sotw(EDS, Interest::names(["a"]));
    let update = deliver(
        &mut s,
        sotw_response(EDS, "1", "1", &["a=1", "z=1", "y=bad"]),
        T0,
    );
    assert_eq!(names(&update), ["a"]);
    assert_eq!(update.nack, None);
    assert!(
        s.on_response(sotw_response(LDS, "1", "1", &["l=1"]), T0, &mut accept)
            .is_none()
    );
}

#[test]
fn c31_the_same_name_twice_is_refused() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let update = deliver(
        &mut s,
        sotw_response(CDS, "1", "1", &["a=1", "b=1", "a=2"]),
        T0,
    );
    assert_eq!(names(&update), ["b"]);
    assert!(update.nack.unwrap().contains("a: in the response twice"));
}

#[test]
fn c32_does_not_exist_timer() {
    for mut s in [
        open_sotw(EDS, Interest::names(["a", "b"])),
        open_delta(EDS, Interest::names(["a", "b"])),
    ] {
        let response = match s.options.variant {
            Variant::Sotw => sotw_response(EDS, "1", "1", &["a=1"]),
            Variant::Delta => delta_response(EDS, "1", &["a=1"], &[]),
        };
        deliver(&mut s, response, T0);
        s.next_request(T0);
        assert_eq!(s.next_deadline(T0), Some(Duration::from_secs(15)));
        assert_eq!(s.on_tick(Duration::from_millis(14_999)), []);
        s.on_stream_closed();
        assert_eq!(s.next_deadline(T0), None, "not running in backoff");
        s.on_stream_open();
        assert_eq!(s.next_deadline(T0), None, "not before the request is sent");
        let now = Duration::from_secs(100);
        s.next_request(now);
        assert_eq!(
            s.next_deadline(T0),
            Some(Duration::from_secs(115)),
            "only for b, uncached"
        );
        let lapses = s.on_tick(Duration::from_secs(115));
        assert_eq!(lapses, [Lapse::DoesNotExist(EDS, "b".into())]);
        assert_eq!(s.on_tick(Duration::from_secs(200)), []);
        assert!(s.interest(EDS).unwrap().covers("b"), "it stays subscribed");
    }
}

#[test]
fn b41_wildcard_is_silent_until_a_name_was_sent() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let mut both = Interest::names(["a"]);
    both.wildcard = true;
    s.subscribe(CDS, both);
    assert_eq!(next_sotw(&mut s, T0).resource_names, ["*", "a"]);
    s.subscribe(CDS, Interest::wildcard());
    assert_eq!(next_sotw(&mut s, T0).resource_names, ["*"]);
    s.subscribe(CDS, Interest::default());
    assert_eq!(next_sotw(&mut s, T0).resource_names, Vec::<String>::new());
    s.on_stream_open();
    assert_eq!(
        s.next_request(T0),
        None,
        "an empty first request would mean everything"
    );
}

#[test]
fn b41_a_silent_wildcard_is_spelled_out_before_it_ends() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    s.subscribe(CDS, Interest::default());
    assert_eq!(next_sotw(&mut s, T0).resource_names, ["*"]);
    assert_eq!(next_sotw(&mut s, T0).resource_names, Vec::<String>::new());
    assert_eq!(s.next_request(T0), None);
}

#[test]
fn b42_delta_wildcard_and_names() {
    let mut s = delta();
    s.subscribe(CDS, Interest::wildcard());
    s.on_stream_open();
    assert_eq!(
        next_delta(&mut s, T0).resource_names_subscribe,
        Vec::<String>::new()
    );
    let mut both = Interest::names(["A"]);
    both.wildcard = true;
    s.subscribe(CDS, both);
    assert_eq!(next_delta(&mut s, T0).resource_names_subscribe, ["A"]);
    s.subscribe(CDS, Interest::names(["A"]));
    assert_eq!(next_delta(&mut s, T0).resource_names_unsubscribe, ["*"]);
    s.subscribe(CDS, Interest::default());
    assert_eq!(next_delta(&mut s, T0).resource_names_unsubscribe, ["A"]);
}

#[test]
fn c45_an_ambiguous_name_stays_until_the_server_resolves_it() {
    let mut both = Interest::names(["A"]);
    both.wildcard = true;
    let mut s = open_delta(CDS, both);
    deliver(&mut s, delta_response(CDS, "1", &["A=1", "B=1"], &[]), T0);
    s.subscribe(CDS, Interest::wildcard());
    next_delta(&mut s, T0);
    s.on_stream_open();
    let versions = next_delta(&mut s, T0).initial_resource_versions;
    assert!(versions.contains_key("A") && versions.contains_key("B"));
    deliver(&mut s, delta_response(CDS, "2", &[], &["A"]), T0);
    s.on_stream_open();
    assert!(
        !next_delta(&mut s, T0)
            .initial_resource_versions
            .contains_key("A")
    );
}

#[test]
fn b50_a_nack_may_carry_a_subscription() {
    let mut s = open_delta(EDS, Interest::names(["a"]));
    deliver(&mut s, delta_response(EDS, "1", &["a=bad"], &[]), T0);
    s.subscribe(EDS, Interest::names(["a", "b"]));
    let nack = next_delta(&mut s, T0);
    assert_eq!(nack.response_nonce, "1");
    assert!(nack.error_detail.is_some());
    assert_eq!(nack.resource_names_subscribe, ["b"]);
    assert_eq!(s.next_request(T0), None);
    s.subscribe(EDS, Interest::names(["b"]));
    let change = next_delta(&mut s, T0);
    assert_eq!(change.response_nonce, "", "spontaneous");
    assert_eq!(change.resource_names_unsubscribe, ["a"]);
}

#[test]
fn c54_reconnect_reports_exactly_what_is_held_and_wanted() {
    let mut s = delta();
    s.subscribe(EDS, Interest::names(["a", "b", "c", "d"]));
    s.on_stream_open();
    let first = next_delta(&mut s, T0);
    assert!(
        first.initial_resource_versions.is_empty(),
        "the very first stream"
    );
    deliver(
        &mut s,
        delta_response(EDS, "1", &["a=1", "b=1", "c=1"], &[]),
        T0,
    );
    deliver(&mut s, delta_response(EDS, "2", &["b=bad"], &["c"]), T0);
    s.subscribe(EDS, Interest::names(["b", "c", "d"]));
    s.on_stream_closed();
    s.on_stream_open();
    let again = next_delta(&mut s, T0);
    assert_eq!(again.resource_names_subscribe, ["b", "c", "d"]);
    assert_eq!(again.resource_names_unsubscribe, Vec::<String>::new());
    assert_eq!(again.initial_resource_versions.len(), 1);
    assert_eq!(
        again.initial_resource_versions["b"], "1",
        "the refused update is not held"
    );
    deliver(&mut s, delta_response(EDS, "3", &["d=1"], &[]), T0);
    assert!(
        next_delta(&mut s, T0).initial_resource_versions.is_empty(),
        "never later"
    );
}

#[test]
fn c57_batches_collapse() {
    let mut s = open_delta(EDS, Interest::names(["a"]));
    for names in [vec!["a", "b"], vec!["a"], vec!["a", "b"]] {
        s.subscribe(EDS, Interest::names(names));
    }
    let request = next_delta(&mut s, T0);
    assert_eq!(request.resource_names_subscribe, ["b"]);
    assert_eq!(request.resource_names_unsubscribe, Vec::<String>::new());
    s.subscribe(EDS, Interest::names(["b"]));
    s.subscribe(EDS, Interest::names(["a", "b"]));
    assert_eq!(
        next_delta(&mut s, T0).resource_names_subscribe,
        ["a"],
        "must be sent again"
    );
    assert_eq!(s.next_request(T0), None);
}

#[test]
fn c57_sotw_says_take_away_and_ask_again_in_two_requests() {
    let mut s = open_sotw(EDS, Interest::names(["a", "b"]));
    s.subscribe(EDS, Interest::names(["b"]));
    s.subscribe(EDS, Interest::names(["a", "b"]));
    assert_eq!(next_sotw(&mut s, T0).resource_names, ["b"]);
    assert_eq!(next_sotw(&mut s, T0).resource_names, ["a", "b"]);
    assert_eq!(s.next_request(T0), None);
}

#[test]
fn c58_delta_removals() {
    let mut s = open_delta(EDS, Interest::names(["a", "b", "w"]));
    deliver(&mut s, delta_response(EDS, "1", &["a=1", "b=1"], &[]), T0);
    let update = deliver(
        &mut s,
        delta_response(EDS, "2", &[], &["a", "unknown", "w"]),
        T0,
    );
    assert_eq!(removed(&update), [("a", true), ("w", false)]);
    assert_eq!(update.nack, None);
    let update = deliver(&mut s, delta_response(EDS, "3", &["b=2"], &["b"]), T0);
    assert_eq!((names(&update), removed(&update)), (vec![], vec![]));
    assert!(update.nack.unwrap().contains("both sent and removed"));
    assert_eq!(s.held(EDS).collect::<Vec<_>>(), [(&"b".into(), "1")]);
}

#[test]
fn b81_heartbeats_refresh_and_are_no_update() {
    let ttl = |secs| {
        Some(wkt::Duration {
            seconds: secs,
            nanos: 0,
        })
    };
    let mut s = open_delta(EDS, Interest::names(["a"]));
    let send = |s: &mut Session, body: &str, seconds: Option<i64>, now: u64| {
        let mut resource = wrapped(EDS, body, "1");
        resource.ttl = seconds.and_then(ttl);
        let response = discovery::DeltaDiscoveryResponse {
            type_url: EDS.type_url().to_owned(),
            resources: vec![resource],
            ..Default::default()
        };
        deliver(
            s,
            Response::Delta(Box::new(response)),
            Duration::from_secs(now),
        )
        .accepted
        .len()
    };
    assert_eq!(send(&mut s, "a=1", Some(10), 0), 1);
    assert_eq!(send(&mut s, "a", Some(10), 8), 0);
    assert_eq!(s.on_tick(Duration::from_secs(17)), []);
    let expired = [Lapse::Expired(EDS, "a".into())];
    assert_eq!(s.on_tick(Duration::from_secs(18)), expired);
    send(&mut s, "a=1", Some(10), 20);
    send(&mut s, "a=1", None, 21);
    assert_eq!(
        s.on_tick(Duration::from_secs(60)),
        [],
        "S-80: delivered without TTL"
    );
}

#[test]
fn b81_wrapped_sotw_heartbeat_deletes_nothing() {
    let wrap = |body: &str| wkt::Any {
        type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
        value: wrapped(CDS, body, "ignored").encode_to_vec(),
    };
    let respond = |bodies: &[&str]| {
        Response::Sotw(Box::new(discovery::DiscoveryResponse {
            type_url: CDS.type_url().to_owned(),
            version_info: "1".to_owned(),
            resources: bodies.iter().map(|b| wrap(b)).collect(),
            ..Default::default()
        }))
    };
    let mut s = open_sotw(CDS, Interest::wildcard());
    assert_eq!(
        names(&deliver(&mut s, respond(&["a=1", "b=1"]), T0)),
        ["a", "b"]
    );
    let beat = deliver(&mut s, respond(&["a"]), T0);
    assert_eq!((names(&beat), removed(&beat)), (vec![], vec![]));
}

#[test]
fn b91_resource_errors_keep_the_cache() {
    let error = |name: &str, code| discovery::ResourceError {
        resource_name: Some(discovery::ResourceName {
            name: name.to_owned(),
            ..Default::default()
        }),
        error_detail: Some(Status {
            code,
            ..Default::default()
        }),
    };
    let mut s = open_sotw(CDS, Interest::names(["a", "b", "c"]));
    deliver(&mut s, sotw_response(CDS, "1", "1", &["a=1"]), T0);
    let response = discovery::DiscoveryResponse {
        type_url: CDS.type_url().to_owned(),
        resource_errors: vec![error("a", 5), error("b", 5), error("c", 14), error("z", 5)],
        ..Default::default()
    };
    let update = deliver(&mut s, Response::Sotw(Box::new(response)), T0);
    assert_eq!(
        removed(&update),
        [("b", false)],
        "a is cached, c is passing trouble"
    );
    assert_eq!(update.errors.len(), 3);
    assert_eq!(update.nack, None);
}

#[test]
fn repeated_refusals_are_answered_ever_slower() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let mut now = T0;
    for i in 0..12 {
        deliver(
            &mut s,
            sotw_response(CDS, "1", &i.to_string(), &["a=bad"]),
            now,
        );
        if s.next_request(now).is_none() {
            let next = s.next_deadline(now).unwrap();
            assert!(next > now);
            now = next;
            assert_eq!(next_sotw(&mut s, now).response_nonce, i.to_string());
        }
    }
    assert!(now > Duration::from_secs(30), "{now:?}");
    deliver(&mut s, sotw_response(CDS, "1", "x", &["a=bad"]), now);
    assert_eq!(s.next_request(now), None);
    deliver(&mut s, sotw_response(CDS, "2", "y", &["a=1"]), now);
    assert_eq!(next_sotw(&mut s, now).response_nonce, "x", "in order");
    assert_eq!(next_sotw(&mut s, now).response_nonce, "y");
}

#[test]
fn a_flood_of_responses_stops_the_reading() {
    let mut s = open_sotw(CDS, Interest::wildcard());
    let mut count = 0;
    while s.is_reading() {
        deliver(&mut s, sotw_response(CDS, "1", "1", &[]), T0);
        count += 1;
    }
    assert_eq!(count, super::ANSWERS_MAX);
    while s.next_request(T0).is_some() {
        count -= 1;
    }
    assert_eq!(count, 0);
    assert!(s.is_reading());
}
