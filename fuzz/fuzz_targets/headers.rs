//! Forwarding rules on any header map: no panic, and what must be gone is gone.
#![no_main]

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use proxy::config::client_certificate::ForwardClientCertificate;
use proxy::config::listener::Underscores;
use proxy::config::prefix_map::IpPrefix;
use proxy::http::headers::Peer;
use proxy::http::headers::RequestPolicy;
use proxy::http::headers::sanitize_request;
use proxy::http::headers::validate_authority;

fuzz_target!(|data: &[u8]| {
    let [flags, hops, lines @ ..] = data else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(50) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let policy = RequestPolicy {
        use_remote_address: flags & 1 != 0,
        internal_addresses: (hops & 4 != 0).then(|| vec![IpPrefix::new([192, 0, 2, 0].into(), 24)]),
        xff_trusted_hops: u32::from(hops % 4),
        skip_xff_append: flags & 2 != 0,
        generate_request_id: flags & 4 != 0,
        preserve_external_request_id: flags & 8 != 0,
        via: (flags & 16 != 0).then(|| HeaderValue::from_static("1.1 weir")),
        underscores: match flags >> 5 & 3 {
            0 => Underscores::Reject,
            1 => Underscores::Drop,
            _ => Underscores::Allow,
        },
        client_certificate: ForwardClientCertificate::default(), // nothing is told
    };
    let keep_upgrade = flags & 128 != 0;
    check(headers, &policy, keep_upgrade);
    check_authority(lines);
});

fn check(mut headers: HeaderMap, policy: &RequestPolicy, keep_upgrade: bool) {
    let peer = Peer::new(([192, 0, 2, 7], 9).into(), None, None);
    let protected = ["authorization", "host", "cookie", "content-length"];
    let before: Vec<_> = protected.map(|name| headers.get(name).cloned()).into();
    let sanitized = sanitize_request(&mut headers, policy, &peer, keep_upgrade, || 7);
    if sanitized.is_err() {
        assert_eq!(policy.underscores, Underscores::Reject);
        return;
    }
    let is_internal = sanitized.is_ok_and(|outcome| outcome.is_internal);
    assert_eq!(headers.contains_key("x-envoy-internal"), is_internal);
    for name in [
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "x-forwarded-client-cert",
    ] {
        assert!(!headers.contains_key(name));
    }
    let upgrades = keep_upgrade && headers.contains_key("upgrade");
    let connection = headers.get("connection").map(HeaderValue::as_bytes);
    assert_eq!(connection, upgrades.then_some(b"upgrade".as_slice()));
    assert!(headers.get_all("te").iter().all(|te| te == "trailers"));
    assert!(headers.contains_key("x-forwarded-proto"));
    if policy.use_remote_address && !policy.skip_xff_append {
        let xff = headers.get("x-forwarded-for").map(HeaderValue::as_bytes);
        assert!(xff.is_some_and(|xff| xff.ends_with(b"192.0.2.7")));
    }
    for (name, value) in protected.iter().zip(before) {
        assert_eq!(headers.get(*name), value.as_ref());
    }
}

fn check_authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if validate_authority(text) && !text.is_empty() {
        assert!(!text.contains([',', ' ', '@', '/', '?', '#', '%', '\\']));
        let address = format!("http://{text}/");
        assert!(address.parse::<http::Uri>().is_ok(), "{text}");
    }
}
