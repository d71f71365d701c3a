//! Forwarding rules as tables; security cases S15, P4, P5.

mod authority;
mod client_certificate;
mod edits;

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use client_certificate::connection;

use super::Outcome;
use super::Peer;
use super::RequestPolicy;
use super::ResponsePolicy;
use super::sanitize_request;
use super::sanitize_response;
use super::set_expected_timeout;
use super::set_upstream_service_time;
use crate::config::listener::ServerHeader;
use crate::config::listener::Underscores;
use crate::config::prefix_map::IpPrefix;

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

/// Sorted, so that tables can be compared.
fn list(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut list: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    list.sort();
    list
}

fn peer(address: &str) -> Peer {
    Peer::new(address.parse().unwrap(), None, None)
}

fn edge() -> RequestPolicy {
    RequestPolicy {
        use_remote_address: true,
        ..RequestPolicy::default()
    }
}

fn sanitize(headers: &mut HeaderMap, policy: &RequestPolicy) -> Outcome {
    let peer = peer("192.0.2.7:1234");
    sanitize_request(headers, policy, &peer, false, || 0).unwrap()
}

#[track_caller]
fn check(policy: &RequestPolicy, before: &[(&str, &str)], after: &[(&str, &str)]) {
    let mut headers = map(before);
    sanitize(&mut headers, policy);
    assert_eq!(list(&headers), list(&map(after)));
}

#[test]
fn s15_hop_by_hop_headers_end_here() {
    let plain = RequestPolicy::default();
    check(
        &plain,
        &[
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
        ],
        &[("x-kept", "3"), ("x-forwarded-proto", "http")],
    );
}

#[test]
fn s15_connection_cannot_take_away_protected_headers() {
    let plain = RequestPolicy::default();
    check(
        &plain,
        &[
            (
                "connection",
                "X-Forwarded-For, Authorization, Host, X-Real-IP, traceparent",
            ),
            ("x-forwarded-for", "10.0.0.1"),
            ("authorization", "secret"),
            ("host", "h"),
            ("x-real-ip", "10.0.0.1"),
            ("traceparent", "00"),
        ],
        &[
            ("x-forwarded-for", "10.0.0.1"),
            ("authorization", "secret"),
            ("host", "h"),
            ("x-real-ip", "10.0.0.1"),
            ("traceparent", "00"),
            ("x-forwarded-proto", "http"),
        ],
    );
}

#[test]
fn te_keeps_only_trailers() {
    let plain = RequestPolicy::default();
    let proto = ("x-forwarded-proto", "http");
    check(&plain, &[("te", "trailers")], &[("te", "trailers"), proto]);
    check(
        &plain,
        &[("te", "gzip;q=0.5, Trailers")],
        &[("te", "trailers"), proto],
    );
    check(
        &plain,
        &[("te", "trailers"), ("connection", "te")],
        &[("te", "trailers"), proto],
    );
    check(&plain, &[("te", "gzip"), ("te", "deflate")], &[proto]);
}

#[test]
fn upgrade_goes_on_when_it_is_wanted() {
    let mut headers = map(&[
        ("connection", "keep-alive, Upgrade, x-hop"),
        ("upgrade", "websocket"),
        ("x-hop", "1"),
    ]);
    let plain = RequestPolicy::default();
    sanitize_request(&mut headers, &plain, &peer("192.0.2.7:1"), true, || 0).unwrap();
    let expected = map(&[
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("x-forwarded-proto", "http"),
    ]);
    assert_eq!(list(&headers), list(&expected));
}

