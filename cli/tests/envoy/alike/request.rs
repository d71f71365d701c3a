//! A seeded generator of requests for `bootstrap.yaml`.
//!
//! Every value stands in one of the tables; the generator only combines. Nothing here breaks
//! HTTP itself: what two strict readers may refuse differently is the guard's test, not this one.

use bytes::Bytes;
use fastrand::Rng;

/// A request as it is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// 0 is the listener `plain`, 1 `edge`, 2 `redirect`, 3 `reject`.
    pub(super) listener: usize,
    pub(super) is_http2: bool,
    /// Of HTTP/2.
    pub(super) scheme: &'static str,
    pub(super) method: &'static str,
    pub(super) host: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Body,
}

/// What follows the head.
#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    /// With a content length.
    Sized(usize),
    /// In pieces, its length unknown.
    Streamed(usize, usize),
}

impl Body {
    pub(super) fn bytes(len: usize) -> Bytes {
        (0..len).map(|index| b"weir"[index % 4]).collect()
    }
}

const METHODS: [&str; 12] = [
    "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH",
    "PURGE",
];

/// Half of the requests go to the virtual host with all the routes.
const HOSTS: [&str; 22] = [
    "exact.test",
    "EXACT.test",
    "exact.test:8080",
    "exact.test:9090",
    "exact.test:",
    "mixed.test",
    "exact.test.",
    "suffix.test",
    "a.suffix.test",
    "A.b.SUFFIX.test",
    "a.suffix.test:80",
    "a-tail.test",
    "-tail.test",
    "a.longer.suffix.test",
    "longer.suffix.test",
    "pre.x",
    "PRE.x.test:80",
    "pre.",
    "pre.longer.x",
    "192.0.2.7:80",
    "[2001:db8::1]:80",
    "not.exact.test",
];

const PATHS: [&str; 74] = [
    "/",
    "/match",
    "/match",
    "/match",
    "/match",
    "/match",
    "/match",
    "/match/empty",
    "/match/empty",
    "/matching",
    "/exact",
    "/exact/",
    "/exact;v=1",
    "/case",
    "/CASE",
    "/CaSe",
    "/case/",
    "/CASE/Under/It",
    "/case/x",
    "/sep",
    "/sep/",
    "/sep/a/b",
    "/separate",
    "/re/12",
    "/re/12/x",
    "/re/12/y",
    "/re/",
    "/rewrite/a/b",
    "/rewrite/",
    "/rewrite",
    "/rewrite//x",
    "/moved",
    "/moved/",
    "/moved/x",
    "/movedx",
    "/whole",
    "/host/x",
    "/named",
    "/timeout",
    "/endless",
    "/go/https",
    "/go/host",
    "/go/port",
    "/go/path",
    "/go/query",
    "/go/strip",
    "/go/prefix",
    "/go/prefix/and/more",
    "/direct/text",
    "/direct/empty",
    "/direct/teapot",
    "/direct/unavailable",
    "/weighted",
    "/weighted/x",
    "/missing",
    "/missing/404",
    "/dead",
    "/empty",
    "/two",
    "/two/x",
    "/edit",
    "/edit/x",
    "/edit",
    "/edit",
    "/never",
    "/always",
    "/call",
    "/pre",
    "/prefix",
    "/pre/%41%2fb%20c",
    "/pre/%7Euser",
    "/nothing/here",
    "/pre/a=b&c;d,e@f:g!$'()*+",
    "/%70re",
];

/// Where the two listeners, or two readers, may see different paths.
const ODD_PATHS: [&str; 18] = [
    "//pre",
    "/pre//x",
    "/x/../pre",
    "/pre/./x",
    "/pre/../exact",
    "/pre/..",
    "/..",
    "/pre/%2e%2e/exact",
    "/pre/%2E/x",
    "/match/../../pre",
    "/pre///",
    "/pre/%5c..%5cx",
    "/sep%2Fx",
    "/pre/x/..%2f..",
    "/pre%2Fx",
    "/pre%5cx%5C%2e%2e",
    "/pre/%252Fx",
    "/pre/%2",
];

const QUERIES: [&str; 10] = [
    "?a=b",
    "?a=c",
    "?a=c&a=b",
    "?x=1&a=b",
    "?here",
    "?here=",
    "?",
    "?a=b?c=/d",
    "?q=%20%2F",
    "?a",
];

