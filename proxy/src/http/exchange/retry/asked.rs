//! What a request itself says of its retries, in headers that only those may send who are trusted.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::config::retry::RetryOn;

/// What a proxy before this one has told.
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const HEDGE_ON_PER_TRY_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const PER_TRY_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
const TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const RETRIABLE_HEADER_NAMES: HeaderName =
    HeaderName::from_static("x-envoy-retriable-header-names");
const RETRIABLE_STATUS_CODES: HeaderName =
    HeaderName::from_static("x-envoy-retriable-status-codes");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");

/// Header names and status codes one request may add; a header has room for many, and each is looked
/// for in every response.
const LISTED_MAX: usize = 64;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Beside what the policy says.
    pub(super) on: RetryOn,
    /// Instead of what it says.
    pub(super) retries: Option<u32>,
    /// Beside what the policy lists.
    pub(super) listed: Option<Box<Listed>>,
}

/// What makes a response not good enough.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// These statuses.
    pub(super) status_codes: Vec<u16>,
    /// That it has one of these.
    pub(super) header_names: Vec<HeaderName>,
}

/// How long the request may take, by its own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http::exchange) struct Timeouts {
    /// Instead of the route's; zero is no limit.
    pub(in crate::http::exchange) route: Option<Duration>,
    /// Instead of the policy's; zero is no limit.
    pub(in crate::http::exchange) per_try: Option<Duration>,
    /// Instead of what the route's hedge policy says of attempts that reach it.
    pub(in crate::http::exchange) hedges: Option<bool>,
}

impl Timeouts {
    /// Takes them out of the headers, which do not go upstream. What the sender expects, if that is
    /// respected, goes before what it asks for, and stays: the next one is told it anew.
    pub(in crate::http::exchange) fn take(
        headers: &mut HeaderMap,
        respects_expected: bool,
    ) -> Self {
        let read = |value: &HeaderValue| {
            let millis = value.to_str().ok()?.trim().parse().ok()?;
            Some(Duration::from_millis(millis))
        };
        let expected = respects_expected.then(|| headers.get(EXPECTED)).flatten();
        let expected = expected.and_then(read);
        let mut take = |name| read(&headers.remove(name)?);
        let route = expected.or_else(|| take(TIMEOUT));
        let per_try = take(PER_TRY_TIMEOUT);
        let hedges = headers.remove(HEDGE_ON_PER_TRY_TIMEOUT);
        Self {
            route,
            per_try,
            hedges: hedges.and_then(|value| value.to_str().ok()?.parse().ok()),
        }
    }
}

impl Asked {
    /// Takes it out of the headers, which do not go upstream.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        let http = headers.remove(RETRY_ON);
        let grpc = headers.remove(RETRY_GRPC_ON);
        let retries = headers.remove(MAX_RETRIES);
        let codes = headers.remove(RETRIABLE_STATUS_CODES);
        let names = headers.remove(RETRIABLE_HEADER_NAMES);
        headers.remove(HEDGE_ON_PER_TRY_TIMEOUT);
        headers.remove(PER_TRY_TIMEOUT);
        let grpc = tokens(grpc.as_ref()).filter_map(RetryOn::of_grpc);
        let conditions = tokens(http.as_ref())
            .filter_map(RetryOn::of_http)
            .chain(grpc);
        let retries = retries.and_then(|retries| retries.to_str().ok()?.trim().parse().ok());
        let listed = (codes.is_some() || names.is_some()).then(|| {
            let codes = tokens(codes.as_ref()).filter_map(|code| code.parse().ok());
            let names = tokens(names.as_ref()).filter_map(|name| name.parse().ok());
            Box::new(Listed {
                status_codes: codes.take(LISTED_MAX).collect(),
                header_names: names.take(LISTED_MAX).collect(),
            })
        });
        Self {
            on: conditions.fold(RetryOn::NOTHING, RetryOn::and),
            retries,
            listed,
        }
    }
}

fn tokens(value: Option<&HeaderValue>) -> impl Iterator<Item = &str> {
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_taken_away() {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        add(RETRY_ON, "5xx, retriable-headers,nonsense,cancelled");
        add(RETRY_GRPC_ON, "unavailable,5xx");
        add(MAX_RETRIES, "7");
        add(RETRIABLE_STATUS_CODES, "404, x,418");
        add(RETRIABLE_HEADER_NAMES, "x-a, ,y z,x-b");
        add(http::header::ACCEPT, "*/*");
        let on = RetryOn::SERVER_ERROR
            .and(RetryOn::RETRIABLE_HEADERS)
            .and(RetryOn::GRPC_UNAVAILABLE);
        let names = ["x-a", "x-b"].map(HeaderName::from_static);
        let wanted = Asked {
            on,
            retries: Some(7),
            listed: Some(Box::new(Listed {
                status_codes: vec![404, 418],
                header_names: names.to_vec(),
            })),
        };
        assert_eq!(Asked::take(&mut headers), wanted);
        assert_eq!(headers.len(), 1);
        assert_eq!(Asked::take(&mut headers), Asked::default());
    }

    #[test]
    fn timeouts_are_milliseconds() {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_static("250"));
        headers.insert(PER_TRY_TIMEOUT, HeaderValue::from_static("x"));
        headers.insert(HEDGE_ON_PER_TRY_TIMEOUT, HeaderValue::from_static("true"));
        let wanted = Timeouts {
            route: Some(Duration::from_millis(250)),
            per_try: None,
            hedges: Some(true),
        };
        headers.insert(EXPECTED, HeaderValue::from_static("90"));
        let expected = Timeouts {
            route: Some(Duration::from_millis(90)),
            ..wanted
        };
        assert_eq!(Timeouts::take(&mut headers.clone(), true), expected);
        assert_eq!(Timeouts::take(&mut headers, false), wanted);
        assert_eq!(headers.len(), 1, "it is told anew");
    }
}
