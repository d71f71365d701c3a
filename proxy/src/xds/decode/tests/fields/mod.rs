//! A walk over every field of every message the decoders open: each field is set alone to values
//! that are not its default, and something must happen: the value changes, a warning or an error
//! names it. What the walk finds is the table of `SUPPORTED_FIELDS.md`.
//!
//! A field without any effect is a bug unless it stands in [`SILENT`] with its reason.

mod roots;
mod walk;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use walk::Effect;
use walk::Tables;
use walk::walk;

/// The document in the repository, next to the crate's manifest.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/SUPPORTED_FIELDS.md");

/// Set to write the document instead of comparing it.
const UPDATE: &str = "WEIR_UPDATE_SUPPORTED_FIELDS";

/// Fields that may have no effect, with the reason; a name that ends in a dot means all of a message.
const SILENT: &[(&str, &str)] = &[
    ("envoy.config.accesslog.v3.AccessLog.name", BY_TYPE),
    (
        "envoy.config.bootstrap.v3.RuntimeLayer.name",
        "it is for the reader of the configuration",
    ),
    (
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch.name",
        "it is for statistics",
    ),
    (
        "envoy.config.cluster.v3.Cluster.ignore_health_on_host_removal",
        "hosts that are removed go at once, whatever their health",
    ),
    (
        "envoy.config.core.v3.GrpcService.EnvoyGrpc.skip_envoy_headers",
        "no such headers are sent",
    ),
    (
        "envoy.config.core.v3.JsonFormatOptions.sort_properties",
        "keys are always sorted",
    ),
    (
        "envoy.config.core.v3.SocketOption.description",
        "it is for the reader of the configuration",
    ),
    ("envoy.config.core.v3.TransportSocket.name", BY_TYPE),
    ("envoy.config.core.v3.TypedExtensionConfig.name", BY_TYPE),
    (
        "envoy.config.core.v3.WatchedDirectory.watch_modify",
        "files edited in place are always noticed",
    ),
    ("envoy.config.listener.v3.Filter.name", BY_TYPE),
    (
        "envoy.config.listener.v3.Listener.drain_type",
        "there is no health to be taken away, the one thing DEFAULT drains for that MODIFY_ONLY does not",
    ),
    (
        "envoy.config.listener.v3.Listener.reuse_port",
        "true is the default",
    ),
    ("envoy.config.listener.v3.ListenerFilter.name", BY_TYPE),
    (
        "envoy.config.route.v3.RetryPolicy.RetryHostPredicate.name",
        BY_TYPE,
    ),
    (
        "envoy.config.route.v3.RetryPolicy.RetryPriority.name",
        BY_TYPE,
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.name",
        BY_TYPE,
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.disable_stateful_session_resumption",
        "sessions are never kept here",
    ),
    ("xds.core.v3.TypedExtensionConfig.name", BY_TYPE),
];

const BY_TYPE: &str = "the type of typed_config decides";

fn silent_reason(message: &str, field: &str) -> Option<&'static str> {
    let name = format!("{message}.{field}");
    SILENT
        .iter()
        .find(|(known, _)| *known == name || known.ends_with('.') && name.starts_with(known))
        .map(|(_, reason)| *reason)
}

fn document(found: &Tables) -> String {
    let mut text = String::from(
        "# Supported fields\n\n\
         Generated from a walk over every field of every message the decoders open\n\
         (`xds::decode::tests::fields`); do not edit. A field that is *ignored* is reported as a\n\
         warning when it is set, one that is *refused* makes its resource invalid, and *partly* means\n\
         that it depends on the value. Extensions (`typed_config`) have tables of their own.\n",
    );
    for (message, fields) in found {
        if fields.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {message}\n\n| field | | |\n|---|---|---|\n");
        for (field, found) in fields.values() {
            let effects: Vec<_> = found.effects.iter().copied().collect();
            let (word, note) = match effects.as_slice() {
                _ if found.opened => ("supported", "see its own table"),
                _ if found.extension => ("by type", ""),
                [] => ("no effect", silent_reason(message, field).unwrap_or("BUG")),
                [Effect::Supported] => ("supported", ""),
                [Effect::Warned] => ("ignored", found.note.as_str()),
                [Effect::Rejected] => ("refused", found.note.as_str()),
                _ => ("partly", found.note.as_str()),
            };
            let _ = writeln!(text, "| {field} | {word} | {} |", note.replace('|', "\\|"));
        }
    }
    text
}

#[test]
fn every_field_has_an_effect() {
    let found = walk();
    let mut silent = Vec::new();
    let mut used = BTreeSet::new();
    for (message, fields) in &found {
        for (field, found) in fields.values() {
            if found.effects.is_empty() && !found.opened {
                match silent_reason(message, field) {
                    Some(reason) => drop(used.insert(reason)),
                    None => silent.push(format!("{message}.{field}")),
                }
            }
        }
    }
    assert!(
        silent.is_empty(),
        "without effect, without warning:\n{}",
        silent.join("\n")
    );
    let stale: Vec<_> = SILENT
        .iter()
        .filter(|(_, reason)| !used.contains(reason))
        .collect();
    assert!(stale.is_empty(), "excused without need: {stale:?}");

    let text = document(&found);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(DOCUMENT, &text).expect("the document can be written");
    }
    let committed = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        committed == text,
        "SUPPORTED_FIELDS.md is out of date; run this test with {UPDATE}=1"
    );
}
