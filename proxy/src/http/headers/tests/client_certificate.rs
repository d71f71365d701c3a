//! `x-forwarded-client-cert`, mode by mode. That the element is Envoy's is shown beside Envoy.

use std::sync::Arc;

use http::HeaderMap;
use http::HeaderValue;

use super::map;
use crate::config::client_certificate::Details;
use crate::config::client_certificate::Format;
use crate::config::client_certificate::ForwardClientCertificate as Mode;
use crate::http::headers::Peer;
use crate::http::headers::RequestPolicy;
use crate::http::headers::sanitize_request;
use crate::net::tls::Facts;
use crate::net::tls::facts::Names;
use crate::net::tls::facts::Presented;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::Leaf;

const NAME: &str = "x-forwarded-client-cert";

pub(super) fn connection(client: Option<&Leaf>) -> Arc<Facts> {
    let local = Names {
        uris: vec!["spiffe://us/one".into(), "spiffe://us/two".into()],
        ..Names::default()
    };
    Arc::new(Facts {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        group: "X25519",
        server_name: None,
        alpn: None,
        is_resumed: false,
        is_validated: client.is_some(),
        peer: client.map(|leaf| Presented::new(vec![leaf.der.clone(), CA.der.clone()])),
        local: Some(Arc::new(local)),
        trusted: None,
    })
}

fn sent(mode: Mode, tls: Option<&Arc<Facts>>, came: &[&str]) -> Vec<String> {
    let peer = Peer::new("192.0.2.7:1".parse().unwrap(), tls, None);
    let policy = RequestPolicy {
        client_certificate: mode,
        ..RequestPolicy::default()
    };
    let came: Vec<_> = came.iter().map(|value| (NAME, *value)).collect();
    let mut headers = map(&came);
    sanitize_request(&mut headers, &policy, &peer, false, || 0).unwrap();
    values(&headers)
}

fn values(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(NAME).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn without_a_client_certificate_only_one_mode_forwards() {
    let details = Details::default();
    let modes = [
        Mode::Append(details),
        Mode::Forward,
        Mode::Sanitize,
        Mode::Set(details),
    ];
    let anonymous = connection(None);
    for tls in [None, Some(&anonymous)] {
        for mode in modes {
            assert_eq!(sent(mode, tls, &["By=them"]), [""; 0], "{mode:?}");
            assert_eq!(sent(mode, tls, &[]), [""; 0], "{mode:?}");
        }
        assert_eq!(sent(Mode::AlwaysForward, tls, &["By=them"]), ["By=them"]);
    }
}

#[test]
fn with_a_client_certificate_the_mode_decides() {
    let leaf = CA.issue("URI:spiffe://a/b,URI:spiffe://a/c,DNS:a.example");
    let tls = connection(Some(&leaf));
    let hash = tls.peer.as_ref().unwrap().sha256();
    let ours = format!("By=spiffe://us/one;By=spiffe://us/two;Hash={hash}");
    let details = Details::default();
    let sent = |mode, came: &[&str]| sent(mode, Some(&tls), came);
    assert_eq!(sent(Mode::Sanitize, &["By=them"]), [""; 0]);
    assert_eq!(sent(Mode::Forward, &["By=them"]), ["By=them"]);
    assert_eq!(sent(Mode::Forward, &[]), [""; 0]);
    let alone = std::slice::from_ref(&ours);
    assert_eq!(sent(Mode::Set(details), &["By=them"]), alone);
    assert_eq!(sent(Mode::Append(details), &[]), alone);
    assert_eq!(
        sent(Mode::Append(details), &["By=a", "", "By=b"]),
        [format!("By=a,By=b,{ours}")]
    );
    let details = Details {
        subject: true,
        uri: true,
        dns: true,
        issuer: true,
        ..details
    };
    let more =
        r#";Subject="CN=leaf";URI=spiffe://a/b;URI=spiffe://a/c;DNS=a.example;Issuer="CN=ca""#;
    assert_eq!(sent(Mode::Set(details), &[]), [format!("{ours}{more}")]);
}

#[test]
fn what_came_decides_how_ours_is_written_behind_it() {
    let leaf = CA.issue("URI:spiffe://a/b");
    let tls = connection(Some(&leaf));
    let hash = tls.peer.as_ref().unwrap().sha256();
    let by = r#""by":["spiffe://us/one","spiffe://us/two"]"#;
    let object = format!(r#"{{{by},"hash":"{hash}","uri":["spiffe://a/b"]}}"#);
    let element = format!("By=spiffe://us/one;By=spiffe://us/two;Hash={hash};URI=spiffe://a/b");
    for format in [Format::Json, Format::Text] {
        let details = Details {
            uri: true,
            format,
            ..Details::default()
        };
        let check = |came: &str, expected: &str| {
            let sent = sent(Mode::Append(details), Some(&tls), &[came]);
            assert_eq!(sent, [expected], "{format:?} {came}");
        };
        check(
            r#"[{"by":["x"]}]"#,
            &format!(r#"[{{"by":["x"]}},{object}]"#),
        );
        check("[]", &format!("[{object}]"));
        check("[", &format!("[,{element}"));
        check("By=x", &format!("By=x,{element}"));
        let alone = match format {
            Format::Json => format!("[{object}]"),
            Format::Text => element.clone(),
        };
        assert_eq!(sent(Mode::Set(details), Some(&tls), &["By=x"]), [alone]);
    }
}

#[test]
fn an_element_that_can_be_no_header_takes_what_came_with_it() {
    let leaf = CA.issue("URI:spiffe://a/b\r\nx-admin: yes");
    let tls = connection(Some(&leaf));
    let details = Details {
        uri: true,
        ..Details::default()
    };
    for mode in [Mode::Append(details), Mode::Set(details)] {
        assert_eq!(sent(mode, Some(&tls), &["By=them"]), [""; 0], "{mode:?}");
    }
}

#[test]
fn the_element_of_a_connection_is_made_once() {
    let leaf = CA.issue("DNS:a.example");
    let tls = connection(Some(&leaf));
    let peer = Peer::new("192.0.2.7:1".parse().unwrap(), Some(&tls), None);
    let policy = RequestPolicy {
        client_certificate: Mode::Set(Details::default()),
        ..RequestPolicy::default()
    };
    let place = || {
        let mut headers = HeaderMap::new();
        sanitize_request(&mut headers, &policy, &peer, false, || 0).unwrap();
        headers
            .get(NAME)
            .map(HeaderValue::as_bytes)
            .unwrap()
            .as_ptr()
    };
    assert_eq!(place(), place());
}
