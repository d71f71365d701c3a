//! What the tests of loading share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use prost::Message;
use prost::Name;
use xds_proto::Pool;
use xds_proto::any::unpack;
use xds_proto::load;
use xds_proto::load::LoadError;
use xds_proto::load::ResourcesFile;
use xds_proto::pb::envoy::config::bootstrap::v3::Bootstrap;

/// A bootstrap that must be right.
pub(crate) fn bootstrap(text: &str) -> Bootstrap {
    let loaded = load::bootstrap(&Pool::new(), Path::new("b.yaml"), text);
    loaded
        .map_err(|errors| summary(&errors))
        .expect("a valid bootstrap")
        .message
}

/// The mistakes of a bootstrap.
pub(crate) fn bootstrap_errors(text: &str) -> Vec<LoadError> {
    load::bootstrap(&Pool::new(), Path::new("b.yaml"), text)
        .err()
        .unwrap_or_default()
}

/// A file of resources.
pub(crate) fn resources(text: &str) -> Result<ResourcesFile, Vec<LoadError>> {
    load::resources(&Pool::new(), Path::new("r.yaml"), text)
}

/// The one resource of a file; its fields come without indentation and begin in line 3, column 3.
pub(crate) fn resource<M: Message + Default + Name>(fields: &str) -> Result<M, Vec<LoadError>> {
    let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
    let file = resources(&format!(
        "resources:\n- \"@type\": {}\n{fields}",
        M::type_url()
    ))?;
    let first = file.resources.into_iter().next().expect("one resource");
    Ok(unpack(&first.any).expect("of its type"))
}

/// One line for each mistake: `line:column path: message (help)`.
pub(crate) fn summary(errors: &[LoadError]) -> Vec<String> {
    let line = |error: &LoadError| {
        let help = error
            .suggestion
            .as_ref()
            .map_or_else(String::new, |help| format!(" ({help})"));
        format!(
            "{}:{} {}: {}{help}",
            error.origin.line, error.origin.column, error.field, error.message
        )
    };
    errors.iter().map(line).collect()
}
