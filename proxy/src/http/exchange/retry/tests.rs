//! Every condition, against every outcome that matters for it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;

use super::asked::Asked;
use super::asked::Listed;
use super::state::State;
use super::state::Wait;
use super::text_of_latest;
use crate::config::matcher::HeaderMatch;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::retry::BackOff;
use crate::config::retry::RateLimitedBackOff;
use crate::config::retry::ResetHeader;
use crate::config::retry::RetryOn;
use crate::config::retry::RetryPolicy;
use crate::error::Reason;

const TOKENS: [&str; 15] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

fn policy(token: &str) -> RetryPolicy {
    let on = RetryOn::of_http(token).or_else(|| RetryOn::of_grpc(token));
    RetryPolicy {
        on: on.expect("a token"),
        status_codes: vec![418],
        headers: vec![HeaderMatch {
            name: HeaderMatchName::Header(HeaderName::from_static("x-again")),
            value: HeaderValueMatch::Present(true),
            invert: false,
            treat_missing_as_empty: false,
        }],
        ..RetryPolicy::default()
    }
}

fn state(policy: RetryPolicy) -> State {
    State::new(&Arc::new(policy), Asked::default(), true).expect("something is tried again")
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

/// The tokens that mind an outcome.
fn minding(minds: impl Fn(&State) -> bool) -> Vec<&'static str> {
    let minds = |token: &&str| minds(&state(policy(token)));
    TOKENS.into_iter().filter(minds).collect()
}

#[test]
fn heads_are_minded_by_these() {
    let check = |status: u16, fields: &[(&'static str, &'static str)], expected: &[&str]| {
        let (code, head) = (StatusCode::from_u16(status).unwrap(), headers(fields));
        let found = minding(|state| state.minds_head(code, &head));
        assert_eq!(found, expected, "{status} {fields:?}");
    };
    check(200, &[], &[]);
    check(404, &[], &[]);
    check(409, &[], &["retriable-4xx"]);
    check(418, &[], &["retriable-status-codes"]);
    check(500, &[], &["5xx"]);
    check(501, &[], &["5xx"]);
    check(502, &[], &["5xx", "gateway-error"]);
    check(503, &[], &["5xx", "gateway-error"]);
    check(504, &[], &["5xx", "gateway-error"]);
    check(200, &[("x-again", "")], &["retriable-headers"]);
    let limited = ("x-envoy-ratelimited", "true");
    check(429, &[limited], &["envoy-ratelimited"]);
    check(503, &[limited, ("x-again", "")], &["envoy-ratelimited"]);
    for (status, token) in [
        ("1", "cancelled"),
        ("4", "deadline-exceeded"),
        ("8", "resource-exhausted"),
        ("13", "internal"),
        ("14", "unavailable"),
    ] {
        check(200, &[("grpc-status", status)], &[token]);
    }
    for status in ["0", "2", "16", "99", "x", ""] {
        check(200, &[("grpc-status", status)], &[]);
    }
}

#[test]
fn failures_are_minded_by_these() {
    let any = ["5xx", "gateway-error", "reset"];
    let check = |reason: Reason, was_sent: bool, more: &[&str]| {
        let found = minding(|state| state.minds_failure(reason, was_sent));
        let expected: Vec<&str> = any.iter().chain(more).copied().collect();
        assert_eq!(found, expected, "{reason:?} {was_sent}");
    };
    let unsent = "reset-before-request";
    check(Reason::ConnectFailed, false, &[unsent, "connect-failure"]);
    check(Reason::ConnectTimeout, true, &["connect-failure"]);
    check(Reason::UpstreamRefused, true, &["refused-stream"]);
    check(Reason::UpstreamRefused, false, &[unsent, "refused-stream"]);
    for reason in [
        Reason::PerTryIdleTimeout,
        Reason::PerTryTimeout,
        Reason::UpstreamClosed,
        Reason::UpstreamProtocol,
        Reason::UpstreamReset,
    ] {
        check(reason, true, &[]);
        check(reason, false, &[unsent]);
    }
    for reason in [
        Reason::DownstreamGone,
        Reason::DownstreamProtocol("x"),
        Reason::NoHealthyUpstream,
        Reason::StreamIdle,
        Reason::UpstreamTimeout,
    ] {
        let found = minding(|state| state.minds_failure(reason, false));
        assert!(found.is_empty(), "{reason:?}: {found:?}");
    }
}

