//! One file per endpoint; each turns views into an answer and knows nothing of HTTP but its status.

mod breakers;
pub(super) mod certs;
pub(super) mod clusters;
pub(super) mod config_dump;
pub(super) mod control;
mod dropped;
mod health;
pub(super) mod home;
pub(super) mod listeners;
pub(super) mod logging;
pub(super) mod memory;
pub(super) mod ready;
pub(super) mod server_info;
mod shadow;
pub(super) mod stats;
mod weights;

use regex::Regex;
use regex::RegexBuilder;
use serde_json::Value;
use serde_json::json;

use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::config::endpoint::Address;
use crate::config::limits::REGEX_BYTES_MAX;

/// The pattern in parameter `name`, if there is one.
fn pattern(query: &Query, name: &str) -> Result<Option<Regex>, Reply> {
    let Some(pattern) = query.value(name).filter(|pattern| !pattern.is_empty()) else {
        return Ok(None);
    };
    let regex = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    regex
        .map(Some)
        .map_err(|error| Reply::bad_request(&format!("invalid {name}: {error}")))
}

/// The parameter `format`, one of `known`; the first if there is none.
fn format_of<'q>(query: &'q Query, path: &str, known: &[&'static str]) -> Result<&'q str, Reply> {
    let default = known.first().copied().unwrap_or_default();
    let format = query.value("format").unwrap_or(default);
    if known.contains(&format) {
        return Ok(format);
    }
    let known = known.join("|");
    Err(Reply::bad_request(&format!(
        "usage: {path}?format=({known})"
    )))
}

/// `core.v3.Address` as JSON.
fn address_json(address: &Address) -> Value {
    match address {
        Address::Pipe(path) => json!({"pipe": {"path": path.to_string_lossy()}}),
        Address::Socket(address) => json!({"socket_address": {
            "address": address.ip().to_string(),
            "port_value": address.port(),
        }}),
    }
}

fn address_text(address: &Address) -> String {
    match address {
        Address::Pipe(path) => path.to_string_lossy().into_owned(),
        Address::Socket(address) => address.to_string(),
    }
}