#[test]
fn client_address_follows_envoys_rules() {
    let check = |use_remote_address, xff_trusted_hops, xff: &[&str], client: &str, sent: &str| {
        let policy = RequestPolicy {
            use_remote_address,
            xff_trusted_hops,
            ..RequestPolicy::default()
        };
        let before: Vec<_> = xff
            .iter()
            .map(|value| ("x-forwarded-for", *value))
            .collect();
        let mut headers = map(&before);
        let outcome = sanitize(&mut headers, &policy);
        assert_eq!(
            outcome.client.ip(),
            client.parse::<IpAddr>().unwrap(),
            "{xff:?}"
        );
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        let values: Vec<_> = values.iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values.join("|"), sent, "{xff:?}");
    };
    let peer = "192.0.2.7";
    check(true, 0, &[], peer, "192.0.2.7");
    check(true, 0, &["1.1.1.1"], peer, "1.1.1.1,192.0.2.7");
    check(
        true,
        1,
        &["1.1.1.1, 2.2.2.2"],
        "2.2.2.2",
        "1.1.1.1, 2.2.2.2,192.0.2.7",
    );
    check(
        true,
        2,
        &["1.1.1.1, 2.2.2.2"],
        "1.1.1.1",
        "1.1.1.1, 2.2.2.2,192.0.2.7",
    );
    check(
        true,
        3,
        &["1.1.1.1, 2.2.2.2"],
        peer,
        "1.1.1.1, 2.2.2.2,192.0.2.7",
    );
    check(true, 1, &["nonsense"], peer, "nonsense,192.0.2.7");
    check(
        true,
        2,
        &["1.1.1.1", "2.2.2.2"],
        "1.1.1.1",
        "1.1.1.1,2.2.2.2,192.0.2.7",
    );
    check(false, 0, &[], peer, "");
    check(
        false,
        0,
        &["1.1.1.1, 2.2.2.2"],
        "2.2.2.2",
        "1.1.1.1, 2.2.2.2",
    );
    check(false, 1, &["1.1.1.1, ::2"], "1.1.1.1", "1.1.1.1, ::2");
    check(false, 0, &["1.1.1.1, ::2"], "::2", "1.1.1.1, ::2");
    check(false, 2, &["1.1.1.1, 2.2.2.2"], peer, "1.1.1.1, 2.2.2.2");
    check(false, 0, &["1.1.1.1,"], peer, "1.1.1.1,");
}

