//! Which requests a person at a browser may have been tricked into.
//!
//! Two attacks: a page whose name is made to resolve to this machine (DNS rebinding) reads answers;
//! a page of another origin sends a POST. Command line tools and scrapers are not affected.

use std::net::IpAddr;
use std::net::SocketAddr;

use http::HeaderMap;
use http::Method;
use http::header::HOST;
use http::header::ORIGIN;

/// Says in one sentence why a request is refused.
pub(super) fn refusal(
    bound: Option<SocketAddr>,
    method: &Method,
    headers: &HeaderMap,
) -> Option<&'static str> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or(""));
    let loopback = bound.is_some_and(|bound| bound.ip().is_loopback());
    if loopback && host.is_some_and(|host| !is_local(host)) {
        return Some("Host is not an address or name of this machine");
    }
    if method != Method::GET && method != Method::HEAD && is_foreign(headers, host) {
        return Some("a change asked for by a page of another origin");
    }
    None
}

/// An address cannot be rebound, and `localhost` is not asked of DNS (RFC 6761 section 6.3).
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(is_address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    is_address(name) || name.eq_ignore_ascii_case("localhost")
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Browsers send `Origin` with every POST, and `Sec-Fetch-Site` where they know it.
fn is_foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers
        .get("sec-fetch-site")
        .map(http::HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    authority.map(|(_, authority)| authority) != host
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::HeaderName;
    use http::HeaderValue;
    use http::Method;

    use super::refusal;

    fn check(
        bound: &str,
        method: &Method,
        headers: &[(&'static str, &'static str)],
        allowed: bool,
    ) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let bound = bound.parse().ok();
        let refused = refusal(bound, method, &headers);
        assert_eq!(refused.is_none(), allowed, "{bound:?} {headers:?}");
    }

    #[test]
    fn rebinding() {
        let get = |host, allowed| check("127.0.0.1:9901", &Method::GET, &[("host", host)], allowed);
        for host in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1:9901",
            "[::1]:9901",
            "10.1.2.3",
            "localhost.",
        ] {
            get(host, true);
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "",
            "[evil]",
            "127.0.0.1.evil.example:1",
        ] {
            get(host, false);
        }
        check("127.0.0.1:9901", &Method::GET, &[], true);
        check(
            "0.0.0.0:9901",
            &Method::GET,
            &[("host", "weir.example")],
            true,
        );
        check(
            "a unix socket",
            &Method::GET,
            &[("host", "weir.example")],
            true,
        );
    }

    #[test]
    fn forgery() {
        let host = ("host", "localhost:9901");
        let post = |other: &[(&'static str, &'static str)], allowed| {
            let headers: Vec<_> = [host].into_iter().chain(other.iter().copied()).collect();
            check("127.0.0.1:9901", &Method::POST, &headers, allowed);
        };
        post(&[], true);
        post(&[("origin", "http://localhost:9901")], true);
        post(&[("origin", "http://evil.example")], false);
        post(&[("origin", "null")], false);
        post(&[("sec-fetch-site", "cross-site")], false);
        post(
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://localhost:9901"),
            ],
            true,
        );
        check(
            "127.0.0.1:1",
            &Method::GET,
            &[host, ("origin", "http://evil.example")],
            true,
        );
    }
}
