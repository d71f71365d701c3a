//! `grpc-timeout`: how long a gRPC client waits, and how long the next server may take
//! (the gRPC protocol over HTTP/2, "Timeout").

use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::config::route::GrpcTimeout;
use crate::config::route::StreamDuration;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The protocol's longest number.
const NUMBER_MAX: u64 = 99_999_999;

/// What the client says; nothing if it cannot be read. Parts of a millisecond count as one, as with
/// Envoy.
fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| *number <= NUMBER_MAX)?;
    let millis = match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number.div_ceil(1000),
        "n" => number.div_ceil(1_000_000),
        _ => return None,
    };
    is_number.then(|| Duration::from_millis(millis))
}

/// Says it to the next server, in the smallest unit that can.
pub(super) fn write(headers: &mut HeaderMap, timeout: Duration) {
    let mut number = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let mut unit = "m";
    for (next, factor) in [("S", 1000), ("M", 60), ("H", 60)] {
        if number <= NUMBER_MAX {
            break;
        }
        (number, unit) = (number / factor, next);
    }
    let text = format!("{}{unit}", number.min(NUMBER_MAX));
    // Digits and a letter.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// How long a stream may take, all in all: what a gRPC client says if the route listens to it, else what
/// the route or the connection manager says.
pub(super) fn of_stream(
    of_route: &StreamDuration,
    of_manager: Option<Duration>,
    headers: &HeaderMap,
) -> Option<Duration> {
    let Some((said, most)) = read(headers).zip(of_route.grpc_header_max) else {
        return match of_route.max {
            Some(of_route) => Some(of_route).filter(|max| !max.is_zero()),
            None => of_manager,
        };
    };
    let said = if most.is_zero() { said } else { said.min(most) };
    Some(said.saturating_sub(of_route.grpc_header_offset))
}

/// The same of a response, since the end of its request, in the deprecated fields: there zero is no
/// limit.
pub(super) fn of_route(grpc: GrpcTimeout, headers: &HeaderMap) -> Option<Duration> {
    let said = read(headers).unwrap_or_default();
    let said = said
        .checked_sub(grpc.offset)
        .filter(|left| !left.is_zero())
        .unwrap_or(said);
    let is_beyond = said.is_zero() || said > grpc.max;
    let timeout = if is_beyond && !grpc.max.is_zero() {
        grpc.max
    } else {
        said
    };
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_as_long_as_the_client_waits() {
        let seconds = Duration::from_secs;
        let duration = |max, header_max, offset| StreamDuration {
            max,
            grpc_header_max: header_max,
            grpc_header_offset: seconds(offset),
        };
        let manager = Some(seconds(50));
        let check = |route: StreamDuration, said: &'static str, expected: Option<u64>| {
            let found = of_stream(&route, manager, &headers(said));
            assert_eq!(found, expected.map(seconds), "{route:?} {said}");
        };
        check(duration(None, None, 0), "9S", Some(50));
        check(duration(Some(seconds(7)), None, 0), "9S", Some(7));
        check(duration(Some(seconds(0)), None, 0), "9S", None);
        check(
            duration(Some(seconds(7)), Some(seconds(0)), 0),
            "9S",
            Some(9),
        );
        check(
            duration(Some(seconds(7)), Some(seconds(5)), 0),
            "9S",
            Some(5),
        );
        check(
            duration(Some(seconds(7)), Some(seconds(5)), 2),
            "9S",
            Some(3),
        );
        check(duration(None, Some(seconds(20)), 10), "9S", Some(0));
        check(duration(None, Some(seconds(20)), 1), "", Some(50));
    }

    #[test]
    fn deprecated_fields_take_zero_for_no_limit() {
        let seconds = Duration::from_secs;
        let check = |max, offset, said, expected: Option<u64>| {
            let grpc = GrpcTimeout {
                max: seconds(max),
                offset: seconds(offset),
            };
            let found = of_route(grpc, &headers(said));
            assert_eq!(found, expected.map(seconds), "{grpc:?} {said}");
        };
        check(0, 0, "9S", Some(9));
        check(0, 0, "", None);
        check(5, 0, "", Some(5));
        check(5, 0, "9S", Some(5));
        check(20, 2, "9S", Some(7));
        check(20, 9, "9S", Some(9));
        check(20, 0, "0S", Some(20));
    }

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(value))])
    }

    #[test]
    fn every_unit_is_read() {
        let check = |value, millis: Option<u64>| {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(read(&headers(value)), expected, "{value:?}");
        };
        check("1H", Some(3_600_000));
        check("2M", Some(120_000));
        check("3S", Some(3000));
        check("4m", Some(4));
        check("5000u", Some(5));
        check("5001u", Some(6));
        check("1n", Some(1));
        check("0m", Some(0));
        check("99999999H", Some(359_999_996_400_000));
        for nonsense in ["", "m", "1", "100000000m", "-1m", "+1m", "1 m", "1x", "1mm"] {
            check(nonsense, None);
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let check = |millis, expected: &str| {
            let mut headers = HeaderMap::new();
            write(&mut headers, Duration::from_millis(millis));
            assert_eq!(headers[GRPC_TIMEOUT], expected, "{millis}");
        };
        check(0, "0m");
        check(1500, "1500m");
        check(99_999_999, "99999999m");
        check(100_000_000, "100000S");
        check(100_000_000_000, "1666666M");
        check(6_000_000_000_000, "1666666H");
        check(u64::MAX, "99999999H");
    }
}
