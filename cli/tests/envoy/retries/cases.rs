//! Conditions and outcomes.

use serde_json::Value;
use serde_json::json;

use super::cluster;
use super::origin::Step;
use super::origin::Step::AfterNext;
use super::origin::Step::Answer;
use super::origin::Step::Close;
use super::origin::Step::CloseAfterNext;
use super::origin::Step::Grpc;
use super::origin::Step::Hang;
use super::origin::Step::Nonsense;
use super::origin::Step::Refuse;
use super::origin::Step::Reset;
use super::typed;

const GOOD: Step = Answer(200, &[]);

/// One route with its cluster, its origin and one request.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) steps: &'static [Step],
    /// None: the virtual host's.
    policy: Option<Value>,
    /// Of the route itself.
    more: Value,
    /// Of its action.
    action: Value,
    fields: &'static str,
    body: usize,
    is_dead: bool,
    is_http2: bool,
    /// The cluster allows no retry at all.
    is_limited: bool,
}

impl Case {
    fn new(name: &'static str, steps: &'static [Step], policy: Value) -> Self {
        Self {
            name,
            steps,
            policy: Some(policy),
            more: json!({}),
            action: json!({}),
            fields: "",
            body: 0,
            is_dead: false,
            is_http2: false,
            is_limited: false,
        }
    }

    /// One condition.
    fn on(name: &'static str, retry_on: &str, steps: &'static [Step]) -> Self {
        Self::new(name, steps, json!({"retry_on": retry_on}))
    }

    fn dead(self) -> Self {
        Self {
            is_dead: true,
            ..self
        }
    }

    fn http2(self) -> Self {
        Self {
            is_http2: true,
            ..self
        }
    }

    fn limited(self) -> Self {
        Self {
            is_limited: true,
            ..self
        }
    }

    fn action(self, action: Value) -> Self {
        Self { action, ..self }
    }

    fn more(self, more: Value) -> Self {
        Self { more, ..self }
    }

    fn body(self, body: usize) -> Self {
        Self { body, ..self }
    }

    fn fields(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    pub(super) fn cluster(&self, port: u16, dead: u16) -> Value {
        let mut cluster = cluster(self.name, if self.is_dead { dead } else { port });
        if self.is_limited {
            cluster["circuit_breakers"] = json!({"thresholds": [{"max_retries": 0}]});
        }
        if self.is_http2 {
            let options = typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                json!({"explicit_http_config": {"http2_protocol_options": {}}}),
            );
            let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            cluster["typed_extension_protocol_options"] = json!({name: options});
        }
        cluster
    }

    pub(super) fn route(&self) -> Value {
        let mut action = self.action.clone();
        action["cluster"] = self.name.into();
        if let Some(policy) = &self.policy {
            let mut policy = policy.clone();
            if policy.get("retry_back_off").is_none() {
                policy["retry_back_off"] = json!({"base_interval": "0.001s"});
            }
            action["retry_policy"] = policy;
        }
        let mut route = self.more.clone();
        route["match"] = json!({"prefix": format!("/{}/", self.name)});
        route["route"] = action;
        route
    }

    pub(super) fn request(&self, path: &str) -> String {
        let method = if self.body > 0 { "POST" } else { "GET" };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        if self.body > 0 {
            request.push_str(&format!("content-length: {}\r\n", self.body));
        }
        request + self.fields + "\r\n" + &"b".repeat(self.body)
    }
}

/// For routes that have none.
pub(super) fn of_host() -> Value {
    json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [404], "num_retries": 2})
}

