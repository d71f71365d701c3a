//! Secrets taken out of JSON: what Envoy's API marks as sensitive, and credentials in headers.
//!
//! The place of a secret (a file name, a variable's name) stays, its content does not.

use serde_json::Map;
use serde_json::Value;

/// What stands in place of text.
const TEXT: &str = "[redacted]";

/// The same where the schema says bytes, in base64.
const BYTES: &str = "W3JlZGFjdGVkXQ==";

/// Members whose content is secret, without underscores: both spellings of JSON names fall together.
const SECRET_MEMBERS: [&str; 11] = [
    "clientsecret",
    "genericsecret",
    "hmacsecret",
    "password",
    "pkcs12",
    "privatekey",
    "privatekeyprovider",
    "sessionticketkeys",
    "token",
    "tokensecret",
    "users",
];

/// Parts of a header's name that make its value a credential.
const SECRET_HEADERS: [&str; 6] = [
    "api-key",
    "authorization",
    "cookie",
    "password",
    "secret",
    "token",
];

/// Takes the secrets out of `value`, whatever message it is.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(redact),
        Value::Object(members) => {
            redact_opaque(members);
            redact_header(members);
            for (name, member) in members {
                if is_secret(name) {
                    blank(member);
                } else if is_metadata(name) {
                    redact_metadata(member);
                } else {
                    redact(member);
                }
            }
        }
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    let folded = name.chars().filter(|c| *c != '_');
    let folded: String = folded.map(|c| c.to_ascii_lowercase()).collect();
    SECRET_MEMBERS.contains(&folded.as_str())
}

/// What gRPC streams are opened with.
fn is_metadata(name: &str) -> bool {
    name == "initial_metadata" || name == "initialMetadata"
}

/// Whatever its keys are called, metadata is where tokens stand.
fn redact_metadata(entries: &mut Value) {
    let entries = entries.as_array_mut().into_iter().flatten();
    for entry in entries.filter_map(Value::as_object_mut) {
        redact_entry(entry);
    }
}

/// Takes out all content below; a data source keeps the place it reads from.
fn blank(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(blank),
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "@type"
                    | "environment_variable"
                    | "environmentVariable"
                    | "filename"
                    | "name"
                    | "path" => {}
                    "inline_bytes" | "inlineBytes" | "value" => *member = BYTES.into(),
                    _ => blank(member),
                }
            }
        }
        Value::String(text) => TEXT.clone_into(text),
        Value::Bool(_) | Value::Null | Value::Number(_) => *value = Value::Null,
    }
}

/// A message of unknown type is shown as its bytes, and who knows what is in them.
fn redact_opaque(members: &mut Map<String, Value>) {
    let unknown = members
        .get("@type")
        .and_then(Value::as_str)
        .is_some_and(|kind| !kind.contains("/google.protobuf."));
    match members.get_mut("value") {
        Some(value) if unknown && value.is_string() => *value = BYTES.into(),
        _ => {}
    }
}

/// `core.v3.HeaderValue`: `{"key": "authorization", "value": ...}`.
fn redact_header(members: &mut Map<String, Value>) {
    let Some(Value::String(key)) = members.get("key") else {
        return;
    };
    let key = key.to_ascii_lowercase();
    if !SECRET_HEADERS.iter().any(|secret| key.contains(secret)) {
        return;
    }
    redact_entry(members);
}

/// Takes the value out of a `core.v3.HeaderValue`.
fn redact_entry(members: &mut Map<String, Value>) {
    for name in ["raw_value", "rawValue"] {
        if let Some(value) = members.get_mut(name) {
            *value = BYTES.into();
        }
    }
    if let Some(value) = members.get_mut("value") {
        *value = TEXT.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::redact;

    fn check(mut input: Value, expected: &Value) {
        redact(&mut input);
        assert_eq!(input, *expected);
    }

    #[test]
    fn keys_and_passwords() {
        check(
            json!({"tls_certificates": [{
                "certificate_chain": {"inline_string": "public"},
                "private_key": {"inline_string": "k"},
                "privateKey": {"inlineBytes": "aw=="},
                "password": {"filename": "/etc/p"},
            }]}),
            &json!({"tls_certificates": [{
                "certificate_chain": {"inline_string": "public"},
                "private_key": {"inline_string": "[redacted]"},
                "privateKey": {"inlineBytes": "W3JlZGFjdGVkXQ=="},
                "password": {"filename": "/etc/p"},
            }]}),
        );
        check(
            json!({"name": "s", "generic_secret": {"secret": {"inline_string": "x"}}}),
            &json!({"name": "s", "generic_secret": {"secret": {"inline_string": "[redacted]"}}}),
        );
        check(
            json!({"session_ticket_keys": {"keys": [{"inline_bytes": "eA=="}]}}),
            &json!({"session_ticket_keys": {"keys": [{"inline_bytes": "W3JlZGFjdGVkXQ=="}]}}),
        );
    }

    #[test]
    fn messages_that_nobody_can_read() {
        check(
            json!([
                {"@type": "t/unknown.Secret", "value": "c2VjcmV0"},
                {"@type": "t/google.protobuf.StringValue", "value": "x"},
            ]),
            &json!([
                {"@type": "t/unknown.Secret", "value": "W3JlZGFjdGVkXQ=="},
                {"@type": "t/google.protobuf.StringValue", "value": "x"},
            ]),
        );
    }

    #[test]
    fn credentials_in_headers() {
        check(
            json!([{"key": "Authorization", "value": "Bearer x"}, {"key": "x-a", "value": "y"}]),
            &json!([{"key": "Authorization", "value": "[redacted]"}, {"key": "x-a", "value": "y"}]),
        );
        check(
            json!({"initial_metadata": [{"key": "x-a", "value": "y"}, {"key": "b", "raw_value": "eA=="}]}),
            &json!({"initial_metadata": [{"key": "x-a", "value": "[redacted]"}, {"key": "b", "raw_value": "W3JlZGFjdGVkXQ=="}]}),
        );
    }
}
