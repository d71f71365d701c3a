//! What came of a request: the answer, and what the origin received.
//!
//! Not compared: `date`, times, the random value of `x-request-id` (that there is one is), the
//! order of fields of different names, and the text of answers to errors.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bench::client;
use bench::client::Answer;
use bench::origin::Seen;
use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::body::Frame;
use hyper::body::SizeHint;

use super::request::Body;
use super::request::Request;

/// Headers whose values are each proxy's own affair, but not their presence.
const VALUE_FREE: [&str; 3] = ["date", "x-envoy-upstream-service-time", "x-request-id"];

/// Where an origin echoes a request whose answer has no body.
pub(super) const ECHO: &str = "x-echo";

/// Everything compared, by the name of the part.
#[derive(Debug)]
pub(super) struct Outcome(BTreeMap<String, String>);

/// One part that is not the same.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) envoy: String,
    pub(super) weir: String,
}

impl Difference {
    /// Differences of one kind probably have one cause.
    pub(super) fn kind(&self) -> String {
        match self.field.as_str() {
            "status" => format!("status {} and not {}", self.weir, self.envoy),
            field => field.to_owned(),
        }
    }
}

impl Outcome {
    /// The status; 0 without an answer.
    pub(super) fn status(&self) -> u16 {
        self.0
            .get("status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    /// Parts that differ; only the status if that does, for the rest follows from it.
    pub(super) fn differences(&self, weir: &Self) -> Vec<Difference> {
        let mut fields: Vec<&String> = self.0.keys().chain(weir.0.keys()).collect();
        fields.sort_unstable();
        fields.dedup();
        let part = |outcome: &Self, field: &str| {
            outcome
                .0
                .get(field)
                .cloned()
                .unwrap_or_else(|| "(none)".to_owned())
        };
        let mut differences: Vec<Difference> = fields
            .into_iter()
            .map(|field| Difference {
                field: field.clone(),
                envoy: part(self, field),
                weir: part(weir, field),
            })
            .filter(|difference| difference.envoy != difference.weir)
            .collect();
        if differences
            .iter()
            .any(|difference| difference.field == "status")
        {
            differences.retain(|difference| difference.field == "status");
        }
        differences
    }

    fn put(&mut self, field: impl Into<String>, value: impl Into<String>) {
        self.0.insert(field.into(), value.into());
    }

    fn put_headers<'h>(&mut self, side: &str, headers: impl Iterator<Item = (&'h str, &'h str)>) {
        let mut joined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in headers {
            joined.entry(name).or_default().push(value);
        }
        for (name, values) in joined {
            let is_free = VALUE_FREE.contains(&name);
            let values = if is_free {
                format!("{} values", values.len())
            } else {
                values.join(",").replace(", ", ",")
            };
            self.put(format!("{side} {name}"), values);
        }
    }

    fn put_answer(&mut self, answer: &Answer) {
        self.put("status", answer.status.as_u16().to_string());
        let headers = answer.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("(not ASCII)")));
        // An echo is as long as what it tells, which is compared part by part.
        let is_echo = answer.headers.contains_key("x-stays");
        let is_compared = |name: &str| name != ECHO && (name != "content-length" || !is_echo);
        self.put_headers("answer", headers.filter(|(name, _)| is_compared(name)));
        let echo = answer.headers.get(ECHO).map(http::HeaderValue::as_bytes);
        if let Ok(seen) = serde_json::from_slice::<Seen>(echo.unwrap_or(&answer.body)) {
            self.put_seen(&seen);
        } else if answer.status.is_success() || answer.status == 418 {
            self.put("answer body", answer.text());
        }
    }

    fn put_seen(&mut self, seen: &Seen) {
        let is_weighted =
            seen.path.starts_with("/weighted") && ["blue", "green"].contains(&&*seen.origin);
        self.put(
            "origin",
            if is_weighted {
                "blue or green"
            } else {
                &*seen.origin
            },
        );
        self.put("method", &*seen.method);
        self.put("path", &*seen.path);
        self.put("authority", &*seen.authority);
        self.put("scheme", &*seen.scheme);
        self.put("version", &*seen.version);
        self.put(
            "body",
            format!("{} bytes, {:x}", seen.body_bytes, seen.body_checksum),
        );
        let headers = seen.headers.iter().map(|(name, value)| (&**name, &**value));
        // Comes with one of two clusters, so it says which and nothing more.
        self.put_headers("request", headers.filter(|(name, _)| *name != "x-weighted"));
        let trailers = seen
            .trailers
            .iter()
            .map(|(name, value)| (&**name, &**value));
        self.put_headers("request trailer", trailers);
    }
}

/// Sends the request and looks at what comes of it.
pub(super) async fn of(request: &Request, targets: [SocketAddr; 4]) -> Outcome {
    let mut outcome = Outcome(BTreeMap::new());
    let target = targets[request.listener];
    let message = message(request);
    let answer = if request.is_http2 {
        client::http2(target, message).await
    } else {
        client::http1(target, message).await
    };
    match answer {
        Ok(answer) => outcome.put_answer(&answer),
        Err(error) => outcome.put("status", error.to_string()),
    }
    outcome
}

fn message(request: &Request) -> http::Request<Pieces> {
    let builder = http::Request::builder().method(request.method);
    let builder = if request.is_http2 {
        builder.uri(format!(
            "{}://{}{}",
            request.scheme, request.host, request.path
        ))
    } else {
        builder.uri(&request.path).header("host", request.host)
    };
    let headers = request.headers.iter();
    let builder = headers.fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder
        .body(Pieces::new(&request.body))
        .expect("the tables hold valid parts")
}

/// A body of a few pieces.
struct Pieces {
    left: VecDeque<Bytes>,
    is_sized: bool,
}

impl Pieces {
    fn new(body: &Body) -> Self {
        let (count, len, is_sized) = match *body {
            Body::None => (0, 0, true),
            Body::Sized(len) => (1, len, true),
            Body::Streamed(count, len) => (count, len, false),
        };
        let left = (0..count)
            .map(|_| Body::bytes(len))
            .filter(|piece| !piece.is_empty());
        Self {
            left: left.collect(),
            is_sized,
        }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.left.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized {
            SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
        } else {
            SizeHint::default()
        }
    }
}