#[test]
fn loopback_peer_is_written_as_the_nodes_address() {
    let node = Some("198.51.100.1".parse().unwrap());
    let peer = Peer::new(
        "127.0.0.1:5".parse().unwrap(),
        Some(&connection(None)),
        node,
    );
    let mut headers = HeaderMap::new();
    let outcome = sanitize_request(&mut headers, &edge(), &peer, false, || 0).unwrap();
    assert_eq!(outcome.client, "127.0.0.1:5".parse().unwrap());
    let expected = map(&[
        ("x-envoy-external-address", "127.0.0.1"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-proto", "https"),
    ]);
    assert_eq!(list(&headers), list(&expected));
}

#[test]
fn skip_xff_append_leaves_it() {
    let policy = RequestPolicy {
        skip_xff_append: true,
        ..edge()
    };
    check(
        &policy,
        &[("x-forwarded-for", "1.1.1.1")],
        &[
            ("x-envoy-external-address", "192.0.2.7"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "http"),
        ],
    );
}

#[test]
fn forwarded_proto_is_only_believed_from_trusted_hops() {
    let check = |policy: RequestPolicy, expected| {
        let mut headers = map(&[("x-forwarded-proto", "https")]);
        sanitize(&mut headers, &policy);
        assert_eq!(headers.get("x-forwarded-proto").unwrap(), expected);
    };
    check(RequestPolicy::default(), "https");
    check(edge(), "http");
    check(
        RequestPolicy {
            xff_trusted_hops: 1,
            ..edge()
        },
        "https",
    );
}

#[test]
fn p05_outside_clients_cannot_send_internal_headers() {
    let sent = [
        ("x-envoy-internal", "true"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-original-path", "/x"),
        ("x-envoy-decorator-operation", "op"),
        ("x-envoy-attempt-count", "1"),
        ("x-forwarded-client-cert", "By=spiffe://evil"),
    ];
    check(
        &RequestPolicy::default(),
        &sent,
        &[
            ("x-envoy-original-path", "/x"),
            ("x-envoy-decorator-operation", "op"),
            ("x-envoy-attempt-count", "1"),
            ("x-forwarded-proto", "http"),
        ],
    );
    check(
        &edge(),
        &sent,
        &[
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-external-address", "192.0.2.7"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
        ],
    );
}

#[test]
fn p04_aliases_of_asserted_headers_are_stripped() {
    check(
        &RequestPolicy::default(),
        &[
            ("x_forwarded_for", "1.1.1.1"),
            ("x-forwarded.client_cert", "By=x"),
            ("x.request.id", "1"),
            ("x_envoy_internal", "true"),
            ("x_other", "kept"),
        ],
        &[("x_other", "kept"), ("x-forwarded-proto", "http")],
    );
}

#[test]
fn underscores_follow_the_action() {
    let run = |underscores| {
        let policy = RequestPolicy {
            underscores,
            ..RequestPolicy::default()
        };
        let mut headers = map(&[("a_b", "1"), ("c", "2")]);
        let peer = peer("192.0.2.7:1");
        sanitize_request(&mut headers, &policy, &peer, false, || 0)?;
        Ok(headers.contains_key("a_b"))
    };
    assert_eq!(run(Underscores::Allow), Ok(true));
    assert_eq!(run(Underscores::Drop), Ok(false));
    assert_eq!(run(Underscores::Reject), Err("http1.unexpected_underscore"));
}

#[test]
fn request_id_is_a_uuid_and_kept_by_the_rules() {
    let run = |policy: RequestPolicy, sent: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert("x-request-id", HeaderValue::from_static(sent));
        }
        let random = || 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
        sanitize_request(&mut headers, &policy, &peer("192.0.2.7:1"), false, random).unwrap();
        headers
            .get("x-request-id")
            .map(|id| id.to_str().unwrap().to_owned())
    };
    let inside = || RequestPolicy {
        generate_request_id: true,
        ..RequestPolicy::default()
    };
    let outside = || RequestPolicy {
        use_remote_address: true,
        ..inside()
    };
    let preserving = RequestPolicy {
        preserve_external_request_id: true,
        ..outside()
    };
    let ours = Some("00112233-4455-4677-8899-aabbccddeeff".to_owned());
    let theirs = Some("theirs".to_owned());
    assert_eq!(run(inside(), None), ours);
    assert_eq!(run(inside(), Some("theirs")), theirs);
    assert_eq!(run(outside(), Some("theirs")), ours);
    assert_eq!(run(preserving.clone(), Some("theirs")), theirs);
    assert_eq!(run(preserving, None), ours);
    assert_eq!(run(RequestPolicy::default(), None), None);
}

#[test]
fn referer_must_be_one_url() {
    let kept = |values: &[&str]| {
        let sent: Vec<_> = values.iter().map(|value| ("referer", *value)).collect();
        let mut headers = map(&sent);
        sanitize(&mut headers, &RequestPolicy::default());
        headers.contains_key("referer")
    };
    assert!(kept(&["http://a/b"]));
    assert!(!kept(&["/b"]));
    assert!(!kept(&["://b"]));
    assert!(!kept(&["http://"]));
    assert!(!kept(&["http:///b"]));
    assert!(!kept(&["http://a/", "http://b/"]));
}

#[test]
fn via_is_appended_both_ways() {
    let via = Some(HeaderValue::from_static("1.1 weir"));
    let policy = RequestPolicy {
        via: via.clone(),
        ..RequestPolicy::default()
    };
    check(
        &policy,
        &[("via", "1.0 a"), ("via", "1.1 b")],
        &[
            ("via", "1.0 a, 1.1 b, 1.1 weir"),
            ("x-forwarded-proto", "http"),
        ],
    );
    let mut headers = HeaderMap::new();
    let policy = ResponsePolicy {
        via,
        ..response_policy(ServerHeader::PassThrough)
    };
    sanitize_response(&mut headers, &policy, None, false);
    assert_eq!(list(&headers), list(&map(&[("via", "1.1 weir")])));
}