#[test]
fn a_request_may_ask_for_more() {
    let nothing = Arc::new(RetryPolicy::default());
    assert!(State::new(&nothing, Asked::default(), true).is_none());
    let asked = || Asked {
        on: RetryOn::RETRIABLE_STATUS_CODES.and(RetryOn::RETRIABLE_HEADERS),
        retries: Some(2),
        listed: Some(Box::new(Listed {
            status_codes: vec![404],
            header_names: vec![HeaderName::from_static("x-asked")],
        })),
    };
    assert!(State::new(&nothing, asked(), false).is_none());
    let mut state = State::new(&nothing, asked(), true).expect("it asks");
    let none = HeaderMap::new();
    assert!(state.minds_head(StatusCode::NOT_FOUND, &none));
    assert!(!state.minds_head(StatusCode::IM_A_TEAPOT, &none));
    assert!(state.minds_head(StatusCode::OK, &headers(&[("x-asked", "")])));
    let taken = [(); 4].map(|()| state.take());
    assert_eq!(taken, [true, true, false, false]);
}

#[test]
fn waits_grow_and_are_spread() {
    let millis = Duration::from_millis;
    let mut state = state(RetryPolicy {
        back_off: BackOff {
            base: millis(100),
            max: millis(350),
        },
        ..policy("5xx")
    });
    // The largest wait there can be, then one in the middle.
    for (random, expected) in [
        (99, 99),
        (199, 199),
        (349, 349),
        (349, 349),
        (7, 7),
        (350, 0),
    ] {
        let wait = state.wait(None, Duration::ZERO, random);
        assert_eq!(wait, Wait::Exponential(millis(expected)), "{random}");
    }
}

#[test]
fn responses_may_ask_for_a_wait() {
    let reset = |name, is_time| ResetHeader {
        name: HeaderName::from_static(name),
        is_time,
    };
    let policy = RetryPolicy {
        rate_limited: Some(RateLimitedBackOff {
            headers: vec![reset("retry-after", false), reset("x-until", true)],
            max: Duration::from_secs(300),
        }),
        ..policy("5xx")
    };
    let check = |fields: &[(&'static str, &'static str)], random, expected: Option<u64>| {
        let head = headers(fields);
        let now = Duration::from_millis(1_000_000_500);
        let wait = state(policy.clone()).wait(Some(&head), now, random);
        let expected = expected.map(Duration::from_millis);
        match wait {
            Wait::RateLimited(wait) => assert_eq!(Some(wait), expected, "{fields:?}"),
            Wait::Exponential(_) => assert_eq!(None, expected, "{fields:?}"),
        }
    };
    check(&[("retry-after", "10")], 0, Some(10_000));
    check(&[("retry-after", "10")], 4_999, Some(14_999));
    check(&[("retry-after", "10")], 5_000, Some(10_000));
    check(
        &[("retry-after", "301"), ("x-until", "1000007")],
        0,
        Some(7_000),
    );
    check(
        &[("x-until", "1000007"), ("retry-after", "9")],
        0,
        Some(9_000),
    );
    for nothing in [
        ("retry-after", "0"),
        ("retry-after", "-1"),
        ("retry-after", "soon"),
        ("retry-after", "301"),
        ("x-until", "999999"),
        ("x-other", "10"),
    ] {
        check(&[nothing], 0, None);
    }
}

#[test]
fn the_text_says_that_it_is_the_latest() {
    let text = Reason::UpstreamReset.telling().text;
    assert_eq!(
        text_of_latest(text),
        "upstream connect error or disconnect/reset before headers. retried and the latest reset \
         reason: remote reset"
    );
    assert_eq!(text_of_latest("no healthy upstream"), "no healthy upstream");
}
