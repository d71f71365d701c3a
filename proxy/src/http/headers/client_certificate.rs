//! `x-forwarded-client-cert`: what came of it, and our element.
//!
//! The element is Envoy's, byte for byte. Like Envoy's the `By`, `URI` and `DNS` of the text form are
//! not quoted: who trusts an authority that issues names with `;` or `,` in them wants the JSON form.

use std::cell::OnceCell;
use std::sync::Arc;

use http::HeaderMap;
use http::HeaderValue;
use serde_json::json;

use crate::config::client_certificate::Details;
use crate::config::client_certificate::Format;
use crate::config::client_certificate::ForwardClientCertificate;
use crate::http::headers::names::FORWARDED_CLIENT_CERT;
use crate::net::tls::Facts;
use crate::net::tls::facts;
use crate::net::tls::facts::Presented;

/// The certificate of a connection's client, and the elements that tell of it, each made when it is
/// first needed. A connection has one configuration, so each is made once.
#[derive(Clone, Debug)]
pub(super) struct Client {
    tls: Arc<Facts>,
    text: OnceCell<Option<HeaderValue>>,
    json: OnceCell<Option<HeaderValue>>,
}

impl Client {
    /// The client of a TLS connection, if it has a certificate.
    pub(super) fn new(tls: &Arc<Facts>) -> Option<Self> {
        tls.peer.as_ref()?;
        Some(Self {
            tls: Arc::clone(tls),
            text: OnceCell::new(),
            json: OnceCell::new(),
        })
    }

    /// Our element alone, unless it can be no header.
    fn element(&self, details: Details, format: Format) -> Option<&HeaderValue> {
        let (cell, write): (_, fn(&Facts, &Presented, Details) -> String) = match format {
            Format::Json => (&self.json, json),
            Format::Text => (&self.text, text),
        };
        let make = || {
            let peer = self.tls.peer.as_ref()?;
            HeaderValue::try_from(write(&self.tls, peer, details)).ok()
        };
        cell.get_or_init(make).as_ref()
    }
}

/// Makes the header what `mode` wants it to be; `came` is whether the request has it.
pub(super) fn forward(
    headers: &mut HeaderMap,
    mode: ForwardClientCertificate,
    client: Option<&Client>,
    came: bool,
) {
    let kept = match (mode, client) {
        (ForwardClientCertificate::AlwaysForward, _)
        | (ForwardClientCertificate::Forward, Some(_)) => return,
        (ForwardClientCertificate::Sanitize, _) | (_, None) => None,
        (ForwardClientCertificate::Append(details), Some(client)) => {
            appended(headers, client, details)
        }
        (ForwardClientCertificate::Set(details), Some(client)) => {
            client.element(details, details.format).cloned()
        }
    };
    match kept {
        Some(value) => {
            headers.insert(FORWARDED_CLIENT_CERT.clone(), value);
        }
        // Also if our element cannot be a header: what came must not stand in its place.
        None if came => {
            headers.remove(&FORWARDED_CLIENT_CERT);
        }
        None => {}
    }
}

/// Ours behind what came, written as that is.
fn appended(headers: &HeaderMap, client: &Client, details: Details) -> Option<HeaderValue> {
    let came = headers.get_all(&FORWARDED_CLIENT_CERT).iter();
    let came: Vec<&[u8]> = came
        .map(HeaderValue::as_bytes)
        .filter(|value| !value.is_empty())
        .collect();
    let mut joined = came.join(&b","[..]);
    let list = joined
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    match list {
        _ if joined.is_empty() => return client.element(details, details.format).cloned(),
        Some(list) => {
            // Envoy writes a comma behind nothing, too, which no reader of JSON takes.
            let is_empty = list.trim_ascii().is_empty();
            joined.pop();
            if !is_empty {
                joined.push(b',');
            }
            let element = client.element(details, Format::Json)?.as_bytes();
            joined.extend_from_slice(element.strip_prefix(b"[").unwrap_or(element));
        }
        None => {
            joined.push(b',');
            joined.extend_from_slice(client.element(details, Format::Text)?.as_bytes());
        }
    }
    HeaderValue::try_from(joined).ok()
}

/// `By` and `Hash`, then what `details` asks for, in Envoy's order.
fn text(tls: &Facts, peer: &Presented, details: Details) -> String {
    let mut element = Element(String::new());
    let ours = tls.local.iter().flat_map(|local| &local.uris);
    ours.for_each(|uri| element.pair("By", uri));
    element.pair("Hash", &peer.sha256());
    if details.certificate {
        element.quoted("Cert", &peer.escaped_pem());
    }
    if details.chain {
        element.quoted("Chain", &peer.escaped_chain_pem());
    }
    let names = peer.names();
    if details.subject {
        element.quoted("Subject", &names.subject);
    }
    if details.uri {
        names.uris.iter().for_each(|uri| element.pair("URI", uri));
        if names.uris.is_empty() {
            element.pair("URI", "");
        }
    }
    if details.dns {
        names.dns.iter().for_each(|name| element.pair("DNS", name));
    }
    if details.issuer {
        element.quoted("Issuer", &names.issuer);
    }
    element.0
}

/// The same as an array of one object, in which nothing is empty.
fn json(tls: &Facts, peer: &Presented, details: Details) -> String {
    let names = peer.names();
    let chain: Vec<String> = peer.chain().iter().map(|one| facts::pem(one)).collect();
    let certificate = chain.first().map_or("", String::as_str);
    let local: &[Box<str>] = tls.local.as_ref().map_or(&[], |local| &local.uris);
    let members = [
        (true, "by", json!(local)),
        (true, "hash", json!(peer.sha256())),
        (details.certificate, "cert", json!(certificate)),
        (details.chain, "chain", json!(chain)),
        (details.subject, "subject", json!(names.subject)),
        (details.uri, "uri", json!(names.uris)),
        (details.dns, "dns", json!(names.dns)),
        (details.issuer, "issuer", json!(names.issuer)),
    ];
    let members = members.into_iter().filter(|(wanted, _, value)| {
        let is_empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
        *wanted && !is_empty
    });
    let members: Vec<String> = members
        .map(|(_, key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("[{{{}}}]", members.join(","))
}

/// Pairs, with a semicolon between them.
struct Element(String);

impl Element {
    fn pair(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
    }

    fn quoted(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(';');
        }
        self.0.push_str(key);
        self.0.push('=');
    }
}