/// Those in which Envoy and Weir do the same.
pub(super) fn alike() -> Vec<Case> {
    [
        statuses(),
        failures(),
        grpc(),
        limits(),
        durations(),
        requests(),
        hedges(),
        waits(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn statuses() -> Vec<Case> {
    let coded = |name, steps| {
        let codes =
            json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [404, 418]});
        Case::new(name, steps, codes)
    };
    let again = json!({"retry_on": "retriable-headers", "retriable_headers": [
        {"name": "x-again", "string_match": {"prefix": "y"}}]});
    vec![
        Case::on("5xx-500", "5xx", &[Answer(500, &[]), GOOD]),
        Case::on("5xx-501", "5xx", &[Answer(501, &[]), GOOD]),
        Case::on("5xx-503", "5xx", &[Answer(503, &[]), GOOD]),
        Case::on("5xx-404", "5xx", &[Answer(404, &[]), GOOD]),
        Case::on(
            "5xx-twice",
            "5xx",
            &[Answer(500, &[]), Answer(503, &[]), GOOD],
        ),
        Case::on(
            "5xx-ratelimited",
            "5xx",
            &[Answer(503, &[("x-envoy-ratelimited", "true")]), GOOD],
        ),
        Case::on("gateway-500", "gateway-error", &[Answer(500, &[]), GOOD]),
        Case::on("gateway-502", "gateway-error", &[Answer(502, &[]), GOOD]),
        Case::on("gateway-504", "gateway-error", &[Answer(504, &[]), GOOD]),
        Case::on("4xx-409", "retriable-4xx", &[Answer(409, &[]), GOOD]),
        Case::on("4xx-404", "retriable-4xx", &[Answer(404, &[]), GOOD]),
        Case::on(
            "ratelimited",
            "envoy-ratelimited",
            &[Answer(429, &[("x-envoy-ratelimited", "true")]), GOOD],
        ),
        Case::on(
            "ratelimited-429",
            "envoy-ratelimited",
            &[Answer(429, &[]), GOOD],
        ),
        coded("codes-404", &[Answer(404, &[]), GOOD]),
        coded("codes-418", &[Answer(418, &[]), GOOD]),
        coded("codes-503", &[Answer(503, &[]), GOOD]),
        Case::new(
            "headers",
            &[Answer(200, &[("x-again", "yes")]), GOOD],
            again.clone(),
        ),
        Case::new(
            "headers-no",
            &[Answer(200, &[("x-again", "no")]), GOOD],
            again,
        ),
        Case::on("unknown", "nonsense, 5xx ,x", &[Answer(500, &[]), GOOD]),
        Case::on("nothing", "", &[Answer(500, &[]), GOOD]),
    ]
}

fn failures() -> Vec<Case> {
    let dead = |name, on| Case::on(name, on, &[GOOD]).dead();
    vec![
        Case::on("reset-close", "reset", &[Close, GOOD]),
        Case::on("reset-nonsense", "reset", &[Nonsense, GOOD]),
        Case::on("reset-503", "reset", &[Answer(503, &[]), GOOD]),
        Case::on("reset-always", "reset", &[Close]),
        Case::on("5xx-close", "5xx", &[Close, GOOD]),
        Case::on("gateway-close", "gateway-error", &[Close, GOOD]),
        Case::on("gateway-nonsense", "gateway-error", &[Nonsense]),
        Case::on("connect-close", "connect-failure", &[Close, GOOD]),
        Case::on("before-close", "reset-before-request", &[Close, GOOD]),
        Case::on("before-reset", "reset-before-request", &[Reset, GOOD]).http2(),
        dead("connect", "connect-failure"),
        dead("connect-reset", "reset"),
        dead("connect-5xx", "5xx"),
        dead("connect-before", "reset-before-request"),
        dead("connect-refused", "refused-stream"),
        Case::on("refused", "refused-stream", &[Refuse, GOOD]).http2(),
        Case::on("refused-always", "refused-stream", &[Refuse]).http2(),
        Case::on("refused-reset", "refused-stream", &[Reset, GOOD]).http2(),
        Case::on("reset-refused", "reset", &[Refuse, GOOD]).http2(),
        Case::on("reset-reset", "reset", &[Reset, GOOD]).http2(),
        Case::on("http3", "http3-post-connect-failure", &[Close, GOOD]),
    ]
}

fn grpc() -> Vec<Case> {
    const CASES: [(&str, &str, &[Step]); 6] = [
        (
            "cancelled",
            "cancelled",
            &[Answer(200, &[("grpc-status", "1")]), OK],
        ),
        (
            "deadline",
            "deadline-exceeded",
            &[Answer(200, &[("grpc-status", "4")]), OK],
        ),
        (
            "exhausted",
            "resource-exhausted",
            &[Answer(200, &[("grpc-status", "8")]), OK],
        ),
        (
            "internal",
            "internal",
            &[Answer(200, &[("grpc-status", "13")]), OK],
        ),
        (
            "unavailable",
            "unavailable",
            &[Answer(200, &[("grpc-status", "14")]), OK],
        ),
        (
            "unavailable-not",
            "internal,cancelled",
            &[Answer(200, &[("grpc-status", "14")]), OK],
        ),
    ];
    const OK: Step = Answer(200, &[("grpc-status", "0")]);
    let case = |(name, on, steps)| Case::on(name, on, steps).fields(GRPC);
    CASES.into_iter().map(case).collect()
}

/// What is buffered of a client's connection; other cases need less.
pub(super) const CONNECTION_BUFFER_BYTES: usize = 40_000;

const GRPC: &str = "content-type: application/grpc\r\n";

fn limits() -> Vec<Case> {
    let policy = |on: &str, name: &str, value: &str| json!({"retry_on": on, name: value});
    let per_try = |on: &str| policy(on, "per_try_timeout", "0.1s");
    let per_try_idle = |on: &str| policy(on, "per_try_idle_timeout", "0.1s");
    let retries = |count: u32| json!({"retry_on": "5xx", "num_retries": count});
    vec![
        Case::new("none-left", &[Answer(500, &[]), GOOD], retries(0)),
        Case::new("limited", &[Answer(500, &[]), GOOD], retries(1)).limited(),
        Case::new("limited-reset", &[Close, GOOD], retries(1)).limited(),
        Case::new("four", &[Answer(500, &[])], retries(4)),
        Case::new(
            "four-enough",
            &[Answer(500, &[]), Close, Answer(500, &[]), Nonsense, GOOD],
            retries(4),
        ),
        Case::new("per-try", &[Hang, GOOD], per_try("5xx")),
        Case::new("per-try-gateway", &[Hang, GOOD], per_try("gateway-error")),
        Case::new("per-try-reset", &[Hang], per_try("reset")),
        Case::new("per-try-connect", &[Hang, GOOD], per_try("connect-failure")),
        Case::new("per-try-alone", &[Hang, GOOD], per_try("")),
        Case::new("per-try-idle", &[Hang, GOOD], per_try_idle("5xx")),
        Case::new("per-try-idle-alone", &[Hang], per_try_idle("")),
        Case::new("per-try-longer", &[Hang], per_try("5xx")).action(json!({"timeout": "0.05s"})),
        Case::on("timeout", "5xx", &[Hang]).action(json!({"timeout": "0.1s"})),
        Case::new(
            "timeout-in-wait",
            &[Answer(500, &[])],
            json!({"retry_on": "5xx", "num_retries": 1000,
                "retry_back_off": {"base_interval": "10000s"}}),
        )
        .action(json!({"timeout": "0.1s"})),
    ]
}

fn durations() -> Vec<Case> {
    let case = |name, duration| {
        let action = json!({"max_stream_duration": duration});
        Case::on(name, "5xx", &[Hang]).action(action)
    };
    let old = |name, action| Case::on(name, "", &[Hang]).action(action);
    let quick = |name, action| {
        Case::on(name, "", &[GOOD])
            .action(action)
            .fields(WAITS_10_S)
    };
    vec![
        case("duration", json!({"max_stream_duration": "0.1s"})),
        case("duration-body", json!({"max_stream_duration": "0.1s"})).body(10),
        case("duration-grpc", json!({"grpc_timeout_header_max": "0s"})).fields(WAITS_100_MS),
        case("duration-max", json!({"grpc_timeout_header_max": "0.1s"})).fields(WAITS_10_S),
        case(
            "duration-offset",
            json!({"grpc_timeout_header_max": "20s", "grpc_timeout_header_offset": "9.9s"}),
        )
        .fields(WAITS_10_S),
        old("old-grpc", json!({"max_grpc_timeout": "0s"})).fields(WAITS_100_MS),
        old("old-max", json!({"max_grpc_timeout": "0.1s"})).fields(WAITS_10_S),
        old("old-none-said", json!({"max_grpc_timeout": "0.1s"})).fields(GRPC),
        quick(
            "told-duration",
            json!({"max_stream_duration": {"grpc_timeout_header_max": "5s"}}),
        ),
        quick("told-old", json!({"max_grpc_timeout": "5s"})),
        quick(
            "told-offset",
            json!({"max_grpc_timeout": "0s", "grpc_timeout_offset": "1s"}),
        ),
        quick("told-nothing", json!({"timeout": "0s"})),
        quick("told-timeout", json!({"timeout": "7s"})),
        Case::new("told-per-try", &[GOOD], json!({"per_try_timeout": "3s"})),
    ]
}

const WAITS_100_MS: &str = "content-type: application/grpc\r\ngrpc-timeout: 100m\r\n";
const WAITS_10_S: &str = "content-type: application/grpc\r\ngrpc-timeout: 10S\r\n";

fn requests() -> Vec<Case> {
    let wanted = json!({"retry_on": "5xx", "retriable_request_headers": [{"name": "x-again"}, {"name": ":method", "exact_match": "POST"}]});
    let of_host = |name, steps| Case {
        policy: None,
        ..Case::new(name, steps, json!({}))
    };
    let asks = json!({"request_headers_to_add": [
        {"header": {"key": "x-envoy-retry-on", "value": "5xx"}},
        {"header": {"key": "x-envoy-max-retries", "value": "3"}},
    ]});
    let asks_grpc = json!({"request_headers_to_add": [
        {"header": {"key": "x-envoy-retry-grpc-on", "value": "unavailable"}},
    ]});
    vec![
        Case::new("wanted", &[Answer(500, &[]), GOOD], wanted.clone()).fields("x-again: 1\r\n"),
        Case::new("wanted-post", &[Answer(500, &[]), GOOD], wanted.clone()).body(3),
        Case::new("wanted-not", &[Answer(500, &[]), GOOD], wanted),
        of_host("of-host", &[Answer(404, &[]), Answer(404, &[]), GOOD]),
        of_host(
            "of-host-asks",
            &[Answer(500, &[]), Answer(404, &[]), Close, GOOD],
        )
        .more(asks),
        of_host("asks-grpc", &[Answer(200, &[("grpc-status", "14")]), GOOD]).more(asks_grpc),
        Case::on("client-asks", "", &[Answer(500, &[]), GOOD])
            .fields("x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n"),
        Case::on("body", "5xx", &[Answer(500, &[]), GOOD]).body(3000),
        Case::on("body-closed", "reset", &[Close, GOOD]).body(30_000),
        Case::on("body-too-large", "5xx", &[Answer(500, &[]), GOOD])
            .body(3000)
            .more(json!({"per_request_buffer_limit_bytes": 2000})),
        Case::on("body-large", "5xx", &[Answer(500, &[]), GOOD])
            .body(3000)
            .more(json!({"request_body_buffer_limit": 3000})),
        Case::on("body-of-connection", "5xx", &[Answer(500, &[]), GOOD])
            .body(CONNECTION_BUFFER_BYTES + 10_000),
        Case::on("body-of-its-own", "5xx", &[Answer(500, &[]), GOOD])
            .body(CONNECTION_BUFFER_BYTES + 10_000)
            .more(json!({"request_body_buffer_limit": 2 * CONNECTION_BUFFER_BYTES})),
        Case::on("body-dead", "connect-failure", &[GOOD])
            .body(3000)
            .dead(),
    ]
}

/// Attempts that go on beside others (`hedge_on_per_try_timeout`).
fn hedges() -> Vec<Case> {
    let hedge = json!({"hedge_on_per_try_timeout": true});
    let case = |name, on, retries: u32, steps| {
        let policy = json!({"retry_on": on, "per_try_timeout": "0.1s", "num_retries": retries});
        Case::new(name, steps, policy).action(json!({"hedge_policy": hedge}))
    };
    let short = |name, on, retries: u32, steps| {
        let action = json!({"hedge_policy": hedge, "timeout": "0.4s"});
        case(name, on, retries, steps).action(action)
    };
    vec![
        case("hedge", "5xx", 1, &[Hang, GOOD]),
        case("hedge-http2", "5xx", 1, &[Hang, GOOD]).http2(),
        case("hedge-first", "5xx", 1, &[AfterNext(200), Hang]),
        case("hedge-first-http2", "5xx", 1, &[AfterNext(200), Hang]).http2(),
        case("hedge-twice", "5xx", 2, &[Hang, Hang, GOOD]),
        case("hedge-body", "5xx", 1, &[Hang, GOOD]).body(3000),
        case("hedge-body-first", "5xx", 1, &[AfterNext(200), Hang]).body(3000),
        case("hedge-before", "5xx", 1, &[Answer(500, &[]), GOOD]),
        case("hedge-condition", "retriable-4xx", 1, &[Hang, GOOD]),
        case("hedge-and-fail", "5xx", 2, &[Hang, Answer(500, &[]), GOOD]),
        short("hedge-bad", "5xx", 1, &[AfterNext(500), Hang]),
        short("hedge-bad-http2", "5xx", 1, &[AfterNext(500), Hang]).http2(),
        short("hedge-closed", "5xx", 1, &[CloseAfterNext, Hang]),
        short("hedge-none-left", "5xx", 0, &[Hang]),
        short("hedge-no-condition", "", 1, &[Hang]),
        short("hedge-all-hang", "5xx", 1, &[Hang]),
        short("hedge-limited", "5xx", 1, &[Hang, GOOD]).limited(),
        case("hedge-dead", "connect-failure", 1, &[GOOD]).dead(),
        case("hedge-told", "5xx", 1, &[GOOD]),
        Case {
            action: json!({"hedge_policy": {"initial_requests": 1}}),
            ..case("hedge-not", "5xx", 1, &[Hang, GOOD])
        },
    ]
}

/// Responses that say when to come again; a wait that is heard is longer than the route's time.
fn waits() -> Vec<Case> {
    const IN_1: Step = Answer(503, &[("x-reset", "1")]);
    const IN_9: Step = Answer(503, &[("x-reset", "9")]);
    const AT_ONCE: Step = Answer(503, &[("x-reset", "0")]);
    const NEVER: Step = Answer(503, &[("x-reset", "soon")]);
    const LATER: Step = Answer(503, &[("x-reset", "soon"), ("x-later", " 1 ")]);
    const IN_1970: Step = Answer(503, &[("x-until", "1000")]);
    const IN_2200: Step = Answer(503, &[("x-until", "7258118400")]);
    let case = |name, steps| {
        let headers = json!([
            {"name": "x-reset", "format": "SECONDS"},
            {"name": "x-later", "format": "SECONDS"},
            {"name": "x-until", "format": "UNIX_TIMESTAMP"},
        ]);
        let heard = json!({"reset_headers": headers, "max_interval": "5s"});
        let policy = json!({"retry_on": "5xx", "rate_limited_retry_back_off": heard});
        Case::new(name, steps, policy).action(json!({"timeout": "0.5s"}))
    };
    vec![
        case("wait-1", &[IN_1, GOOD]),
        case("wait-9", &[IN_9, GOOD]),
        case("wait-0", &[AT_ONCE, GOOD]),
        case("wait-nonsense", &[NEVER, GOOD]),
        case("wait-second", &[LATER, GOOD]),
        case("wait-past", &[IN_1970, GOOD]),
        case("wait-too-far", &[IN_2200, GOOD]),
    ]
}

/// What requests ask for themselves.
pub(super) fn asked() -> Vec<Case> {
    const BAD: Step = Answer(500, &[]);
    const GRPC_DOWN: Step = Answer(200, &[("grpc-status", "14")]);
    let plain = |name, fields, steps| Case::new(name, steps, json!({})).fields(fields);
    let on = |name, fields, steps| Case::on(name, "5xx", steps).fields(fields);
    let hedge = json!({"hedge_policy": {"hedge_on_per_try_timeout": true}, "timeout": "2s"});
    vec![
        plain(
            "asks-5xx",
            "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n",
            &[BAD, BAD, BAD, GOOD],
        ),
        plain("asks-one", "x-envoy-retry-on: gateway-error\r\n", &[Answer(502, &[]), GOOD]),
        plain("asks-other", "x-envoy-retry-on: reset\r\n", &[BAD, GOOD]),
        plain("asks-of-grpc", "x-envoy-retry-on: unavailable\r\n", &[GRPC_DOWN, GOOD]),
        plain("asks-grpc", "x-envoy-retry-grpc-on: unavailable\r\n", &[GRPC_DOWN, GOOD]),
        plain("asks-grpc-5xx", "x-envoy-retry-grpc-on: 5xx\r\n", &[BAD, GOOD]),
        plain("asks-more", "x-envoy-max-retries: 3\r\n", &[BAD, GOOD]),
        plain(
            "asks-codes",
            "x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 404,418\r\n",
            &[Answer(418, &[]), GOOD],
        ),
        plain(
            "asks-headers",
            "x-envoy-retry-on: retriable-headers\r\nx-envoy-retriable-header-names: x-again\r\n",
            &[Answer(200, &[("x-again", "1")]), GOOD],
        ),
        on("asks-none", "x-envoy-max-retries: 0\r\n", &[BAD, GOOD]),
        on("asks-three", "x-envoy-max-retries: 3\r\n", &[BAD, BAD, BAD, GOOD]),
        on("asks-nonsense", "x-envoy-max-retries: many\r\n", &[BAD, BAD, GOOD]),
        on("asks-timeout", "x-envoy-upstream-rq-timeout-ms: 100\r\n", &[Hang]),
        on("asks-no-timeout", "x-envoy-upstream-rq-timeout-ms: 0\r\n", &[GOOD]),
        on(
            "asks-per-try",
            "x-envoy-upstream-rq-per-try-timeout-ms: 100\r\n",
            &[Hang, GOOD],
        ),
        on(
            "asks-per-try-longer",
            "x-envoy-upstream-rq-per-try-timeout-ms: 900\r\nx-envoy-upstream-rq-timeout-ms: 100\r\n",
            &[Hang],
        ),
        on(
            "asks-hedge",
            "x-envoy-upstream-rq-per-try-timeout-ms: 100\r\nx-envoy-hedge-on-per-try-timeout: true\r\n",
            &[AfterNext(200), Hang],
        ),
        on(
            "asks-no-hedge",
            "x-envoy-upstream-rq-per-try-timeout-ms: 100\r\nx-envoy-hedge-on-per-try-timeout: false\r\n",
            &[Hang, GOOD],
        )
        .action(hedge.clone()),
        on(
            "asks-hedge-nonsense",
            "x-envoy-upstream-rq-per-try-timeout-ms: 100\r\nx-envoy-hedge-on-per-try-timeout: yes\r\n",
            &[AfterNext(200), Hang],
        )
        .action(hedge),
    ]
}

/// What requests say that their sender expects.
pub(super) fn expected() -> Vec<Case> {
    let case = |name, fields, steps| Case::on(name, "5xx", steps).fields(fields);
    vec![
        case(
            "expects",
            "x-envoy-expected-rq-timeout-ms: 100\r\n",
            &[Hang],
        ),
        case(
            "expects-told",
            "x-envoy-expected-rq-timeout-ms: 4321\r\n",
            &[GOOD],
        ),
        case(
            "expects-none",
            "x-envoy-expected-rq-timeout-ms: 0\r\n",
            &[GOOD],
        ),
        case(
            "expects-nonsense",
            "x-envoy-expected-rq-timeout-ms: soon\r\n",
            &[GOOD],
        ),
        case(
            "expects-and-asks",
            "x-envoy-expected-rq-timeout-ms: 100\r\nx-envoy-upstream-rq-timeout-ms: 9000\r\n",
            &[Hang],
        ),
        case(
            "expects-nothing",
            "x-envoy-upstream-rq-timeout-ms: 100\r\n",
            &[Hang],
        ),
        case(
            "expects-a-try",
            "x-envoy-expected-rq-timeout-ms: 9000\r\nx-envoy-upstream-rq-per-try-timeout-ms: 100\r\n",
            &[Hang, GOOD],
        ),
    ]
}

/// Those with a status in trailers.
pub(super) fn trailers() -> Vec<Case> {
    const GOOD: Step = Grpc(1, "0");
    let case = |name, steps| Case::on(name, "unavailable", steps).fields(GRPC);
    vec![
        case("trailers", &[Grpc(0, "14"), GOOD]).http2(),
        case("trailers-http1", &[Grpc(0, "14"), GOOD]),
        case("trailers-of-another-status", &[Grpc(0, "13"), GOOD]).http2(),
        case("trailers-after-a-message", &[Grpc(1, "14"), GOOD]).http2(),
    ]
}
