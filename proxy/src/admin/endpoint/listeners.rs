//! `/listeners`: where listeners are really bound.

use std::fmt::Write;

use serde_json::Value;
use serde_json::json;

use crate::admin::endpoint::address_json;
use crate::admin::endpoint::address_text;
use crate::admin::endpoint::format_of;
use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::admin::state::ListenerView;

/// As text one address per line, or in the shape of `envoy.admin.v3.Listeners`.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let format = match format_of(call.query, "/listeners", &["text", "json"]) {
        Ok(format) => format,
        Err(reply) => return reply,
    };
    let listeners = call.admin.inspect.listeners();
    if format == "json" {
        let statuses: Vec<_> = listeners.iter().map(status).collect();
        return Reply::json(&json!({ "listener_statuses": statuses }));
    }
    let mut body = String::new();
    for listener in &listeners {
        for address in &listener.addresses {
            let (name, address) = (&listener.name, address_text(address));
            writeln!(body, "{name}::{address}").expect("a string takes every character");
        }
    }
    Reply::text(body)
}

fn status(listener: &ListenerView) -> Value {
    let mut addresses = listener.addresses.iter().map(address_json);
    let mut status = json!({"name": listener.name});
    if let Some(first) = addresses.next() {
        status["local_address"] = first;
    }
    let more: Vec<_> = addresses.collect();
    if !more.is_empty() {
        status["additional_local_addresses"] = more.into();
    }
    status
}
