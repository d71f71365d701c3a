//! What upstreams are told of a client's certificate.

use serde_json::Value;
use serde_json::json;

use super::listener::only_manager;
use crate::config::client_certificate::Details;
use crate::config::client_certificate::Format;
use crate::config::client_certificate::ForwardClientCertificate as Mode;

#[track_caller]
fn check(mode: &str, current: &Value, expected: Mode) {
    let mut manager = json!({ "forward_client_cert_details": mode });
    if !current.is_null() {
        manager["set_current_client_cert_details"] = current.clone();
    }
    assert_eq!(only_manager(manager).client_certificate, expected);
}

#[test]
fn every_mode_is_read_with_what_it_says() {
    let none = Details::default();
    let all = Details {
        certificate: true,
        chain: true,
        subject: true,
        uri: true,
        dns: true,
        issuer: true,
        format: Format::Json,
    };
    let subject = Details {
        subject: true,
        ..none
    };
    let said = json!({
        "cert": true, "chain": true, "subject": true, "uri": true, "dns": true, "issuer": true,
        "format": "JSON",
    });
    check("SANITIZE", &Value::Null, Mode::Sanitize);
    check("SANITIZE", &said, Mode::Sanitize);
    check("FORWARD_ONLY", &said, Mode::Forward);
    check("ALWAYS_FORWARD_ONLY", &said, Mode::AlwaysForward);
    check("APPEND_FORWARD", &Value::Null, Mode::Append(none));
    check("APPEND_FORWARD", &said, Mode::Append(all));
    check(
        "SANITIZE_SET",
        &json!({"subject": true}),
        Mode::Set(subject),
    );
    check("SANITIZE_SET", &json!({"subject": false}), Mode::Set(none));
}
