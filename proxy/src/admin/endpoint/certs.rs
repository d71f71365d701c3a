//! `/certs`: the certificates in use, in the shape of `envoy.admin.v3.Certificates`.

use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::admin::state::CertificateView;
use crate::admin::state::TlsContextView;
use crate::telemetry::access_log::rfc3339;

const DAY: u64 = 24 * 3600;

/// One entry per TLS context.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let contexts = call.admin.inspect.tls_contexts();
    let contexts: Vec<Value> = contexts.iter().map(context).collect();
    Reply::json(&json!({ "certificates": contexts }))
}

fn context(context: &TlsContextView) -> Value {
    let all = |views: &[CertificateView]| -> Vec<Value> { views.iter().map(certificate).collect() };
    json!({"ca_cert": all(&context.roots), "cert_chain": all(&context.own)})
}

fn certificate(view: &CertificateView) -> Value {
    let names = &view.names;
    let dns = names.dns.iter().map(|name| json!({"dns": name}));
    let uris = names.uris.iter().map(|name| json!({"uri": name}));
    let ips = names.ips.iter().map(|name| json!({"ip_address": name}));
    let alternative: Vec<Value> = dns.chain(uris).chain(ips).collect();
    json!({
        "path": view.path,
        "serial_number": names.serial,
        "subject_alt_names": alternative,
        // A number of 64 bits, which JSON of protobuf writes as text.
        "days_until_expiration": (view.left.as_secs() / DAY).to_string(),
        "valid_from": whole_seconds(view.begin),
        "expiration_time": whole_seconds(view.end),
    })
}

/// JSON of protobuf leaves out a fraction that is zero, and certificates have none.
fn whole_seconds(time: SystemTime) -> String {
    rfc3339(time).replace(".000Z", "Z")
}