const HEADERS: [(&str, &str); 66] = [
    ("x-exact", "one"),
    ("x-exact", "One"),
    ("x-exact", "two"),
    ("x-exact", ""),
    ("x-prefix", "prefix"),
    ("x-prefix", "pr"),
    ("x-suffix", "the-SUF"),
    ("x-suffix", "suffix"),
    ("x-contains", "amidst"),
    ("x-contains", "a m i d"),
    ("x-regex", "abc12"),
    ("x-regex", "abc123"),
    ("x-range", "10"),
    ("x-range", "-5"),
    ("x-range", "20"),
    ("x-range", "1x"),
    ("x-range", "+7"),
    ("x-not", "yes-sir"),
    ("x-not", "no"),
    ("x-empty", "full"),
    ("x-empty", ""),
    ("x-here", ""),
    ("x-here", "1"),
    ("x-away", "1"),
    ("x-new-host", "by-header.test"),
    ("x-remove", "1"),
    ("x-remove-table", "1"),
    ("x-append", "theirs"),
    ("x-over", "theirs"),
    ("x-absent", "theirs"),
    ("x-if-exists", "theirs"),
    ("x-route", "forged"),
    ("x-want", "hop"),
    ("x-want", "server"),
    ("x-want", "envoy"),
    ("x-want", "id"),
    ("user-agent", "weir-test/1"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, br"),
    ("cookie", "a=1"),
    ("cookie", "b=2; c=3"),
    ("content-type", "application/grpc"),
    ("content-type", "application/grpc+proto"),
    ("content-type", "text/plain"),
    ("authorization", "Basic d2Vpcg=="),
    ("referer", "http://a.test/x"),
    ("referer", "not a url"),
    ("via", "1.1 before"),
    ("forwarded", "for=192.0.2.1"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-for", "203.0.113.7, 198.51.100.2"),
    ("x-forwarded-for", "nonsense"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-proto", "ftp"),
    ("x-forwarded-host", "theirs.test"),
    ("x-forwarded-port", "99"),
    ("x-request-id", "0123456789abcdef"),
    ("x-forwarded-client-cert", "By=x"),
    ("x-envoy-internal", "true"),
    ("x-envoy-expected-rq-timeout-ms", "1"),
    ("x-envoy-original-path", "/forged"),
    ("x-envoy-external-address", "192.0.2.9"),
    ("x-envoy-unknown", "1"),
    ("x_under", "1"),
    ("te", "trailers"),
    ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
];

/// What only HTTP/1.1 may carry, header by header.
const HOP_BY_HOP: [&[(&str, &str)]; 8] = [
    &[("connection", "keep-alive")],
    &[("connection", "close")],
    &[("connection", "x-hop"), ("x-hop", "1")],
    &[
        ("connection", "X-Hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
    ],
    &[("keep-alive", "timeout=5")],
    &[("proxy-connection", "keep-alive")],
    &[("te", "gzip")],
    &[("connection", "te"), ("te", "trailers, gzip")],
];

/// Makes the requests.
pub(super) struct Generator(Rng);

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    pub(super) fn next(&mut self) -> Request {
        let is_http2 = self.0.bool();
        let mut headers = Vec::new();
        for _ in 0..self.0.usize(..5) {
            let header = self.pick(&HEADERS);
            // More than one of these is not for a proxy to repair.
            let is_single = [
                "content-type",
                "authorization",
                "referer",
                "x-request-id",
                "user-agent",
            ]
            .contains(&header.0);
            if !is_single || headers.iter().all(|(name, _)| *name != header.0) {
                headers.push(header);
                if !is_single && self.one_in(10) {
                    let twins = HEADERS.iter().filter(|(name, _)| *name == header.0);
                    let twins: Vec<_> = twins.copied().collect();
                    headers.push(self.pick(&twins));
                }
            }
        }
        if !is_http2 && self.one_in(5) {
            headers.extend_from_slice(self.pick(&HOP_BY_HOP));
        }
        Request {
            listener: self.listener(),
            is_http2,
            scheme: if self.one_in(6) { "https" } else { "http" },
            method: self.pick(&METHODS),
            host: if self.one_in(2) {
                self.pick(&HOSTS)
            } else {
                "some.test"
            },
            path: self.path(),
            headers,
            body: self.body(),
        }
    }

    /// Those that differ in how they take escaped slashes are asked less often.
    fn listener(&mut self) -> usize {
        if self.one_in(6) {
            2 + self.0.usize(..2)
        } else {
            self.0.usize(..2)
        }
    }

    fn path(&mut self) -> String {
        let path = if self.one_in(8) {
            self.pick(&ODD_PATHS)
        } else {
            self.pick(&PATHS)
        };
        let query = if self.one_in(3) {
            self.pick(&QUERIES)
        } else {
            ""
        };
        format!("{path}{query}")
    }

    fn body(&mut self) -> Body {
        match self.0.u8(..8) {
            0 => Body::Sized(self.0.usize(..2000)),
            1 => Body::Streamed(self.0.usize(1..4), self.0.usize(1..5000)),
            2 => Body::Sized(if self.one_in(4) { 200_000 } else { 5 }),
            _ => Body::None,
        }
    }

    fn one_in(&mut self, many: u8) -> bool {
        self.0.u8(..many) == 0
    }

    fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[self.0.usize(..table.len())]
    }
}