fn response_policy(server_header: ServerHeader) -> ResponsePolicy {
    ResponsePolicy {
        server_name: HeaderValue::from_static("weir"),
        server_header,
        via: None,
        always_set_request_id: false,
    }
}

#[test]
fn server_header_follows_the_transformation() {
    let run = |server_header, sent: Option<&'static str>| {
        let mut headers = map(&[("connection", "x-hop"), ("x-hop", "1")]);
        if let Some(sent) = sent {
            headers.insert("server", HeaderValue::from_static(sent));
        }
        sanitize_response(&mut headers, &response_policy(server_header), None, false);
        assert!(!headers.contains_key("x-hop") && !headers.contains_key("connection"));
        headers
            .get("server")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(run(ServerHeader::Overwrite, Some("up")), text("weir"));
    assert_eq!(run(ServerHeader::AppendIfAbsent, Some("up")), text("up"));
    assert_eq!(run(ServerHeader::AppendIfAbsent, None), text("weir"));
    assert_eq!(run(ServerHeader::PassThrough, Some("up")), text("up"));
    assert_eq!(run(ServerHeader::PassThrough, None), None);
}

#[test]
fn request_id_goes_back_when_asked_for() {
    let mut policy = response_policy(ServerHeader::PassThrough);
    let id = HeaderValue::from_static("id");
    let mut headers = HeaderMap::new();
    sanitize_response(&mut headers, &policy, Some(&id), false);
    assert!(headers.is_empty());
    policy.always_set_request_id = true;
    sanitize_response(&mut headers, &policy, Some(&id), false);
    assert_eq!(headers.get("x-request-id"), Some(&id));
}

#[test]
fn times_are_written_in_milliseconds() {
    let mut headers = HeaderMap::new();
    set_expected_timeout(&mut headers, Duration::ZERO);
    assert!(headers.is_empty());
    let mut check = |timeout, expected| {
        set_expected_timeout(&mut headers, timeout);
        assert_eq!(
            headers.get("x-envoy-expected-rq-timeout-ms").unwrap(),
            expected
        );
        set_upstream_service_time(&mut headers, timeout);
        assert_eq!(
            headers.get("x-envoy-upstream-service-time").unwrap(),
            expected
        );
    };
    check(Duration::from_secs(15), "15000");
    check(Duration::from_millis(7), "7");
    check(Duration::from_micros(12_900), "12");
}

#[test]
fn who_comes_from_inside_may_say_how_to_be_treated() {
    let internal = |use_remote_address| RequestPolicy {
        use_remote_address,
        internal_addresses: Some(vec![IpPrefix::new("192.0.2.0".parse().unwrap(), 24)]),
        ..RequestPolicy::default()
    };
    let kept = |policy: &RequestPolicy, forwarded: Option<&'static str>| {
        let mut headers = map(&[("x-envoy-retry-on", "5xx"), ("x-envoy-internal", "false")]);
        if let Some(forwarded) = forwarded {
            headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
        }
        let outcome = sanitize(&mut headers, policy);
        let is_told = headers.get("x-envoy-internal") == Some(&HeaderValue::from_static("true"));
        assert_eq!(
            outcome.is_internal,
            headers.contains_key("x-envoy-retry-on")
        );
        assert_eq!(outcome.is_internal, is_told);
        outcome.is_internal
    };
    assert!(kept(&internal(true), None));
    assert!(!kept(&internal(true), Some("192.0.2.9")));
    assert!(!kept(&internal(false), None));
    assert!(kept(&internal(false), Some("192.0.2.9")));
    assert!(!kept(&internal(false), Some("198.51.100.1")));
    assert!(!kept(&internal(false), Some("192.0.2.9, 192.0.2.9")));
    assert!(!kept(&edge(), None));
}
